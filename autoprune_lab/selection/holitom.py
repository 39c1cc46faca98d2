"""HoliTom before the decoder: what stands still over a window of frames is merged, of what moves the best stays."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.cluster_merge import density_peaks, distances
from autoprune_lab.selection.groups import in_order, make_all
from autoprune_lab.selection.recovery import Survivors
from autoprune_lab.selection.videos import by_score, members_of, on_host_each, pictures, portions, spare


@dataclass(frozen=True)
class Holitom:
    """Cut a video into windows so that the most is still in them; still places become one token, and then clusters.

    A place is still while the cosine to the next frame is above `tau`. Windows of at most `max_window` frames save the
    most tokens (dynamic programming). Each has the mean of every still place, and of these the density peaks, of
    `nearest` neighbours, each `beta` of itself and the rest the mean of those nearest to it (None: the mean of all);
    and in each frame the best scored of what moves; at one ratio for both. Images are videos of one frame: the best
    scored stay. Tokens without a place come first. Where more is planned than is left after merging, the best scored of
    what was merged stays, too. `in_place`: a merged token takes its place in the window's first frame; otherwise it
    stands before it all, as in the official code, which needs compact positions. ValueError where an earlier cut left
    unlike frames.

    Source: arXiv 2505.21334 (HoliTom), github.com/cokeshao/HoliTom at e9b2972, `llava_arch.py`, D = 0 as published.
    Differs: the plan says how many stay, and the ratio follows, in several pictures of a prompt in proportion to their
    tokens; no noise on the densities, whose distances are in float64. The second stage, within the decoder, is not
    here.
    """

    tau: float = 0.8
    beta: float | None = 0.6
    nearest: int = 7
    max_window: int = 1024
    in_place: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a threshold or a share out of range, or sizes below 1."""
        if not -1 <= self.tau <= 1:
            raise ValueError(f"tau={self.tau} is outside [-1, 1]: it is a cosine")
        if self.beta is not None and not 0 <= self.beta <= 1:
            raise ValueError(f"beta={self.beta} is outside [0, 1]: it is a cluster centre's share, or null")
        if min(self.nearest, self.max_window) < 1:
            raise ValueError(f"nearest={self.nearest}, max_window={self.max_window} must be >= 1")

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
        """Keep or make `kept` + `merged` tokens of each sample."""
        rank, found = by_score(evidence, scores), pictures(evidence, "holitom")
        keep, counts = portions(evidence, rank, found, kept, merged)
        hidden = evidence.hidden.clone()
        line = torch.arange(keep.shape[1], device=keep.device).double().repeat(len(keep), 1)
        still = on_host_each([self._still(hidden[sample, slots]) for sample, slots in found])
        for (sample, slots), stands, count in zip(found, still, counts, strict=True):
            if count == slots.numel():
                keep[sample, slots] = True
            elif count:
                self._reduce(slots, rank[sample, slots], stands, count, hidden[sample], keep[sample], line[sample])
        return Survivors(keep, hidden) if self.in_place else in_order(evidence.index, keep, hidden, line)

    def _still(self, tokens: Float[Tensor, "frames places width"]) -> Bool[Tensor, "steps places"]:
        """Does a place stand still from this frame to the next?"""
        tokens = tokens.float()
        return cosine_similarity(tokens[:-1], tokens[1:], dim=-1) > self.tau

    def _reduce(
        self,
        slots: Int[Tensor, "frames places"],
        rank: Float[Tensor, "frames places"],
        still: Bool[np.ndarray, "steps places"],
        count: int,
        hidden: Float[Tensor, "vision width"],
        keep: Bool[Tensor, "vision"],
        line: Float[Tensor, "vision"],
    ) -> None:
        """Write what one video keeps into its sample's `keep`, and merged tokens into `hidden` and `line`."""
        tokens, spans = hidden[slots].float(), windows(still, self.max_window)
        statics = [still[a:b].all(0) & (b > a) for a, b in spans]
        sizes = [(int(static.sum()), b - a + 1) for static, (a, b) in zip(statics, spans, strict=True)]
        n_static, n_moving = _at_one_ratio(sizes, slots.shape[1], count)
        for (a, b), static, n_groups in zip(spans, statics, n_static, strict=True):
            fixed = upload(torch.from_numpy(static), keep.device)
            moving = rank[a : b + 1].masked_fill(fixed, -1).argsort(dim=1, descending=True, stable=True)
            for f, order in enumerate(moving, a):
                keep[slots[f, order[: n_moving[f]]]] = True
            if n_groups:
                places = upload(torch.from_numpy(np.flatnonzero(static)), keep.device)
                made, centre = self._clusters(tokens[a : b + 1, places].mean(0), n_groups)
                at = slots[a, places[centre]]
                part = torch.arange(1, n_groups + 1, device=at.device).double() / (n_groups + 1)
                line[at] = slots[a].min() - 1 + part
                keep[at], hidden[at] = True, made.to(hidden.dtype)
        if (left := count - sum(n_static) - sum(n_moving)) > 0:
            keep[slots.flatten()[spare(rank, keep[slots], left)]] = True

    def _clusters(
        self, points: Float[Tensor, "n width"], n_groups: int
    ) -> tuple[Float[Tensor, "groups width"], Int[Tensor, "groups"]]:
        """New tokens and their centres, in order of place."""
        distance, every = distances(points[None]), torch.ones(1, len(points), dtype=torch.bool, device=points.device)
        most = min(self.nearest, n_groups)
        near = torch.full((1,), most, device=points.device)
        peaks = density_peaks(distance, every, near, torch.zeros_like(points[None, :, 0]), most)
        centre = peaks[0, :n_groups].sort().values
        members = members_of(distance[0, centre].argmin(0), n_groups)
        members[:, centre] = 0.0  # a centre is in its own group, whatever else lies on it
        others, own = members.sum(1, keepdim=True), points[centre]
        if self.beta is None:
            return (own + members @ points) / (1 + others), centre
        mixed = self.beta * own + (1 - self.beta) * (members @ points) / others.clamp(min=1)
        return torch.where(others > 0, mixed, own), centre


