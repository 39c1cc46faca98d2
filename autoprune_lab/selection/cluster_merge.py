"""Cluster merge: a few new tokens made of the best of the dropped ones."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.official_budget import candidates, merged_tokens
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.groups import Groups, means, rows_of
from autoprune_lab.selection.recovery import Survivors, best, on_host
from autoprune_lab.selection.scorers import random

_NOISE = 1e-6  # breaks ties between equal densities
_MEMBERS = 1e-6  # the official code adds it to a cluster's size


@dataclass(frozen=True)
class ClusterMerge:
    """Cluster the best 30 % of the dropped tokens, one cluster per ten; each becomes the mean of its members.

    Density peaks choose the centres (see `density_peaks`), the others go to the nearest centre. `in_place`: a merged
    token takes its centre's place and position; otherwise merged tokens stand behind all kept ones, the densest
    first, which needs compact positions.

    Source: github.com/AutoLab-SAI-SJTU/AutoPrune at e4a9918 (arXiv 2509.23931); SparseVLM, arXiv 2410.04417.
    Differs: the official code draws its tie-breaking noise anew in each call, here it is a hash of the token's index;
    distances are in float64 and means in float32, there in the model's dtype.
    """

    in_place: bool = True

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """The most kept tokens that leave room for those made of the rest; fewer are made where none can be kept."""
        kept, fewer = allowed, np.maximum(allowed - merged_tokens(present - allowed), 0)
        while (fewer < kept).any():  # the sum never grows where fewer are kept: go down until it fits
            kept, fewer = fewer, np.maximum(allowed - merged_tokens(present - fewer), 0)
        return kept, np.minimum(merged_tokens(present - kept), allowed - kept)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample and make `merged` of the others."""
        keep, n_groups = best(evidence, scores, kept), int(on_host(merged).max())
        if not n_groups:
            return Survivors(keep)
        n_pool = np.where(on_host(merged) > 0, candidates(evidence.counts - on_host(kept)), 0)
        pool, real = _pool(scores, evidence.vision_mask & ~keep, n_pool)
        points = rows_of(evidence.hidden, pool).float().masked_fill(~real[..., None], 0.0)
        distance = distances(points)
        noise = _NOISE * random(evidence).gather(1, pool)
        centres = density_peaks(distance, real, merged, noise, n_groups)[:, :n_groups]
        filled = torch.arange(n_groups, device=pool.device) < merged[:, None]
        likeness = -rows_of(distance, centres)
        tokens = means(points, real, likeness, centres, filled, _MEMBERS)
        return Groups(pool.gather(1, centres), filled, tokens).among(evidence, keep, self.in_place)


def density_peaks(
    distance: Float[Tensor, "batch n n"],
    real: Bool[Tensor, "batch n"],
    n_centres: Int[Tensor, "batch"],
    noise: Float[Tensor, "batch n"],
    most: int,
) -> Int[Tensor, "batch n"]:
    """The `real` points in the order in which they make good centres: dense, and far from anything denser.

    Density is exp(-mean of the squared `n_centres` least distances, its own 0 included) + `noise`; the densest point's
    distance is the largest of all. `most`: no sample has more centres, as the host knows.

    Source: A. Rodriguez and A. Laio, Science 344 (2014), with k nearest neighbours.
    """
    both = real[:, :, None] & real[:, None]
    nearest = distance.masked_fill(~both, torch.inf).topk(min(most, distance.shape[-1]), largest=False).values
    counted = torch.arange(nearest.shape[-1], device=distance.device) < n_centres[:, None, None]
    mean_square = torch.where(counted, nearest.square(), 0.0).sum(-1) / n_centres.clamp(min=1)[:, None]
    density = ((-mean_square).exp() + noise).masked_fill(~real, -1.0)
    farthest = distance.masked_fill(~both, 0.0).amax((1, 2))[:, None, None]
    apart = torch.where(density[:, None] > density[..., None], distance, farthest).amin(-1)
    return (apart * density).masked_fill(~real, -torch.inf).argsort(dim=-1, descending=True, stable=True)


def _pool(
    scores: Float[Tensor, "batch vision"], dropped: Bool[Tensor, "batch vision"], sizes: Counts
) -> tuple[Int[Tensor, "batch pool"], Bool[Tensor, "batch pool"]]:
    """The best scored dropped slots, `sizes` of each sample, which are merged, and which of them are real."""
    counts = upload(torch.from_numpy(sizes), scores.device)
    order = scores.masked_fill(~dropped, -torch.inf).argsort(dim=1, descending=True, stable=True)
    pool = order[:, : int(sizes.max())]
    return pool, torch.arange(pool.shape[1], device=scores.device) < counts[:, None]


def distances(points: Float[Tensor, "batch n hidden"]) -> Float[Tensor, "batch n n"]:
    """L2 per square root of the width. In float64, whose matrix products leave equal points together."""
    wide = points.double() / math.sqrt(points.shape[-1])
    return torch.cdist(wide, wide).to(points.dtype)
