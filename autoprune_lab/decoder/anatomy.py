"""Anatomy: where a transformers vision-language model keeps the parts that pruning touches."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from autoprune_lab.decoder.deepstack import adds_features, is_known

_INNER_NAMES = ("language_model", "text_model", "model", "decoder", "backbone")
_TOWER_NAMES = ("vision_tower", "visual", "vision_model")
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, eq=False)
class Anatomy:
    """`decoder` owns `layers`, `config` is its (text) config, `tower` the vision tower if there is one."""

    model: PreTrainedModel
    decoder: nn.Module
    layers: nn.ModuleList
    config: PretrainedConfig
    image_token_id: int
    tower: nn.Module | None

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Anatomy":
        """Find the parts by the names transformers gives them; ValueError says what a model lacks."""
        decoder: Any = _decoder(model)
        anatomy = cls(
            model=model,
            decoder=decoder,
            layers=decoder.layers,
            config=decoder.config,
            image_token_id=_image_token_id(model),
            tower=_tower(model.base_model),
        )
        _check_supported(anatomy)
        return anatomy

    @property
    def implementation(self) -> str:
        """The decoder's attention implementation: sdpa, eager, flash_attention_2, ..."""
        return self.config._attn_implementation or "eager"

    def kind(self, layer: int) -> str:
        """full_attention or sliding_attention."""
        kinds = getattr(self.config, "layer_types", None)
        windowed = getattr(self.config, "sliding_window", None) is not None
        return kinds[layer] if kinds else _SLIDING if windowed else _FULL

    def window(self, layer: int) -> int | None:
        """How many tokens back, itself included, a token of this layer sees; None: all."""
        return self.config.sliding_window if self.kind(layer) == _SLIDING else None


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


def _image_token_id(model: PreTrainedModel) -> int:
    for name in ("image_token_id", "image_token_index"):
        if (token := getattr(model.config, name, None)) is not None:
            return int(token)
    raise ValueError(f"{type(model).__name__} is not supported: its config has no image_token_id")


def _instead(anatomy: Anatomy, layers: list[int]) -> str:
    """What such layers have, by the config, where it says so."""
    kinds = sorted({anatomy.kind(layer) for layer in layers} - {_FULL, _SLIDING})
    return f" but {', '.join(kinds)}: only attention is pruned" if kinds else ""


def _check_supported(anatomy: Anatomy) -> None:
    """Refuse what would silently give another answer."""
    layers, config = anatomy.layers, anatomy.config
    lacks = [i for i, layer in enumerate(layers) if not hasattr(layer, "self_attn")]
    kinds = {anatomy.kind(i) for i in range(len(layers))}
    implementation = anatomy.implementation
    problem = (
        "an encoder reads its pictures, no visual token is in its decoder's sequence"
        if getattr(anatomy.model.config, "is_encoder_decoder", False)
        else "it writes by block diffusion, reading a prompt more than once"
        if hasattr(anatomy.model.config, "canvas_length")
        else f"decoder layers {lacks} have no `self_attn`" + _instead(anatomy, lacks)
        if lacks
        else f"its decoder mixes in {sorted(kinds - {_FULL, _SLIDING})}, only full and sliding attention are supported"
        if kinds - {_FULL, _SLIDING}
        else "flash attention counts a sliding window in pruned tokens; load it with attn_implementation='sdpa'"
        if "flash" in implementation and _SLIDING in kinds
        else "its attention logits are soft-capped"
        if getattr(config, "attn_logit_softcapping", None)
        else "its decoder adds image features between layers in a way that is not known"
        if adds_features(anatomy.decoder) and not is_known(anatomy.decoder)
        else "flex_attention has no 4-D masks; load it with attn_implementation='sdpa'"
        if implementation == "flex_attention"
        else None
    )
    if problem:
        raise ValueError(f"{type(anatomy.model).__name__} is not supported: {problem}")
