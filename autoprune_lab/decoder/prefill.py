"""One prefill: plans, then cuts visual tokens at the entrance of the layers where the planned count falls."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.cache import cache_of, shorten
from autoprune_lab.decoder.checks import Checks, Cut, check_survivors, fit, refuse_nan
from autoprune_lab.decoder.contract import PrunerLike
from autoprune_lab.decoder.episodes import Episodes
from autoprune_lab.decoder.layout import Ahead, Prompt, Stage, foreseen, side_by_side
from autoprune_lab.decoder.sight import Sight
from autoprune_lab.decoder.source import Attended, DecoderSource, Entered, LiveEvidence, no_attention
from autoprune_lab.decoder.static import filled, room_in, size, widened
from autoprune_lab.decoder.streams import parted
from autoprune_lab.decoder.tap import Tapped, arm
from autoprune_lab.decoder.view import View
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.flops import scoring_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.plan import Plan
from autoprune_lab.selection.greedy import first_picks
from autoprune_lab.selection.recovery import drop, planned

Count = Int[np.ndarray, "batch"]


class Prefill:
    """State of one forward call over full prompts; `stages` grows by one entry a layer.

    `marked`: text tokens of each sample that the decoder is told to be visual, see `marks.text_marked`.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        pruner: PrunerLike,
        prompt: Prompt,
        marked: Count,
        sight: Sight,
        episodes: Episodes | None = None,
    ) -> None:
        self.anatomy, self.pruner, self.prompt, self.sight = anatomy, pruner, prompt, sight
        self.episodes = episodes
        self.stage, self.stages = prompt.stage, list[Stage]()
        self.samples = torch.arange(len(prompt.rows), device=prompt.rows.device)[:, None]
        self.view = View(anatomy, pruner.positions, self.samples)
        self.checks = Checks()
        self.cache: Any = None
        self.room: int | None = None  # in a static cache, behind the prompt
        self.plan: Plan | None = None
        self.uploaded: dict[int, tuple[Tensor, Tensor]] = {}  # the plan on the device, by layer that it cuts at
        self.ahead: dict[int, Ahead] = {}  # the stages that these begin
        self.n_cuts = np.zeros(len(prompt.rows), dtype=np.int64)  # of each sample, by the plan
        self.opening = pruner.opens(self.stage.n_vision)
        self.tapped: Attended | None = None
        self.looks = self._is_looked_at(-1)
        self.geometries = _geometries(anatomy, prompt, marked)
        self.complexities = np.zeros(len(self.geometries))  # 0 bits without an image, or if nobody asks
        self.scoring_flops = np.zeros(len(self.geometries), dtype=np.int64)
        self.attention_from = dict[int, int]()  # whose attention was read where evidence of a layer was asked

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets instead of `hidden` (batch, slots, hidden) and `kwargs`."""
        self.cache = cache_of(kwargs)
        if layer == 0:
            self.room = room_in(self.cache, hidden.shape[1])
        if self.looks:
            hidden = self._look(layer, hidden)
        self.stages.append(self.stage)
        shorten(self.cache, layer, self.prompt.rows.shape[1] - self.stage.index.shape[1])
        self.looks = self._is_looked_at(layer)
        attention, is_read = self.anatomy.attention(layer), self._is_read(layer)
        if attention is not None or not is_read:
            self.tapped = None
        kwargs = self.view.narrow(layer, kwargs, hidden, self.stage)
        if self.room is not None:
            size(self.cache, layer, hidden.shape[1], self.room)
            kwargs = widened(self.cache, layer, kwargs)
        if attention is not None and is_read:
            entered = Entered(self.anatomy.layers[layer], attention, parted(hidden, self.anatomy.streams), kwargs)
            arm(attention, functools.partial(self._record, layer, self.stage, entered))
        return hidden, kwargs

    def restore(self, hidden: Tensor) -> Tensor:
        """The decoder's output at full length: zeros where tokens were dropped."""
        return self.prompt.spread(hidden, self.stage)

    def settle(self) -> Int[np.ndarray, "batch layers"]:
        """Visual tokens that entered each layer, once it is certain that they did; at most one synchronisation.

        Raises ValueError for scores that hold NaN, and for a recovery that kept another count than planned.
        """
        self.checks.settle(self.pruner.recovery)
        return np.stack([stage.n_vision for stage in self.stages], axis=1)

    def _record(self, layer: int, stage: Stage, entered: Entered, tapped: Tapped) -> None:
        if self.room is not None:
            tapped = filled(tapped, stage.index.shape[1])
        self.tapped = Attended(layer, stage, entered, tapped)
        if self.episodes is not None and layer == self.episodes.layer:
            self.episodes.begin(self._source(stage, self.tapped, entered.hidden))

    def _look(self, layer: int, hidden: Tensor) -> Tensor:
        """Plan and cut with the evidence of the layer before, its attention that of the nearest one that has some."""
        below = self.anatomy.attention_below(layer - 1)
        if self.tapped is None and below is not None:
            raise ValueError(
                f"{type(self.anatomy.model).__name__} is not supported: the attention of layer {below} "
                "does not go through transformers' attention interface"
            )
        absent = no_attention(layer - 1, self.anatomy.attentive[0])
        source = self._source(self.stage, self.tapped or absent, hidden)
        evidence = LiveEvidence(layer - 1, source, n_layers=len(self.anatomy.layers), n_cuts=self.n_cuts)
        if self.plan is None and layer == self.pruner.probe_layer + 1:
            self._plan(evidence, source)
        return self._cut(layer, hidden, evidence, source) if self._cuts(layer) else hidden

    def _source(self, stage: Stage, attended: Attended | str, hidden: Tensor) -> DecoderSource:
        return DecoderSource(self.prompt, stage, attended, hidden, self.sight, self.anatomy.normed, self._history)

    @functools.cached_property
    def _history(self) -> Tensor | None:
        return None if self.episodes is None else self.episodes.earlier(self.prompt)

    def _is_read(self, layer: int) -> bool:
        """May the attention at or below `layer` be read from here on, before the next layer with attention?"""
        if self.episodes is not None and layer == self.episodes.layer:
            return True
        return any(map(self._is_looked_at, range(layer, self.anatomy.attention_above(layer))))

    def _is_looked_at(self, layer: int) -> bool:
        """Will the next layer look at this one? -1: at what enters the decoder."""
        if layer + 1 == len(self.anatomy.layers):
            return False
        looks = self._cuts(layer + 1) or (self.plan is None and layer == self.pruner.probe_layer)
        return looks and bool(self.stage.n_vision.any())

    def _cuts(self, layer: int) -> bool:
        """Do tokens go at the entrance of `layer`, by the plan or by an opening before it?"""
        if self.plan is not None:
            return layer in self.uploaded
        opens = self.opening is not None and self.opening.layer == layer
        return opens and must_cut(self._wanted(layer)[0] < self.stage.n_vision)

    def _wanted(self, layer: int) -> tuple[Count, Count]:
        """Tokens to keep, and tokens to make of the rest."""
        if self.plan is not None:
            return self.plan.kept[:, layer], self.plan.merged[:, layer]
        assert self.opening is not None  # nothing else cuts without a plan
        return self.opening.tokens, np.zeros_like(self.stage.n_vision)

    def _uploaded(self, layer: int) -> tuple[Tensor, Tensor]:
        """The same on the device."""
        if self.plan is not None:
            return self.uploaded[layer]
        return _upload([self._wanted(layer)], [self.stage.n_vision], self.samples.device)[0]

    def _plan(self, evidence: Evidence, source: DecoderSource) -> None:
        if self.pruner.policy.adaptive:
            sighted = self.stage.n_vision > 0
            given = fit(self.pruner.complexity(evidence), "complexity", self.pruner.complexity, sighted.shape)
            bits = given.detach().double().cpu().numpy()
            self.complexities = np.where(sighted, bits, 0.0)
            refuse_nan(bool(np.isnan(self.complexities).any()), "complexity", self.pruner.complexity, evidence.layer)
            self._charge(source, evidence.layer, sighted)
        self.plan = self.pruner.plan(self.complexities, self.geometries)
        self._foresee()

    def _foresee(self) -> None:
        """Send over what the plan says of all cuts to come."""
        before, cuts = [self.stage.n_vision], list[int]()
        for layer in range(len(self.stages), len(self.anatomy.layers)):
            kept, merged = self._wanted(layer)
            if must_cut(kept < before[-1]):
                cuts.append(layer)
                before.append(kept + merged)
        if cuts:
            device, n_others = self.samples.device, self.stage.n_valid - self.stage.n_vision
            wanted = [self._wanted(layer) for layer in cuts]
            self.uploaded = dict(zip(cuts, _upload(wanted, before[:-1], device), strict=True))
            self.ahead = dict(zip(cuts, foreseen(n_others, np.stack(before[1:]), device), strict=True))

    def _cut(self, layer: int, hidden: Tensor, evidence: Evidence, source: DecoderSource) -> Tensor:
        kept, merged = self._wanted(layer)
        opening_scorer = self.pruner.opening_scorer if self.plan is None else None
        scorer = self.pruner.scorer if opening_scorer is None else opening_scorer
        shape = source.vision.slots.shape
        alone = getattr(self.pruner.recovery, "func", self.pruner.recovery) is drop  # nobody reads lower scores
        given = first_picks(scorer, evidence, int(kept.max())) if alone else scorer(evidence)
        scores = fit(given, "scores", scorer, shape, floating=True)
        self._charge(source, evidence.layer, kept < self.stage.n_vision)
        survivors = self.pruner.recovery(evidence, scores, *self._uploaded(layer))
        check_survivors(survivors, self.pruner.recovery, shape, hidden)
        self.checks.add(Cut(scorer, evidence.layer, scores, survivors.keep, self.stage.n_vision, kept + merged))
        if survivors.hidden is not None:
            hidden = _replace_visual(hidden, survivors.hidden, source)
        if survivors.index is not None:
            if self.pruner.positions == "original":
                raise ValueError("this recovery moves tokens to other places: it needs positions='compact'")
            self.stage = self.stage.relabelled(survivors.index)
        if self.plan is not None:
            self.n_cuts = self.n_cuts + (kept < self.stage.n_vision)
        self.stage, slots = self.stage.narrow(survivors.keep, kept + merged, self.ahead.get(layer))
        return hidden[self.samples, slots]

    def _charge(self, source: DecoderSource, layer: int, asked: Bool[np.ndarray, "batch"]) -> None:
        """Write down what evidence of `layer` cost the samples that asked for it (a batch computes it for all)."""
        rows, spent = source.take_scored_rows(), source.take_flops() + self.sight.take_flops()
        if rows.any():
            read = source.attended
            self.attention_from[layer] = read.layer
            n_pairs = rows * (read.stage.n_vision + self.prompt.n_text)
            spent = spent + scoring_flops(self.geometries[0], 1, 1, read.layer) * n_pairs
        self.scoring_flops += spent * asked


