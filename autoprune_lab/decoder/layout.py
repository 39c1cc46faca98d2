"""Layout: which token stands where, at the start and after each cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from autoprune_lab.evidence.transfer import upload


@dataclass(frozen=True, eq=False)
class Stage:
    """The tokens that enter a run of layers, in their original order; one row of slots per sample.

    `index` is a slot's position in the full prompt. After a cut samples are aligned at the right, shorter ones
    padded at the left (with dropped tokens, so that no position appears twice). `real` is False at padding, None
    where nothing is padded. Of every position of the full prompt, `others` tells whether anything but a visual token
    stands there, and `ranks` a visual token's index within its sample. `n_valid` and `n_vision` are the real tokens of
    each sample, known on the host. `cut`: tokens have gone. `ahead`: what a plan has told of the stage already.
    `as_before`: padding is nothing but padding of the full prompt, which its masks hide, so that no call hides it
    again. What nobody asks for is not computed.
    """

    index: Int[Tensor, "batch slots"]
    real: Bool[Tensor, "batch slots"] | None
    others: UInt8[Tensor, "batch positions"]
    ranks: Int[Tensor, "batch positions"]
    n_valid: Int[np.ndarray, "batch"]
    n_vision: Int[np.ndarray, "batch"]
    cut: bool = False
    ahead: "Ahead | None" = None
    as_before: bool = False

    @cached_property
    def n_padding(self) -> Int[np.ndarray, "batch"]:
        """Slots of each sample that are padding."""
        return self.index.shape[1] - self.n_valid

    @cached_property
    def ragged(self) -> bool:
        """Is there padding?"""
        return bool(self.n_padding.any())

    @property
    def aligned(self) -> bool:
        """Is the last slot every sample's last token?"""
        return self.cut or not self.ragged

    def without_end(self, n: int) -> "Stage":
        """The stage before its last `n` slots came, all of them real text."""
        if n == 0:
            return self
        index, others, ranks = (part[:, :-n] for part in (self.index, self.others, self.ranks))
        real = None if self.real is None else self.real[:, :-n]
        return Stage(index, real, others, ranks, self.n_valid - n, self.n_vision, self.cut)

    def repeated(self, n: int) -> "Stage":
        """The stage of `n` samples that are all this one."""
        index, others, ranks = (part.expand(n, -1) for part in (self.index, self.others, self.ranks))
        real = None if self.real is None else self.real.expand(n, -1)
        return Stage(index, real, others, ranks, self.n_valid.repeat(n), self.n_vision.repeat(n), self.cut)

    @cached_property
    def valid(self) -> Bool[Tensor, "batch slots"]:
        """False at padding."""
        return torch.ones_like(self.index, dtype=torch.bool) if self.real is None else self.real

    @cached_property
    def renumbered(self) -> Int[Tensor, "batch slots"]:
        """0, 1, 2, ... over each sample's real tokens."""
        known = None if self.ahead is None else self.ahead.renumbered
        return (self.valid.cumsum(1) - 1).clamp(min=0) if known is None else known

    @cached_property
    def n_real(self) -> Int[Tensor, "batch 1"]:
        """`n_valid` on the device."""
        return self.valid.sum(1, keepdim=True)

    @cached_property
    def visual(self) -> Bool[Tensor, "batch slots"]:
        """True at real visual tokens."""
        return self._others == 0

    @cached_property
    def rank(self) -> Int[Tensor, "batch slots"]:
        """A visual token's index within its sample."""
        return self.ranks.gather(1, self.index)

    @cached_property
    def vision(self) -> "Picks":
        """The slots of the visual tokens."""
        return Picks.without(self._others, self.n_vision, None if self.ahead is None else self.ahead.picked)

    def narrow(
        self, keep: Bool[Tensor, "batch vision"], n_vision: Int[np.ndarray, "batch"], ahead: "Ahead | None" = None
    ) -> tuple["Stage", Int[Tensor, "batch slots"]]:
        """The stage of all text and of the visual tokens in `keep`; and the slots (batch, new slots) to gather."""
        n_valid = self.n_valid - self.n_vision + n_vision
        # padded picks are among the others, and change nothing there
        stays = self._others.scatter_reduce(1, self.vision.slots, as_bytes(keep), "amax")
        if not self.aligned:
            stays += stays & as_bytes(self.valid)  # 0: it goes, 1: padding, 2: it stays
        order = stays.argsort(dim=1, stable=True)  # those that stay last, padding before them, each in its order
        width = int(n_valid.max())
        slots = order[:, order.shape[1] - width :]
        as_before = self.as_before and bool((width - n_valid <= self.n_padding).all())
        if ahead is None:
            ahead = foreseen(n_valid - n_vision, n_vision[None], slots.device)[0]
        index = self.index.gather(1, slots)
        stage = Stage(
            index, ahead.real, self.others, self.ranks, n_valid, n_vision, cut=True, ahead=ahead, as_before=as_before
        )
        return stage, slots

    def relabelled(self, rank: Int[Tensor, "batch vision"]) -> "Stage":
        """The stage whose visual slots hold other tokens than before."""
        slots = self.vision.slots
        ranks = self.ranks.scatter(1, self.index.gather(1, slots), self.vision.or_else(rank, self.rank))
        return replace(self, ranks=ranks)

    def slots_of(self, later: "Stage") -> Int[Tensor, "batch later"]:
        """Where the tokens of a later stage stand in this one."""
        places = torch.arange(self.index.shape[1], device=self.index.device).expand_as(self.index)
        return torch.zeros_like(self.ranks).scatter(1, self.index, places).gather(1, later.index)

    def hiding_but(self, later: "Stage") -> "Stage":
        """These slots, of which those alone are real that a later stage still has."""
        there = as_bytes(torch.zeros_like(self.ranks, dtype=torch.bool)).scatter(1, later.index, as_bytes(later.valid))
        real = there.gather(1, self.index).bool()
        return Stage(self.index, real, self.others, self.ranks, later.n_valid, later.n_vision, cut=True)

    @cached_property
    def _others(self) -> UInt8[Tensor, "batch slots"]:
        others = self.others.gather(1, self.index)
        return torch.where(self.valid, others, 1) if self.ragged and not self.as_before else others


