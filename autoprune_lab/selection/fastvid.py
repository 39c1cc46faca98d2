"""FastVID: segments of like frames, whose best tokens stay and whose others are merged into a few anchors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.cluster_merge import density_peaks, distances
from autoprune_lab.selection.groups import make_all
from autoprune_lab.selection.recovery import Survivors
from autoprune_lab.selection.videos import by_score, members_of, on_host_each, pictures, portions, spare

_NEIGHBOURS = 4


@dataclass(frozen=True)
class Fastvid:
    """Keep the best scored tokens of every frame, and merge a segment's others into anchors of some of its frames.

    A segment ends where the cosine to the next frame is among the `segments` - 1 least, or below `tau`. Of what a frame
    may keep, `context` goes to anchors, rounded down. They lie in every `stride`-th frame of the segment, back from its
    last, and are the density peaks among what is not kept. Each such frame divides all other tokens of the segment
    among its anchors by cosine (those of the frame alone, where it has just its own share of anchors): an anchor of n
    members, itself included, becomes max(`own`, 1 / (n + 1)) of itself, the rest their mean. The largest share a frame
    that fits is taken; what is left of the plan by rounding goes to the best scored of the rest.
    Images are videos of one frame. Tokens without a place come first. ValueError where an earlier cut left unlike
    frames.

    Source: arXiv 2503.11187 (FastVID), github.com/LunarShen/FastVID at a40a109, the block before the layers.
    Differs: frames are compared by the mean of the vision tower's features, and the score is whatever scorer is chosen:
    there both come from the pooling head of a whole SigLIP, which checkpoints do not have. The plan says how many stay,
    in several pictures of a prompt in proportion to their tokens. No anchors, or more than a frame has tokens left, are
    errors there. No noise on the densities, whose distances are in float64.
    """

    segments: int = 8
    tau: float = 0.9
    context: float = 0.4
    stride: int = 4
    own: float = 0.6

    def __post_init__(self) -> None:
        """Raise ValueError for shares or a threshold out of range, or numbers below 1."""
        for name in ("context", "own"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={value} is outside [0, 1]: it is a share")
        if not -1 <= self.tau <= 1:
            raise ValueError(f"tau={self.tau} is outside [-1, 1]: it is a cosine")
        if min(self.segments, self.stride) < 1:
            raise ValueError(f"segments={self.segments}, stride={self.stride} must be >= 1")

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """Everything that stays is chosen here, unless nothing is dropped."""
        return make_all(allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep or make `kept` + `merged` tokens of each sample, each in its place."""
        rank, found = by_score(evidence, scores), pictures(evidence, "fastvid")
        keep, counts = portions(evidence, rank, found, kept, merged)
        hidden = evidence.hidden.clone()
        tower = evidence.tower_features() if any(len(slots) > 1 for _, slots in found) else hidden
        features = [tower[sample, slots].float().mean(1) for sample, slots in found]
        for (sample, slots), lengths, count in zip(found, self.lengths(features), counts, strict=True):
            if count == slots.numel():
                keep[sample, slots] = True
            elif count:
                self._reduce(slots, rank[sample, slots], lengths, count, hidden[sample], keep[sample])
        return Survivors(keep, hidden)

    def lengths(self, videos: Sequence[Float[Tensor, "_ width"]]) -> list[list[int]]:
        """Frames of each segment of each video; one row a frame. The device is waited for once, if any has several."""
        ends = on_host_each([self._ends(features) for features in videos])
        return [np.diff([-1, *np.flatnonzero(end), len(end)]).tolist() for end in ends]

    def _ends(self, features: Float[Tensor, "frames width"]) -> Bool[Tensor, "steps"]:
        """Does a segment end with this frame, of all but the last?"""
        alike = cosine_similarity(features[:-1], features[1:], dim=-1)
        ends = alike < self.tau
        ends[alike.argsort(stable=True)[: self.segments - 1]] = True
        return ends

    def _reduce(
        self,
        slots: Int[Tensor, "frames places"],
        rank: Float[Tensor, "frames places"],
        lengths: list[int],
        count: int,
        hidden: Float[Tensor, "vision width"],
        keep: Bool[Tensor, "vision"],
    ) -> None:
        """Write what one video keeps into its sample's `keep`, and anchors into `hidden`."""
        n_salient, n_context, n_anchors, n_stay = self._counts(lengths, slots.shape[1], count)
        order = rank.argsort(dim=1, descending=True, stable=True)
        stays = torch.zeros_like(keep[slots]).scatter(1, order[:, :n_salient], True)
        salient, tokens = stays.clone(), hidden[slots].float()
        centres, last = [], -1
        for length, n in zip(lengths, n_anchors, strict=True):
            first, last = last + 1, last + length
            every = slice(first + (length - 1) % self.stride, last + 1, self.stride)
            peaks = self._peaks(tokens[every], ~salient[every], n)
            stays[every] = stays[every].scatter(1, peaks, True)
            centres.append((range(len(slots))[every], peaks))
        more = spare(rank, stays, count - n_stay)
        stays.view(-1)[more] = True
        salient.view(-1)[more] = True
        keep[slots] = stays
        last = -1
        for length, (frames, places) in zip(lengths, centres, strict=True):
            first, last = last + 1, last + length
            for f, at in zip(frames, places, strict=True):
                rows = slice(f, f + 1) if len(at) == n_context else slice(first, last + 1)
                if len(at):
                    order = salient[rows].flatten().byte().argsort(stable=True)  # how many are not, nobody waits for
                    points, real = tokens[rows].flatten(0, 1)[order], ~salient[rows].flatten()[order]
                    hidden[slots[f, at]] = self._anchors(tokens[f, at], points, real).to(hidden.dtype)

    def _counts(self, lengths: list[int], n: int, count: int) -> tuple[int, int, list[int], int]:
        """Salient and context tokens a frame, anchors of each segment's anchor frames: the most within `count`; all."""
        total, parts = np.arange(1, n + 1), -(-np.asarray(lengths) // self.stride)
        context = (total * self.context).astype(np.int64)
        salient = total - context
        anchors = np.minimum(context[:, None] * lengths // parts, (n - salient)[:, None])
        made = sum(lengths) * salient + anchors @ parts
        best = int(np.where(made <= count, made, 0).argmax())
        if not 0 < made[best] <= count:
            return 0, 0, [0] * len(lengths), 0
        return int(salient[best]), int(context[best]), anchors[best].tolist(), int(made[best])

    def _peaks(
        self, tokens: Float[Tensor, "frames places width"], real: Bool[Tensor, "frames places"], n: int
    ) -> Int[Tensor, "frames n"]:
        """The places of the `n` best density peaks among the `real` tokens of each frame."""
        near = real.sum(1).clamp(max=_NEIGHBOURS)
        return density_peaks(distances(tokens), real, near, torch.zeros_like(tokens[..., 0]), _NEIGHBOURS)[:, :n]

    def _anchors(
        self, own: Float[Tensor, "anchors width"], points: Float[Tensor, "n width"], real: Bool[Tensor, "n"]
    ) -> Float[Tensor, "anchors width"]:
        """Anchors mixed with the mean of the `real` points that are most like them."""
        alike = normalize(own, dim=-1) @ normalize(points, dim=-1).mT
        members = members_of(alike.argmax(0), len(own)) * real
        size = members.sum(1, keepdim=True)
        share = (1 / (size + 1)).clamp(min=self.own)
        return torch.where(size > 0, share * own + (1 - share) * (members @ points) / size.clamp(min=1), own)
