"""EVS: what is new in a frame."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.selection.groups import rows_of
from autoprune_lab.selection.scorers import uniform
from autoprune_lab.selection.videos import frames

_FIRST = 255.0  # of the official code: above every dissimilarity


def evs(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """1 - cosine to the token at the same place in the frame before, in [0, 2]; above 255 where there is none.

    So first frames come first, whole, with images and tokens without a place, and of those as many as fit, evenly
    spread; then what changes most, whatever its frame and video. After an earlier cut, the frame before is
    the last one in which the place is left.

    Source: github.com/vllm-project/vllm at 094f117, vllm/multimodal/evs.py (no paper is named there).
    Differs: a planned count may be less than a frame, there a first frame is always whole; the decoder's hidden states
    are compared: before layer 0 they are the projected features, as there.
    """
    picture, frame = frames(evidence.grid, evidence.extents)
    _, n_t, n_h, n_w = evidence.extents
    place = (picture * n_h + evidence.grid[..., 2]) * n_w + evidence.grid[..., 3]
    place = place.masked_fill(picture < 0, -1)
    order = (place * n_t + frame.clamp(min=0)).argsort(dim=1)
    there, tokens = place.gather(1, order), rows_of(evidence.hidden, order).float()
    seen = (there[:, 1:] == there[:, :-1]) & (there[:, 1:] >= 0)
    changed = torch.where(seen, 1 - cosine_similarity(tokens[:, 1:], tokens[:, :-1], dim=-1), _FIRST)
    scores = torch.full(order.shape, _FIRST, dtype=torch.double, device=order.device)
    scores = scores.scatter(1, order[:, 1:], changed.double())
    return torch.where(scores == _FIRST, _FIRST + 1 + uniform(evidence), scores)
