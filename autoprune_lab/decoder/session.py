"""Session: follows the forward calls of one attached model, and tells prefill from decoding."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.decode import Decode
from autoprune_lab.decoder.layout import Prompt, Pruned, Stage
from autoprune_lab.decoder.meter import Meter, cache_bytes, share
from autoprune_lab.decoder.prefill import Prefill
from autoprune_lab.decoder.tower import Tower, per_beam
from autoprune_lab.flops import prefill_flops
from autoprune_lab.pruner import Pruner
from autoprune_lab.trace import SampleTrace, Trace

_PRUNED = "_autoprune_lab_pruned"
"""A pruned cache carries how it was pruned under this name: no registry, and gone with the cache."""


class Session:
    """One with-block on one model."""

    def __init__(self, anatomy: Anatomy, pruner: Pruner, keep_indices: bool) -> None:
        self.anatomy, self.pruner, self.keep_indices = anatomy, pruner, keep_indices
        self.tower = Tower.of(anatomy)
        self.trace, self.meter = Trace(), Meter()
        self.arguments: dict[str, Any] = {}
        self.run: Prefill | Decode | None = None
        self.prompt: Prompt | None = None
        self.seen: tuple[Tensor, Tensor] | None = None  # the watched tower layer's last input and output

    def call(self, arguments: dict[str, Any]) -> None:
        """The model is called: remember what only it is told."""
        self.arguments, self.run = arguments, None
        self.prompt = self._read(arguments) if _is_whole(arguments.get("past_key_values")) else None
        _check_images(arguments, self.prompt, self.anatomy.image_token_id)
        if not arguments.get("mm_encoder_outputs"):  # otherwise `generate` has just run the tower for this call
            self.seen = None
            self.meter.take()

    def see(self, hidden: Tensor, output: Tensor) -> None:
        """The vision tower ran the layer whose [CLS] attention may be wanted."""
        self.seen = hidden, output

    def begin(self, arguments: dict[str, Any]) -> None:
        """The decoder starts."""
        cache = arguments.get("past_key_values")
        _check(self.arguments, cache)
        if _is_whole(cache):
            prompt, self.prompt = self.prompt or self._read(self.arguments), None
            self.run = Prefill(self.anatomy, self.pruner, prompt, self._cls_scores)
        else:
            self.run = Decode(self.anatomy, _pruned(cache), self.arguments.get("attention_mask"))

    def end(self, hidden: Tensor) -> Tensor:
        """The decoder is done: write the trace, give its output the full length again."""
        run, self.run, self.arguments, self.seen = self.run, None, {}, None
        if isinstance(run, Prefill):
            self.trace.samples.extend(_samples(run, self.keep_indices, self.meter.take()))
            if run.cache is not None:
                _remember(run.cache, Pruned(run.prompt.stage, run.stages, self.pruner.positions))
        return run.restore(hidden)

    def stage(self) -> Stage | None:
        """The tokens in the layer that runs; None: all of them."""
        return self.run.stage if isinstance(self.run, Prefill) else None

    def _read(self, arguments: dict[str, Any]) -> Prompt | None:
        """None for arguments that will be refused."""
        ids, mask = arguments.get("input_ids"), arguments.get("attention_mask")
        if ids is None or (mask is not None and mask.ndim != 2):
            return None
        return Prompt.read(ids, mask, self.anatomy.image_token_id)

    def _cls_scores(self) -> Tensor:
        name = type(self.anatomy.model).__name__
        if self.tower is None:
            raise ValueError(f"cls_attention: the vision tower of {name} has no [CLS]; choose another scorer")
        hidden = self._tower_hidden(self.tower.input_index)
        if hidden is None:
            raise ValueError("cls_attention: give pixel_values, or vision features made with output_hidden_states=True")
        return per_beam(self.tower.cls_attention(hidden), self.run.prompt.stage.n_vision, name)

    def _tower_hidden(self, index: int) -> Tensor | None:
        """The tower layer's input: of this call, of `generate` just before it, or kept with the features."""
        features = (self.arguments.get("mm_encoder_outputs") or {}).get("image")
        if features is None or self.arguments.get("pixel_values") is not None:
            return self.seen and self.seen[0]
        states = getattr(features, "hidden_states", None)
        if states is None:
            return None
        if self.seen is not None and states[index + 1] is self.seen[1]:
            return self.seen[0]
        return states[index]


