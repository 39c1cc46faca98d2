"""VidCom2: frames unlike the video get more tokens, and in each frame those unlike frame and video stay."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.selection.videos import frames, members_of, one_by_one

_KERNELS = (0.125, 0.25, 0.5, 1.0, 2.0)


def vidcom2(evidence: Evidence, temperature: float = 0.01) -> Float[Tensor, "batch vision"]:
    """Minus the retention ratio at which VidCom2 begins to keep a token; above 0 for what it always keeps.

    A frame's share of the ratio is 1 + p - mean p, p the softmax over frames of the mean unlikeness to the video, at
    `temperature`; it keeps the tokens of least `likeness`, at least one. A larger ratio takes no token away, so the
    top n are VidCom2's set for every n that it can keep. Every video is scored by itself at one ratio for all; an
    image is a video of one frame; tokens without a place, as row ends, come first of all.

    Source: arXiv 2505.14454 (VidCom2), github.com/xuyang-liu16/VidCom2 at 944a17d, its code rather than its first text.
    Differs: where fewer tokens are planned than there are frames, the frames of largest share have one each; the end of
    a row keeps its place, in the official code those of a frame stand behind its tokens.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be > 0: the softmax over frames divides by it")
    picture, frame = frames(torch.from_numpy(evidence.host_grid), evidence.extents)
    scores = torch.full(picture.shape, 2.0, dtype=torch.double, device=evidence.vision_mask.device)
    for sample, slots in one_by_one(picture):
        which = np.unique(frame[sample, slots].numpy(), return_inverse=True)[1]
        at = upload(slots, scores.device)
        scores[sample, at] = _entry(evidence.hidden[sample, at].float(), which, temperature)
    return scores


def likeness(
    tokens: Float[Tensor, "n hidden"], frame: Int[np.ndarray, "n"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """How like each token of a video is to all of it, and to its frame: sums of five Gaussians of the distance.

    Distances to the mean of the tokens, of unit length, in the half of the channels that vary least.
    """
    n_channels = max(1, tokens.shape[1] // 2)
    unit = normalize(tokens[:, tokens.var(0, correction=0).argsort(stable=True)[:n_channels]], dim=-1)
    own = upload(torch.from_numpy(frame), tokens.device)
    members = members_of(own, int(frame.max()) + 1).to(unit.dtype)
    centre = members @ unit / members.sum(1, keepdim=True)
    return _kernels(unit - unit.mean(0)), _kernels(unit - centre[own])


def shares(of_video: Float[Tensor, "n"], frame: Int[np.ndarray, "n"], temperature: float) -> Float[Tensor, "frames"]:
    """What the retention ratio is multiplied by, frame by frame: above 0, 1 on average."""
    sizes, own = (upload(torch.from_numpy(part), of_video.device) for part in (np.bincount(frame), frame))
    sums = torch.zeros_like(sizes, dtype=of_video.dtype).index_add(0, own, of_video)
    p = (-(sums / sizes) / temperature).softmax(0)
    return 1 + p - p.mean()


def _entry(tokens: Tensor, frame: np.ndarray, temperature: float) -> Float[Tensor, "n"]:
    of_video, of_frame = likeness(tokens, frame)
    sizes, own = (upload(torch.from_numpy(part), tokens.device) for part in (np.bincount(frame), frame))
    order = (of_video + of_frame).argsort(stable=True)
    order = order[own[order].argsort(stable=True)]  # frame by frame, the least like first
    rank = torch.arange(len(own), device=own.device) - (sizes.cumsum(0) - sizes)[own[order]]
    # round(ratio * share * n) passes `rank` at this ratio
    ratio = (rank + 0.5) / (sizes * shares(of_video, frame, temperature).double())[own[order]]
    return torch.empty_like(ratio).scatter(0, order, torch.where(rank == 0, 1 - ratio, -ratio))


def _kernels(apart: Float[Tensor, "n width"]) -> Float[Tensor, "n"]:
    square = apart.square().sum(-1)
    return torch.stack([(-square / (2 * width)).exp() for width in _KERNELS]).sum(0)
