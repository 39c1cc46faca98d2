"""A budget per window: a scorer whose kept tokens are spread evenly over the picture."""

import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Scorer
from autoprune_lab.selection.per_view import rank_within
from autoprune_lab.selection.scorers import last_token_attention


def per_window(
    evidence: Evidence, scorer: Scorer = last_token_attention, window: int = 4
) -> Float[Tensor, "batch vision"]:
    """Minus the place, from 0, at which a token is taken when every window gives the same part of its tokens.

    Windows are squares of `window` rows and columns without overlap, in each picture and frame; smaller ones at a
    border. Within one `scorer` decides, and its r-th best of s tokens ranks at (r + 1/2) / s, at equal ranks the
    higher score first. So where windows are full, no window gives its next token before all others gave as many. Tokens
    without a place (newlines) are a window of their own.

    Source: arXiv 2502.11501 (Window FastV), from descriptions of its algorithm: no code was published.
    Differs: the size of its windows is not known to us, 4 is ours; it keeps a fixed part of each, here `Budget` says
    how many stay, and what is left over after an equal part for all goes to the windows of the highest next scores.
    """
    if window < 1:
        raise ValueError(f"window={window} must be >= 1 rows and columns")
    real, (_, n_t, n_h, n_w) = evidence.vision_mask, evidence.extents
    (picture, t), (row, column) = (
        part.unbind(-1) for part in (evidence.grid[..., :2], evidence.grid[..., 2:].div(window, rounding_mode="floor"))
    )
    place = ((picture * (n_t + 1) + t + 1) * (n_h + 1) + row + 1) * (n_w + 1) + column + 1  # t, h and w may be -1
    place = place.masked_fill(~real, -1)
    scores = scorer(evidence).double().masked_fill(~real, -torch.inf)
    rank = (rank_within(scores, place) + 0.5) / (place[:, None] == place[..., None]).sum(-1)
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    by_rank = by_score.gather(1, rank.masked_fill(~real, torch.inf).gather(1, by_score).argsort(dim=1, stable=True))
    return -by_rank.argsort(dim=1).double()
