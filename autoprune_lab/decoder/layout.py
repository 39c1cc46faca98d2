"""Layout: which token stands where, at the start and after each cut."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Stage:
    """The tokens that enter a run of layers, in their original order; one row of slots per sample.

    `index` is a slot's position in the full prompt, `valid` is False at padding. After a cut samples are
    aligned at the right, shorter ones padded at the left (with dropped tokens, so that no position appears
    twice). `rank` is a visual token's index within its sample. `n_valid` and `n_vision` are the real tokens of
    each sample, known on the host.
    """

    index: Int[Tensor, "batch slots"]
    valid: Bool[Tensor, "batch slots"]
    visual: Bool[Tensor, "batch slots"]
    rank: Int[Tensor, "batch slots"]
    n_valid: Int[np.ndarray, "batch"]
    n_vision: Int[np.ndarray, "batch"]

    @property
    def ragged(self) -> bool:
        """Is there padding?"""
        return bool((self.n_valid < self.index.shape[1]).any())

    def narrow(self, keep: Bool[Tensor, "batch slots"], n_vision: Int[np.ndarray, "batch"]) -> tuple["Stage", Tensor]:
        """The stage of the tokens in `keep`, padding left out; and the slots (batch, new slots) to gather."""
        n_valid = self.n_valid - self.n_vision + n_vision
        order = keep.byte().argsort(dim=1, stable=True)  # kept slots last, each group in its order
        slots = order[:, keep.shape[1] - int(n_valid.max()) :]
        index, rank = self.index.gather(1, slots), self.rank.gather(1, slots)
        valid = keep.gather(1, slots)
        visual = self.visual.gather(1, slots) & valid
        return Stage(index, valid, visual, rank, n_valid, n_vision), slots

    def without_end(self, n: int) -> "Stage":
        """The stage before its last `n` slots came, all of them real text."""
        if n == 0:
            return self
        index, valid, visual, rank = (part[:, :-n] for part in (self.index, self.valid, self.visual, self.rank))
        return Stage(index, valid, visual, rank, self.n_valid - n, self.n_vision)

    def relabelled(self, rank: Int[Tensor, "batch vision"], picks: "Picks") -> "Stage":
        """The stage whose visual slots hold other tokens than before."""
        rank = torch.where(picks.real, rank, self.rank.gather(1, picks.slots))
        return replace(self, rank=self.rank.scatter(1, picks.slots, rank))


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
        image_token_id: int,
        extent: Bool[Tensor, "batch positions"] | None = None,
    ) -> "Prompt":
        """Find visual and padding tokens; what `extent` leaves out follows the prompts. One host synchronisation."""
        valid = real_tokens(input_ids, attention_mask)
        within = valid if extent is None else valid & extent
        last = within & (within.flip(1).cumsum(1).flip(1) == 1)
        pictured = (input_ids == image_token_id) & valid
        visual = pictured & within & ~last
        text, late = within & ~visual, pictured & ~within
        seen = visual.cumsum(1)
        rows = text & (seen > 0)
        masks = valid, visual, rows, text, pictured, late
        n_valid, n_vision, n_rows, n_text, n_pictured, n_late = torch.stack([m.sum(1) for m in masks]).cpu().numpy()
        index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        stage = Stage(index, valid, visual, seen - 1, n_valid, n_vision)
        return cls(stage, rows, last, pictured, n_rows, n_text, n_pictured, n_late)

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


def real_tokens(input_ids: Tensor, attention_mask: Tensor | None) -> Bool[Tensor, "batch positions"]:
    """False at padding."""
    return torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()


@dataclass(frozen=True, eq=False)
class Pruned:
    """What a pruned cache carries: the prompt as it came, the stage of each layer, and how positions run."""

    prompt: Stage
    stages: list[Stage]
    positions: str

    @property
    def width(self) -> int:
        """Slots of the prompt before pruning."""
        return self.prompt.index.shape[1]

    def is_cut(self, layer: int) -> bool:
        """Did fewer tokens than the prompt's enter this layer?"""
        return self.stages[layer] is not self.prompt

    def without_end(self, n: int) -> "Pruned":
        """The same before its last `n` positions came, all of them real text."""
        short = {stage: stage.without_end(n) for stage in dict.fromkeys([self.prompt, *self.stages])}
        return Pruned(short[self.prompt], [short[stage] for stage in self.stages], self.positions)


@dataclass(frozen=True, eq=False)
class Picks:
    """Chosen slots of each sample, padded at the right: `slots` (batch, width), `real` False at padding."""

    slots: Int[Tensor, "batch width"]
    real: Bool[Tensor, "batch width"]

    @classmethod
    def of(cls, chosen: Bool[Tensor, "batch slots"], counts: Int[np.ndarray, "batch"]) -> "Picks":
        """The True slots in their order; `counts` are their numbers, known on the host."""
        order = (~chosen).byte().argsort(dim=1, stable=True)
        slots = order[:, : int(counts.max())]
        return cls(slots, chosen.gather(1, slots))


def widen(stage: Stage, keep_visual: Tensor, picks: Picks) -> Bool[Tensor, "batch slots"]:
    """Slots that stay: all real text, and the visual tokens that `keep_visual` (batch, width) says yes to."""
    stays = stage.valid & ~stage.visual
    return stays.scatter(1, picks.slots, torch.where(picks.real, keep_visual, stays.gather(1, picks.slots)))


def take(values: Tensor, index: Tensor, dim: int) -> Tensor:
    """`torch.take_along_dim` for indices >= 0: that one first writes out the broadcast index, to wrap negative ones."""
    wide = list(torch.broadcast_shapes(*((*part.shape[:dim], 1, *part.shape[dim + 1 :]) for part in (values, index))))
    wide[dim] = -1
    return values.expand(wide).gather(dim, index.expand(wide))
