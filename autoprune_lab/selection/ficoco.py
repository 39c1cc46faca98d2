"""FiCoCo-L: tokens that attend most to other visual tokens go, each into the few that it is bound to."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import make_all
from autoprune_lab.selection.recovery import Survivors, best, on_host


def ficoco_score(evidence: Evidence, visual: float = 0.6) -> Float[Tensor, "batch vision"]:
    """Minus the redundancy: `visual` times the attention a token pays visual ones, less (1 - visual) times to text.

    Attention is the mean over heads of the token's own row: its sum over visual tokens, its mean over text rows. Where
    all text stands behind the picture, a causal decoder's tokens pay it none.

    Source: arXiv 2411.17686 (FiCoCo-L), github.com/kawhiiiileo/FiCoCo at 8995e93.
    Differs: text before the first picture is no text row here; its attention is in neither sum.
    """
    if not 0 <= visual <= 1:
        raise ValueError(f"visual={visual} is outside [0, 1]: it weighs visual tokens against text")
    n = evidence.vision_mask.shape[1]
    to_vision, to_text = evidence.visual_rows[..., :n].sum(2), evidence.visual_rows[..., n:].sum(2)
    return (1 - visual) * to_text / evidence.text_mask.sum(1, keepdim=True).clamp(min=1) - visual * to_vision


@dataclass(frozen=True)
class FicocoL:
    """Each dropped token is added to the few tokens that it is bound to most, in parts that sum to one.

    The bond of i to j is `direct` times i's attention to j, plus (1 - direct) times that over the text: the sum over
    text rows t of i's attention to t times t's to j. There are as many targets as bonds above the `quantile` of a
    row, at least one: 2 of 576 tokens. The parts are the softmax over their bonds. What falls to a token that is
    dropped itself is lost. Sums are not divided. Tokens that stay keep their places; where none stays, none is made.

    Source: arXiv 2411.17686 (FiCoCo-L), github.com/kawhiiiileo/FiCoCo at 8995e93.
    Differs: there a fixed number goes in each layer, here the plan says how many; equal bonds at the quantile do not
    make fewer targets; text before the first picture is no text row here.
    """

    direct: float = 0.6
    quantile: float = 0.998

    def __post_init__(self) -> None:
        """Raise ValueError for numbers outside [0, 1]."""
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is outside [0, 1]: it is a part of the bonds")

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """Every token that stays may be changed, unless nothing is dropped."""
        return make_all(allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `merged` best scored tokens of each sample, with what the others add to them."""
        stay = best(evidence, scores, kept + merged)
        if not on_host(merged).any():
            return Survivors(stay)
        real, n = evidence.vision_mask, evidence.vision_mask.shape[1]
        itself = torch.eye(n, dtype=torch.bool, device=real.device)
        bonds = self._bonds(evidence).masked_fill(itself | ~real[:, None], -torch.inf)
        links = self._n_links(evidence.counts)
        n_links = upload(torch.from_numpy(links), real.device)
        values, targets = bonds.topk(int(links.max()), dim=2)
        values[..., 1:] = values[..., 1:].masked_fill(
            torch.arange(1, values.shape[2], device=n_links.device) >= n_links[:, None, None], -torch.inf
        )
        gives = (real & ~stay & (merged > 0)[:, None])[..., None] & (values > -torch.inf)
        parts = torch.where(gives, values.softmax(2), 0.0)
        given = torch.zeros_like(bonds).scatter(2, targets, parts)
        points = visual(evidence)
        return Survivors(stay, (points + given.mT @ points).to(evidence.hidden.dtype))

    def _bonds(self, evidence: Evidence) -> Float[Tensor, "batch vision vision"]:
        n = evidence.vision_mask.shape[1]
        from_text = torch.cat([part.mean(1) for part, _ in evidence.row_chunks()], dim=1)
        over_text = evidence.visual_rows[..., n:] @ from_text
        return self.direct * evidence.visual_rows[..., :n] + (1 - self.direct) * over_text

    def _n_links(self, n: Counts) -> Counts:
        """Of n unlike numbers those above the quantile: its place is found in float32, as torch.quantile does."""
        place = (n - 1).astype(np.float32) * np.float32(self.quantile)
        links: Counts = (n - 1 - place.astype(n.dtype)).clip(1)
        return links