def _is_whole(cache: Cache | None) -> bool:
    """Does a call with this cache bring a whole prompt?"""
    return cache is None or cache.get_seq_length() == 0


def _check_images(arguments: dict[str, Any], prompt: Prompt | None, image_token_id: int) -> None:
    """Refuse pictures that no token of the prompt stands for."""
    ids = arguments.get("input_ids")
    pictures = arguments.get("pixel_values") is not None or arguments.get("mm_encoder_outputs")
    if not pictures or ids is None:
        return
    found = (ids == image_token_id).any() if prompt is None else prompt.stage.n_vision.any()
    if not found:
        raise ValueError(
            f"no visual tokens found: input_ids hold no image_token_id={image_token_id}; "
            "make the prompt with the model's own processor"
        )


def _check(arguments: dict[str, Any], cache: Cache | None) -> None:
    mask = arguments.get("attention_mask")
    if arguments.get("input_ids") is None:
        raise ValueError("pruning finds visual tokens by input_ids: call the attached model itself, with input_ids")
    if mask is not None and mask.ndim != 2:
        raise ValueError(f"attention_mask has {mask.ndim} axes: pruning needs the (batch, tokens) padding mask")
    if cache is not None and cache.is_compileable:
        raise ValueError("a static cache is not supported while a pruner is attached: use a DynamicCache")


def _remember(cache: Cache, pruned: Pruned) -> None:
    """Write on the cache how its prompt was pruned; a cut before layer 0 must not shorten what the model counts."""
    setattr(cache, _PRUNED, pruned)
    if pruned.is_cut(0):
        cache.get_seq_length = functools.partial(_unpruned_length, cache)


def _unpruned_length(cache: Cache, layer_idx: int = 0) -> int:
    """Tokens that were fed to the model, which positions follow, where layer 0 holds fewer."""
    pruned = getattr(cache, _PRUNED)
    length = type(cache).get_seq_length(cache, layer_idx)
    return length and length + pruned.width - pruned.stages[layer_idx].index.shape[1]


def _pruned(cache: Cache) -> Pruned | None:
    """How the prompt in `cache` was pruned; None: it was not. ValueError if that was forgotten."""
    pruned = getattr(cache, _PRUNED, None)
    if pruned is None and len({layer.get_seq_length() for layer in cache.layers}) > 1:
        raise ValueError("this cache was pruned, but not by an attached pruner: start again from the prompt")
    return pruned


def _samples(run: Prefill, keep_indices: bool, vision_flops: int) -> list[SampleTrace]:
    """One record a sample; the counts are of the stages that ran, not of the plan."""
    counts = run.settle()
    planned = np.zeros_like(counts) if run.plan is None else run.plan.tokens
    kept = _kept(run) if keep_indices else [None] * len(counts)
    vision = share(vision_flops, [geometry.n_vision for geometry in run.geometries])
    held = cache_bytes(run.cache, counts + np.array([[geometry.n_text] for geometry in run.geometries]))
    return [
        SampleTrace(
            geometry=geometry,
            planned=planned[i],
            counts=counts[i],
            decoder_flops=prefill_flops(geometry, counts[i]),
            scoring_flops=int(run.scoring_flops[i]),
            vision_flops=vision[i],
            kv_cache_bytes=int(held[i]),
            complexity=float(run.complexities[i]) if run.pruner.policy.adaptive else None,
            kept=kept[i],
        )
        for i, geometry in enumerate(run.geometries)
    ]


def _kept(run: Prefill) -> list[list[np.ndarray]]:
    """Per sample and layer: the indices of its visual tokens, within the sample; one host synchronisation."""
    stages = list(dict.fromkeys(run.stages))
    ranks = torch.cat([stage.rank.masked_fill(~stage.visual, -1) for stage in stages], dim=1).cpu().numpy()
    ends = np.cumsum([stage.index.shape[1] for stage in stages])[:-1]
    views = dict(zip(stages, np.split(ranks, ends, axis=1), strict=True))
    return [[rank[i][rank[i] >= 0] for rank in map(views.__getitem__, run.stages)] for i in range(len(ranks))]
