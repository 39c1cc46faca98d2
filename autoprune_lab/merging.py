"""Recoveries that make a few new tokens of the dropped ones."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence import Evidence
from autoprune_lab.official import candidates, merged_tokens
from autoprune_lab.recovery import Survivors, best
from autoprune_lab.scoring import random

_NOISE = 1e-6  # breaks ties between equal densities


@dataclass(frozen=True)
class ClusterMerge:
    """Cluster the best 30 % of the dropped tokens, one cluster per ten; each becomes the mean of its members.

    Density peaks choose the centres (see `density_peaks`), the others go to the nearest centre. `in_place`: a merged
    token takes its centre's place and position; otherwise merged tokens stand behind all kept ones, the densest
    first, which needs compact positions.

    Source: github.com/AutoLab-SAI-SJTU/AutoPrune at e4a9918 (arXiv 2509.23931); SparseVLM, arXiv 2410.04417.
    Differs: the official code draws its tie-breaking noise anew in each call, here it is a hash of the token's index.
    """

    in_place: bool = True

    def merging(self, dropped: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """How many tokens are made of `dropped` ones."""
        return merged_tokens(dropped)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample and make `merged` of the others."""
        keep = best(evidence, scores, kept)
        if not merged.any():
            return Survivors(keep)
        hidden, index = evidence.hidden.clone(), evidence.index.clone()
        noise = _NOISE * random(evidence)
        for i, n_clusters in enumerate(merged.tolist()):
            if n_clusters:
                pool = _pool(scores[i], evidence.vision_mask[i] & ~keep[i])
                centres, tokens = _clusters(evidence.hidden[i, pool].float(), n_clusters, noise[i, pool])
                slots, moved = pool[centres], keep[i].nonzero().flatten()
                keep[i, slots] = True
                if not self.in_place:
                    tokens = torch.cat([evidence.hidden[i, moved], tokens])
                    labels = torch.cat([index[i, moved], index[i, slots]])
                    slots = keep[i].nonzero().flatten()
                    index[i, slots] = labels
                hidden[i, slots] = tokens.to(hidden.dtype)
        return Survivors(keep, hidden, None if self.in_place else index)


def density_peaks(
    distance: Float[Tensor, "n n"], n_centres: int, noise: Float[Tensor, "n"]
) -> Int[Tensor, "{n_centres}"]:
    """Centres: dense and far from anything denser, the best first.

    Density is exp(-mean of the squared `n_centres` least distances, its own 0 included) + `noise`; the densest point's
    distance is the largest of all.

    Source: A. Rodriguez and A. Laio, Science 344 (2014), with k nearest neighbours.
    """
    density = (-distance.topk(n_centres, largest=False).values.square().mean(1)).exp() + noise
    denser = density > density[:, None]
    apart = torch.where(denser, distance, distance.max()).amin(1)
    return (apart * density).topk(n_centres).indices


def _pool(scores: Float[Tensor, "vision"], dropped: Tensor) -> Int[Tensor, "n"]:
    """The dropped slots that are merged, the best scored first."""
    order = scores.masked_fill(~dropped, -torch.inf).argsort(descending=True, stable=True)
    return order[: int(candidates(dropped.sum().cpu().numpy()))]


def _clusters(
    points: Float[Tensor, "n width"], n_clusters: int, noise: Float[Tensor, "n"]
) -> tuple[Int[Tensor, "clusters"], Float[Tensor, "clusters width"]]:
    """Centres, and the mean of each cluster's members."""
    distance = torch.cdist(points, points) / math.sqrt(points.shape[1])
    centres = density_peaks(distance, n_clusters, noise)
    member_of = distance[centres].argmin(0)
    member_of[centres] = torch.arange(n_clusters, device=points.device)
    sums = torch.zeros(n_clusters, points.shape[1], device=points.device).index_add(0, member_of, points)
    return centres, sums / (member_of.bincount(minlength=n_clusters)[:, None] + 1e-6)