def must_cut(falls: Bool[np.ndarray, "batch"]) -> bool:
    """Is there a sample whose planned count falls here?"""
    return bool(falls.any())


def _geometries(anatomy: Anatomy, prompt: Prompt, marked: Count) -> list[Geometry]:
    lengths = zip(prompt.stage.n_vision, prompt.n_text, marked, strict=True)
    return [anatomy.geometry.with_tokens(*map(int, counts)) for counts in lengths]


def _replace_visual(hidden: Tensor, visual: Tensor, source: DecoderSource) -> Tensor:
    picks = source.vision
    index = picks.slots[..., None].expand_as(visual)
    if picks.padded:
        visual = torch.where(picks.real[..., None], visual, hidden.gather(1, index))
    return hidden.scatter(1, index, visual)


def _upload(
    wanted: Sequence[tuple[Count, Count]], present: Sequence[Count], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """What each cut is to leave of the tokens that are `present`, on the device; the host does not wait for it."""
    counts = upload(torch.from_numpy(np.stack([part for pair in wanted for part in pair])), device).unbind()
    widths = [int(n.max()) for n in present]
    first = side_by_side(
        [np.arange(width) < kept[:, None] for (kept, _), width in zip(wanted, widths, strict=True)], device
    )
    return [
        (planned(counts[2 * i], kept, first[i]), planned(counts[2 * i + 1], merged))
        for i, (kept, merged) in enumerate(wanted)
    ]