@dataclass(frozen=True, eq=False)
class Ahead:
    """What counts alone tell of a stage after a cut, on the device: None where no sample is padded.

    `real` tells its tokens from padding, `picked` its visual ones; `renumbered` counts each sample's tokens from 0.
    """

    real: Bool[Tensor, "batch slots"] | None = None
    picked: Bool[Tensor, "batch vision"] | None = None
    renumbered: Int[Tensor, "batch slots"] | None = None


def foreseen(
    n_others: Int[np.ndarray, "batch"], n_vision: Int[np.ndarray, "stages batch"], device: torch.device
) -> list[Ahead]:
    """Stages of so many text and visual tokens, all told in two copies that the host does not wait for."""
    n_valid = n_vision + n_others
    gone = n_valid.max(1, keepdims=True) - n_valid
    ragged = [np.arange(one.max()) - left[:, None] for one, left in zip(n_valid, gone, strict=True) if left.any()]
    padded = [np.arange(one.max()) < one[:, None] for one in n_vision if (one < one.max()).any()]
    flags = iter(side_by_side([*(places >= 0 for places in ragged), *padded], device))
    reals = [next(flags) if left.any() else None for left in gone]
    picked = [next(flags) if (one < one.max()).any() else None for one in n_vision]
    places = iter(side_by_side([one.clip(0) for one in ragged], device))
    renumbered = [None if real is None else next(places) for real in reals]
    return [Ahead(*parts) for parts in zip(reals, picked, renumbered, strict=True)]


def side_by_side(tables: Sequence[np.ndarray], device: torch.device) -> Sequence[Tensor]:
    """The tables, (batch, n) each, sent to the device together."""
    if not tables:
        return ()
    joined = upload(torch.from_numpy(np.concatenate(tables, axis=1)), device)
    return torch.split(joined, [table.shape[1] for table in tables], dim=1)


