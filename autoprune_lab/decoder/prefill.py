"""One prefill: plans, then cuts visual tokens at the entrance of the layers where the planned count falls."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.layout import Prompt, Stage, take, widen
from autoprune_lab.decoder.source import DecoderSource
from autoprune_lab.decoder.tap import Tapped, arm
from autoprune_lab.decoder.view import View
from autoprune_lab.evidence import Evidence
from autoprune_lab.flops import scoring_flops
from autoprune_lab.geometry import Geometry
from autoprune_lab.plan import Plan
from autoprune_lab.pruner import Pruner
from autoprune_lab.recovery import Survivors

Count = Int[np.ndarray, "batch"]


class Prefill:
    """State of one forward call over full prompts; `stages` grows by one entry a layer."""

    def __init__(self, anatomy: Anatomy, pruner: Pruner, prompt: Prompt, cls_scores: Callable[[], Tensor]) -> None:
        self.anatomy, self.pruner, self.prompt, self.cls_scores = anatomy, pruner, prompt, cls_scores
        self.stage, self.stages = prompt.stage, list[Stage]()
        self.view = View(anatomy, self.stage, pruner.positions)
        self.cache: Any = None
        self.plan: Plan | None = None
        self.opening = pruner.opening(self.stage.n_vision)
        self.armed, self.tapped = self._is_tapped(-1), None
        self.geometries = _geometries(anatomy, prompt)
        self.complexities = np.zeros(len(self.geometries))  # 0 bits without an image, or if nobody asks
        self.scoring_flops = np.zeros(len(self.geometries), dtype=np.int64)

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets instead of `hidden` (batch, slots, hidden) and `kwargs`."""
        self.cache = kwargs.get("past_key_values")
        if self.armed:
            hidden = self._look(layer, hidden)
        self.stages.append(self.stage)
        self.armed = self._is_tapped(layer)
        if self.armed:
            arm(self.anatomy.layers[layer].self_attn, self._record)
        return hidden, kwargs if self.stage is self.prompt.stage else self.view.narrow(layer, kwargs, hidden)

    def restore(self, hidden: Tensor) -> Tensor:
        """The decoder's output at full length: zeros where tokens were dropped."""
        return self.prompt.spread(hidden, self.stage)

    def _record(self, tapped: Tapped) -> None:
        self.tapped = tapped

    def _look(self, layer: int, hidden: Tensor) -> Tensor:
        """Plan and cut with the evidence of the layer before; the evidence is forgotten afterwards."""
        if self.tapped is None and layer > 0:
            raise ValueError(
                f"{type(self.anatomy.model).__name__} is not supported: the attention of layer {layer - 1} "
                "does not go through transformers' attention interface"
            )
        source = DecoderSource(self.prompt, self.stage, self.tapped, hidden, self.cls_scores)
        evidence = source.evidence(layer - 1)
        self.tapped = None
        if self.plan is None and layer == self.pruner.probe_layer + 1:
            self._plan(evidence, source)
        if not self._cuts(layer):
            return hidden
        kept, merged = self._wanted(layer)
        scores = self._scores(evidence)
        self._charge(source, kept < self.stage.n_vision)
        return self._cut(hidden, evidence, scores, source, kept, merged)

    def _is_tapped(self, layer: int) -> bool:
        """Will the next layer look at this one? -1: at what enters the decoder."""
        if layer + 1 == len(self.anatomy.layers) or not self.stage.n_vision.any():
            return False
        return self._cuts(layer + 1) or (self.plan is None and layer == self.pruner.probe_layer)

    def _cuts(self, layer: int) -> bool:
        """Do tokens go at the entrance of `layer`, by the plan or by an opening before it?"""
        planned = self.plan is not None or (self.opening is not None and self.opening[0] == layer)
        return planned and must_cut(self._wanted(layer)[0] < self.stage.n_vision)

    def _wanted(self, layer: int) -> tuple[Count, Count]:
        """Tokens to keep, and tokens to make of the rest."""
        if self.plan is not None:
            return self.plan.kept[:, layer], self.plan.merged[:, layer]
        return self.opening[1], np.zeros_like(self.stage.n_vision)

    def _plan(self, evidence: Evidence, source: DecoderSource) -> None:
        if self.pruner.policy.adaptive:
            sighted = self.stage.n_vision > 0
            bits = self.pruner.complexity(evidence).detach().double().cpu().numpy()
            self.complexities = np.where(sighted, bits, 0.0)
            refuse_nan(bool(np.isnan(self.complexities).any()), "complexity", self.pruner.complexity, evidence)
            self._charge(source, sighted)
        self.plan = self.pruner.plan(self.complexities, self.geometries)

    def _scores(self, evidence: Evidence) -> Tensor:
        opens = self.plan is None and self.pruner.opening_scorer is not None
        return (self.pruner.opening_scorer if opens else self.pruner.scorer)(evidence)

    def _cut(
        self, hidden: Tensor, evidence: Evidence, scores: Tensor, source: DecoderSource, kept: Count, merged: Count
    ) -> Tensor:
        wanted = torch.as_tensor(np.stack([kept, merged]), device=scores.device)
        survivors = self.pruner.recovery(evidence, scores, *wanted)
        self._check(evidence, scores, survivors, wanted.sum(0))
        if survivors.hidden is not None:
            hidden = _replace_visual(hidden, survivors.hidden, source)
        if survivors.index is not None:
            self.stage = self.stage.relabelled(survivors.index, source.vision)
        self.stage, slots = self.stage.narrow(widen(self.stage, survivors.keep, source.vision), kept + merged)
        self.view = View(self.anatomy, self.stage, self.pruner.positions)
        return take(hidden, slots[..., None], dim=1)

    def _check(self, evidence: Evidence, scores: Tensor, survivors: Survivors, wanted: Tensor) -> None:
        """Refuse NaN, and a recovery that leaves another count than planned; one host synchronisation."""
        nan = (scores.isnan() & evidence.vision_mask).any()
        real = survivors.keep & evidence.vision_mask
        nan, miscounted = torch.stack([nan, (real.sum(1) != wanted).any()]).tolist()
        refuse_nan(nan, "scores", self.pruner.scorer, evidence)
        if miscounted:
            name = getattr(self.pruner.recovery, "__name__", repr(self.pruner.recovery))
            raise ValueError(f"recovery {name} must keep exactly the planned count of every sample's real slots")
        if survivors.index is not None and self.pruner.positions == "original":
            raise ValueError("this recovery moves tokens to other places: it needs positions='compact'")

    def _charge(self, source: DecoderSource, asked: Bool[np.ndarray, "batch"]) -> None:
        """Write down what evidence cost the samples that asked for it (a batch computes it for all)."""
        n_keys = self.stage.n_vision + self.prompt.n_text
        for i, rows in enumerate(source.take_scored_rows() * asked):
            self.scoring_flops[i] += scoring_flops(self.geometries[i], int(rows), int(n_keys[i]))


def must_cut(falls: Bool[np.ndarray, "batch"]) -> bool:
    """Is there a sample whose planned count falls here?"""
    return bool(falls.any())


def _geometries(anatomy: Anatomy, prompt: Prompt) -> list[Geometry]:
    decoder = Geometry.from_config(anatomy.config, 0, 0)
    lengths = zip(prompt.stage.n_vision, prompt.n_text, strict=True)
    return [decoder.with_tokens(int(vision), int(text)) for vision, text in lengths]


def _replace_visual(hidden: Tensor, visual: Tensor, source: DecoderSource) -> Tensor:
    picks = source.vision
    index = picks.slots[..., None].expand_as(visual)
    return hidden.scatter(1, index, torch.where(picks.real[..., None], visual, hidden.gather(1, index)))


def refuse_nan(found: bool, what: str, function: Any, evidence: Evidence) -> None:
    """Raise ValueError, naming the function and the layer, if NaN was `found`."""
    if found:
        name = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"{what} by {name} on the attention of layer {evidence.layer} holds NaN: "
            "check the inputs, or load the model in bfloat16 or float32"
        )
