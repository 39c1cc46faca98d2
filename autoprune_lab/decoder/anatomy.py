"""Anatomy: where a transformers vision-language model keeps the parts that pruning touches."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, GenerationMixin, PretrainedConfig, PreTrainedModel

from autoprune_lab.decoder.costs import CostError, described
from autoprune_lab.decoder.deepstack import adds_features, is_known
from autoprune_lab.decoder.expert import Expert
from autoprune_lab.decoder.mixers import OTHERS, attention_of, leaks, takes_keys
from autoprune_lab.decoder.signatures import names_of
from autoprune_lab.models.errors import one_line
from autoprune_lab.models.visual_tokens import MARKS, visual_token_ids
from autoprune_lab.schedule.geometry import Geometry

_INNER_NAMES = ("language_model", "text_model", "model", "decoder", "backbone")
_TOWER_NAMES = ("vision_tower", "visual", "vision_model")
_SPEAKERS = ("language_model", "text_model")
_FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "layer_norm", "ln_f", "norm_f")
_FULL, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
_REFERENCE = "reference_sliding_attention"
_ATTENTION = {_FULL, _SLIDING, _CHUNKED, _REFERENCE}

SHARED = "shared_kv_states"
"""The argument in which layers hand on keys and values, by kind of layer; once by the layer that made them."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """`decoder` owns `layers`, `config` is its (text) config, `tower` the vision tower if there is one.

    `visual_ids` are the tokens that stand for images and videos; empty: the model is told where these go, by `MARKS`.
    Where an `expert` makes actions, `model` is the vision-language model inside that reads the prompt.
    """

    model: PreTrainedModel
    decoder: nn.Module
    layers: nn.ModuleList
    config: PretrainedConfig
    visual_ids: tuple[int, ...]
    tower: nn.Module | None
    expert: Expert | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Anatomy":
        """Find the parts by the names transformers gives them; ValueError says what a model lacks."""
        _refuse(model, _reads_otherwise(model))  # before a decoder is looked for: T5's has no `layers`
        expert, reader = Expert.of(model), _reader(model)
        decoder: Any = _decoder(reader)
        anatomy = cls(
            model=reader,
            decoder=decoder,
            layers=decoder.layers,
            config=decoder.config,
            visual_ids=_visual_ids(reader),
            tower=_tower(reader.base_model),
            expert=expert,
        )
        _refuse(model, next(_problems(anatomy), None))  # whatever would silently give another answer
        return anatomy

    @cached_property
    def geometry(self) -> Geometry:
        """What its layers cost, for an empty prompt; CostError for a decoder that cannot be described."""
        return described(self.decoder)

    @property
    def speaker(self) -> Any:
        """The whole language model inside, whose own `generate` the model's calls (BLIP-2); None: it has one itself."""
        inner = next((getattr(self.model, name) for name in _SPEAKERS if hasattr(self.model, name)), None)
        hands_on = getattr(type(self.model), "generate", None) is not GenerationMixin.generate
        return inner if hands_on and isinstance(inner, GenerationMixin) else None

    @property
    def implementation(self) -> str:
        """The decoder's attention implementation: sdpa, eager, flash_attention_2, ..."""
        return self.config._attn_implementation or "eager"

    def attention(self, layer: int) -> Any:
        """The attention module of `layer`; None where it has none."""
        return self._attentions[layer]

    @cached_property
    def _attentions(self) -> list[Any]:
        return [attention_of(layer) for layer in self.layers]

    @cached_property
    def attentive(self) -> tuple[int, ...]:
        """Layers that have attention."""
        return tuple(i for i, attention in enumerate(self._attentions) if attention is not None)

    def attention_below(self, layer: int) -> int | None:
        """The nearest layer with attention, at or below `layer`."""
        return max((i for i in self.attentive if i <= layer), default=None)

    def attention_above(self, layer: int) -> int:
        """The nearest layer with attention above `layer`; the number of layers where there is none."""
        attentive = self.attentive
        place = bisect_right(attentive, layer)
        return attentive[place] if place < len(attentive) else len(self.layers)

    def kind(self, layer: int) -> str:
        """One of `_ATTENTION`; of a layer without attention, see `mixers`."""
        return self._kinds[layer]

    @cached_property
    def _kinds(self) -> Sequence[str]:
        windowed = getattr(self.config, "sliding_window", None) is not None
        alike = [_SLIDING if windowed else _FULL] * len(self.layers)
        return getattr(self.config, "layer_types", None) or alike

    def window(self, layer: int) -> int | None:
        """How many tokens back, itself included, a token of this layer sees; None: all."""
        return self.config.sliding_window if self.kind(layer) in (_SLIDING, _REFERENCE) else None

    def refers(self, layer: int) -> bool:
        """Does every token of this layer see the whole prompt before it, beside its window (Unlimited-OCR)?"""
        return self.kind(layer) == _REFERENCE

    def chunk(self, layer: int) -> int | None:
        """How long the stretches of the prompt are that a token of this layer sees one of; None: it sees all."""
        return self.config.attention_chunk_size if self.kind(layer) == _CHUNKED else None

    @cached_property
    def shares(self) -> bool:
        """Are there layers that make no keys and values of their own?"""
        return any(map(takes_keys, self.layers))

    def source(self, layer: int) -> int:
        """The layer whose keys and values this one attends to: itself, or the last one of its kind that makes some."""
        return self._sources[layer]

    @cached_property
    def _sources(self) -> list[int]:
        sources, last = list[int](), dict[str, int]()
        for i, layer in enumerate(self.layers):
            if not takes_keys(layer):
                last[self.kind(i)] = i
            sources.append(last[self.kind(i)])
        return sources

    @cached_property
    def streams(self) -> int:
        """How many versions of a token's hidden state its layers take at once, see `streams`."""
        return self.config.altup_num_inputs if hasattr(self.layers[0], "altup") else 1

    def normed(self, hidden: Tensor) -> Tensor:
        """Hidden states (batch, slots, hidden) after the last layer's norm; ValueError where it is not known."""
        norm = next((getattr(self.decoder, name) for name in _FINAL_NORMS if hasattr(self.decoder, name)), None)
        if norm is None or self.streams > 1:
            raise ValueError(
                f"{type(self.decoder).__name__}: its final norm is not known, or takes several streams: choose a "
                "scorer and a recovery that do not compare normed hidden states"
            )
        normed: Tensor = norm(hidden)
        return normed

    def sees_all(self, layer: int) -> bool:
        """Does a token of this layer see everything before it?"""
        return self.window(layer) is None and self.chunk(layer) is None