@dataclass(frozen=True, eq=False)
class Prompt:
    """A batch of prompts: its first stage, and what of it pruning goes by.

    The next token is read off a prompt's `last` token, so that one is text to pruning, even where it stands for a
    picture, and so is whatever follows it in the same call (an answer, candidates). `rows`: text after the sample's
    first visual token, up to `last`. `pictured`: all tokens that stand for a picture. Counts are known on the host;
    `n_text` ends at `last`, `n_late` tokens of pictures follow it.
    """

    stage: Stage
    rows: Bool[Tensor, "batch positions"]
    last: Bool[Tensor, "batch positions"]
    pictured: Bool[Tensor, "batch positions"]
    n_rows: Int[np.ndarray, "batch"]
    n_text: Int[np.ndarray, "batch"]
    n_pictured: Int[np.ndarray, "batch"]
    n_late: Int[np.ndarray, "batch"]

    @classmethod
    def read(
        cls,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        visual_ids: Sequence[int],
        extent: Bool[Tensor, "batch positions"] | None = None,
        marks: Tensor | None = None,
    ) -> "Prompt":
        """Find visual and padding tokens; what `extent` leaves out follows the prompts. One host synchronisation.

        `marks`: see `stands_for_picture`.
        """
        valid = real_tokens(input_ids, attention_mask)
        within = valid if extent is None else valid & extent
        last = within & (within.flip(1).cumsum(1).flip(1) == 1)
        pictured = stands_for_picture(input_ids, visual_ids, marks) & valid
        visual = pictured & within & ~last
        text, late = within & ~visual, pictured & ~within
        seen = visual.cumsum(1)
        rows = text & (seen > 0)
        masks = valid, visual, rows, text, pictured, late
        n_valid, n_vision, n_rows, n_text, n_pictured, n_late = torch.stack([m.sum(1) for m in masks]).cpu().numpy()
        index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        stage = Stage(index, valid, as_bytes(~visual), seen - 1, n_valid, n_vision, as_before=True)
        return cls(stage, rows, last, pictured, n_rows, n_text, n_pictured, n_late)

    @property
    def goes_on(self) -> bool:
        """Do other tokens follow a prompt in the same call?"""
        return bool((self.stage.n_valid > self.stage.n_vision + self.n_text).any())

    @property
    def ends_in_picture(self) -> Bool[np.ndarray, "batch"]:
        """Does a prompt's last token stand for a picture?"""
        return np.asarray(self.n_pictured - self.n_late > self.stage.n_vision)

    def spread(self, hidden: Tensor, stage: Stage) -> Tensor:
        """What leaves the decoder, (batch, slots, hidden) of `stage`, at the prompts' own places; zeros elsewhere."""
        if stage is self.stage:
            return hidden
        full = hidden.new_zeros(*self.rows.shape, hidden.shape[-1])
        index = stage.index[..., None].expand_as(hidden)
        return full.scatter(1, index, hidden.masked_fill(~stage.valid[..., None], 0.0))

    def present(self, stage: Stage) -> Bool[Tensor, "batch positions"]:
        """Which positions are still there in `stage`: all of them, padding too, before anything is cut."""
        if stage is self.stage:
            return torch.ones_like(self.rows)
        return torch.zeros_like(self.rows).scatter(1, stage.index, stage.valid)


def stands_for_picture(
    input_ids: Tensor, visual_ids: Sequence[int], marks: Tensor | None = None
) -> Bool[Tensor, "batch positions"]:
    """True at the tokens of images and videos.

    Without ids the `marks` tell, (batch, positions) or None for no picture: 1 there. Kosmos-2.5 marks what stands
    around a picture with -1.
    """
    if not visual_ids:
        return torch.zeros_like(input_ids, dtype=torch.bool) if marks is None else marks == 1
    found = input_ids == visual_ids[0]
    for token in visual_ids[1:]:
        found |= input_ids == token
    return found


