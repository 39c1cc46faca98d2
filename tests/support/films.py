"""Evidence of prompts made of images and videos: their tokens are given, their places follow."""

from collections.abc import Sequence

import torch
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.plugins.plain_evidence import copied, evidence_of


def filmed(*samples: Sequence[Tensor], **told: Sequence[Tensor]) -> Evidence:
    """Each sample's pictures, (frames, n, width) each, an image as one frame; (n, width): tokens without a place.

    `told`, such as tower_ or cls_: what the source holds of each sample, one row or number a token. Padding is NaN in
    hidden states. The places of a frame are a square where n is one, else a row.
    """
    counts = [sum(part[..., 0].numel() for part in sample) for sample in samples]
    made = evidence_of(torch.full((len(samples), 1, 2, max(counts)), 0.1), counts)
    hidden = torch.full((*made.index.shape, samples[0][0].shape[-1]), torch.nan)
    grid = torch.full((*made.index.shape, 4), -1)
    for i, (sample, count) in enumerate(zip(samples, counts, strict=True)):
        hidden[i, :count] = torch.cat([part.reshape(-1, part.shape[-1]) for part in sample])
        grid[i, :count] = _places(sample)
    held = {name: torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True) for name, values in told.items()}
    return copied(made, hidden_=hidden, grid_=grid, **held)


def _places(sample: Sequence[Tensor]) -> Tensor:
    number, rows = -1, []
    for part in sample:
        if part.ndim == 2:
            rows.append(torch.tensor([number, -1, -1, -1]).expand(len(part), 4))
            continue
        number, (n_frames, n) = number + 1, part.shape[:2]
        width = int(n**0.5) if int(n**0.5) ** 2 == n else n
        axes = (torch.tensor([number]), torch.arange(n_frames), torch.arange(n // width), torch.arange(width))
        rows.append(torch.cartesian_prod(*axes))
    return torch.cat(rows)


def video(seed: int, n_frames: int, n: int, width: int, step: float = 0.6) -> Tensor:
    """Frames that drift apart, places at unlike speeds."""
    draw = torch.Generator().manual_seed(seed)
    first, speed = torch.randn(n, width, generator=draw), torch.rand(n, 1, generator=draw)
    moves = step * speed * torch.randn(n_frames, n, width, generator=draw)
    return first + moves.cumsum(0) - moves[:1]


def kept_by(scores: Tensor, count: int) -> list[int]:
    """The `count` best of one sample, ties to the lower slot."""
    return sorted(scores.argsort(descending=True, stable=True)[:count].tolist())