def windows(still: Bool[np.ndarray, "steps places"], longest: int) -> list[tuple[int, int]]:
    """First and last frame of each window: the most places still throughout, each times its window's length - 1.

    A longer window only if it is strictly better. `still[f]`: does a place stand still from frame f to the next?
    """
    n_frames, saved, first = len(still) + 1, [0], [0]
    run = np.zeros(still.shape[1], dtype=int)
    for last in range(1, n_frames):
        run = np.where(still[last - 1], run + 1, 0)  # steps for which a place has stood still
        alike = np.bincount(run, minlength=n_frames)[::-1].cumsum()[::-1].tolist()  # for at least so many
        most, begin = saved[-1], last
        for steps in range(1, min(last + 1, longest)):
            before = saved[last - steps - 1] if steps < last else 0
            if before + alike[steps] * steps > most:
                most, begin = before + alike[steps] * steps, last - steps
        saved.append(most)
        first.append(begin)
    spans, last = [], n_frames - 1
    while last >= 0:
        spans.append((first[last], last))
        last = first[last] - 1
    return spans[::-1]


def _at_one_ratio(sizes: list[tuple[int, int]], n: int, count: int) -> tuple[list[int], list[int]]:
    """How many still tokens of each window and moving ones of each frame stay; at most `count` in all.

    `sizes`: still places and frames of each window. At a ratio r each window has round(r still) and each of its frames
    ceil(r moving): one more each time r passes a bound. The lowest bounds are passed.
    """
    frames = [n - still for still, length in sizes for _ in range(length)]
    bounds = [(k / total, 0, f) for f, total in enumerate(frames) for k in range(total)]
    bounds += [((k + 0.5) / still, 1, w) for w, (still, _) in enumerate(sizes) for k in range(still)]
    n_moving, n_static = [0] * len(frames), [0] * len(sizes)
    for _, static, which in sorted(bounds)[:count]:
        (n_static if static else n_moving)[which] += 1
    return n_static, n_moving