def real_tokens(input_ids: Tensor, attention_mask: Tensor | None) -> Bool[Tensor, "batch positions"]:
    """False at padding."""
    return torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()


@dataclass(frozen=True, eq=False)
class Pruned:
    """What a pruned cache carries: the prompt as it came, the stage of each layer, and how positions run.

    `tables`: rotary embeddings of as many positions as were needed so far, see `Decode`.
    """

    prompt: Stage
    stages: list[Stage]
    positions: str
    tables: dict[str | None, Tensor] = field(default_factory=dict)

    @cached_property
    def cuts(self) -> list[Stage]:
        """The stages of the layers that fewer tokens than the prompt's entered."""
        return [stage for stage in dict.fromkeys(self.stages) if stage.cut]

    @cached_property
    def ends(self) -> Int[Tensor, "cuts batch 1"]:
        """Where the prompt ends, renumbered, in the layers of each of the `cuts`."""
        return torch.stack([stage.n_real for stage in self.cuts]) - 1

    @property
    def batch(self) -> int:
        """Samples."""
        return len(self.prompt.index)

    @property
    def width(self) -> int:
        """Slots of the prompt before pruning."""
        return self.prompt.index.shape[1]

    def is_cut(self, layer: int) -> bool:
        """Did fewer tokens than the prompt's enter this layer?"""
        return self.stages[layer].cut

    def without_end(self, n: int) -> "Pruned":
        """The same before its last `n` positions came, all of them real text."""
        return self._each(lambda stage: stage.without_end(n))

    def ends_in_text(self, n: int) -> bool:
        """Are the last `n` positions of every sample real text?"""
        return bool((self.prompt.valid & self.prompt.others.bool())[:, -n:].all())

    def repeated(self, n: int) -> "Pruned":
        """The same of a batch of `n` that all go on from this one prompt."""
        return self if n == 1 else self._each(lambda stage: stage.repeated(n))

    def _each(self, change: Callable[[Stage], Stage]) -> "Pruned":
        changed = {stage: change(stage) for stage in dict.fromkeys([self.prompt, *self.stages])}
        return Pruned(changed[self.prompt], [changed[stage] for stage in self.stages], self.positions, self.tables)


@dataclass(frozen=True, eq=False)
class Picks:
    """Slots of each sample that are not among `others`, padded at the right with such: `slots` (batch, width)."""

    slots: Int[Tensor, "batch width"]
    others: UInt8[Tensor, "batch slots"]
    padded: bool
    known: Bool[Tensor, "batch width"] | None = None

    @classmethod
    def without(
        cls,
        others: UInt8[Tensor, "batch slots"],
        counts: Int[np.ndarray, "batch"],
        known: Bool[Tensor, "batch width"] | None = None,
    ) -> "Picks":
        """The slots where `others` is 0, in their order; `counts` are their numbers, known on the host.

        `known` is `real` where that is known already.
        """
        width = int(counts.max())
        return cls(others.argsort(dim=1, stable=True)[:, :width], others, bool((counts < width).any()), known)

    @cached_property
    def real(self) -> Bool[Tensor, "batch width"]:
        """False at padding."""
        if self.known is not None:
            return self.known
        return self.others.gather(1, self.slots) == 0 if self.padded else self.slots >= 0

    def or_else(self, values: Tensor, others: Tensor) -> Tensor:
        """`values` (batch, width) at picked slots, `others` (batch, slots) at padding."""
        return torch.where(self.real, values, others.gather(1, self.slots)) if self.padded else values


def as_bytes(flags: Bool[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """What every device can sort; nothing is copied."""
    return flags.view(torch.uint8)


def take(values: Tensor, index: Tensor, dim: int) -> Tensor:
    """`torch.take_along_dim` for indices >= 0: that one first writes out the broadcast index, to wrap negative ones."""
    shapes = ((*part.shape[:dim], 1, *part.shape[dim + 1 :]) for part in (values, index))
    wide = list(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
    wide[dim] = -1
    return values.expand(wide).gather(dim, index.expand(wide))