def geometry_of(model: PreTrainedModel) -> Geometry:
    """`Anatomy.geometry` of a model that nobody attaches to."""
    return described(_decoder(_reader(model)))


def geometry_by(config: PretrainedConfig, trust_remote_code: bool = False) -> Geometry:
    """`geometry_of` the model that a *whole* config describes. Raises CostError as `made_by` does."""
    return geometry_of(made_by(config, trust_remote_code))


def made_by(config: PretrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model that a *whole* config describes, on torch's meta device: no weights are made or read.

    Raises CostError where it cannot be made of its config alone: nothing is known of its costs then.
    """
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]
                config, attn_implementation="eager", trust_remote_code=trust_remote_code
            )
    except Exception as error:  # a stranger's numbers, anywhere in transformers
        raise CostError(f"{type(config).__name__} makes no model whose costs can be told: {one_line(error)}") from error
    return model


def _reader(model: PreTrainedModel) -> PreTrainedModel:
    """The model that reads prompts: itself, or one inside whose cache an expert reads."""
    expert = Expert.of(model)
    return model if expert is None else expert.reader


def _decoder(model: PreTrainedModel) -> nn.Module:
    """The module that owns the decoder layers, at most a few names below `model.get_decoder()`."""
    module: nn.Module = model.get_decoder() if hasattr(model, "get_decoder") else model  # type: ignore[no-untyped-call]
    while not hasattr(module, "layers"):
        inner = next((getattr(module, name) for name in _INNER_NAMES if hasattr(module, name)), None)
        if inner is None:
            remedy = "; attach to what it wraps, its `.module`" if hasattr(model, "module") else ""
            raise ValueError(f"{type(model).__name__} is not supported: no decoder with `.layers` was found{remedy}")
        module = inner
    return module


def _tower(model: nn.Module) -> nn.Module | None:
    return next((getattr(model, name) for name in _TOWER_NAMES if hasattr(model, name)), None)


def _visual_ids(model: PreTrainedModel) -> tuple[int, ...]:
    ids = visual_token_ids(model.config)
    if not ids and MARKS not in names_of(model):
        raise ValueError(f"{type(model).__name__} is not supported: its config has no image_token_id or video_token_id")
    return ids


def _refuse(model: object, problem: str | None) -> None:
    """Raise ValueError, naming the model, where there is a problem."""
    if problem is not None:
        raise ValueError(f"{type(model).__name__} is not supported: {problem}")


def _reads_otherwise(model: object) -> str | None:
    """Why its decoder does not read a prompt once, pictures and all, in its own sequence; None where it may.

    Some models (BLIP-2) take a language model of either kind, and arguments for both.
    """
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return "an encoder reads its pictures, no visual token is in its decoder's sequence"
    if hasattr(config, "canvas_length"):
        return "it writes by block diffusion, reading a prompt more than once"
    if "decoder_input_ids" in names_of(model) and not getattr(config, "use_decoder_only_language_model", False):
        return "its prompt goes through an encoder, and what it decodes holds no picture"
    return None


def _problems(anatomy: Anatomy) -> Iterator[str]:
    """What speaks against it, the deepest cause first."""
    layers, implementation = anatomy.layers, anatomy.implementation
    kinds = {anatomy.kind(i) for i in range(len(layers))}
    attending = {anatomy.kind(i) for i in anatomy.attentive}
    if others := sorted(kinds - _ATTENTION - OTHERS | attending - _ATTENTION):  # both in one layer is neither
        yield (
            f"its decoder mixes in {others}, only full, sliding, chunked and linear attention and convolution are "
            "supported"
        )
    if lacks := [i for i in range(len(layers)) if anatomy.attention(i) is None and anatomy.kind(i) in _ATTENTION]:
        yield f"decoder layers {lacks} have no `self_attn`"
    if not anatomy.attentive:
        yield "none of its decoder layers has attention"
    if any(map(leaks, layers)):
        yield f"a bias in the input projection of its {sorted(kinds & OTHERS)} layers would carry padding along"
    if "flash" in implementation and kinds & {_SLIDING, _CHUNKED, _REFERENCE}:
        yield "flash attention counts windows and chunks in pruned tokens; load it with attn_implementation='sdpa'"
    if any(takes_keys(layer) and SHARED not in names_of(attention_of(layer)) for layer in layers):
        yield f"decoder layers reuse the keys and values of earlier ones, and are not handed them as `{SHARED}`"
    if adds_features(anatomy.decoder) and not is_known(anatomy.decoder):
        yield "its decoder adds image features between layers in a way that is not known"
    if anatomy.expert is not None:
        if kinds != {_FULL}:
            yield f"its action expert reads the cache of {sorted(kinds - {_FULL})} layers, which lets keys go"
        if "flash" in implementation:
            yield "flash attention cannot hide actions from the robot's state; load it with attn_implementation='sdpa'"
    if implementation == "flex_attention":
        yield "flex_attention has no 4-D masks; load it with attn_implementation='sdpa'"
