"""Anatomy: where a transformers vision-language model keeps the parts that pruning touches."""

from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

_INNER_NAMES = ("language_model", "text_model")


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
        decoder = _decoder(model)
        _check_supported(model, decoder)
        return cls(
            model=model,
            decoder=decoder,
            layers=decoder.layers,
            config=decoder.config,
            image_token_id=_image_token_id(model),
            tower=getattr(model.base_model, "vision_tower", None),
        )

    @property
    def implementation(self) -> str:
        """The decoder's attention implementation: sdpa, eager, flash_attention_2, ..."""
        return self.config._attn_implementation or "eager"


def _decoder(model: PreTrainedModel) -> nn.Module:
    """The module that owns the decoder layers, at most a few names below `model.get_decoder()`."""
    module = model.get_decoder() if hasattr(model, "get_decoder") else model
    while not hasattr(module, "layers"):
        inner = next((getattr(module, name) for name in _INNER_NAMES if hasattr(module, name)), None)
        if inner is None:
            raise ValueError(f"{type(model).__name__} is not supported: no decoder with `.layers` was found")
        module = inner
    return module


def _image_token_id(model: PreTrainedModel) -> int:
    for name in ("image_token_id", "image_token_index"):
        if (token := getattr(model.config, name, None)) is not None:
            return int(token)
    raise ValueError(f"{type(model).__name__} is not supported: its config has no image_token_id")


def _check_supported(model: PreTrainedModel, decoder: nn.Module) -> None:
    """Refuse what would silently give another answer."""
    lacks = [i for i, layer in enumerate(decoder.layers) if not hasattr(layer, "self_attn")]
    kinds = set(getattr(decoder.config, "layer_types", None) or ()) - {"full_attention"}
    implementation = decoder.config._attn_implementation
    problem = (
        f"decoder layers {lacks} have no `self_attn`"
        if lacks
        else f"its decoder mixes in {sorted(kinds)}, only full attention is"
        if kinds
        else "its decoder adds image features inside the layers (deepstack)"
        if hasattr(decoder, "_deepstack_process")
        else "flex_attention has no 4-D masks; load it with attn_implementation='sdpa'"
        if implementation == "flex_attention"
        else None
    )
    if problem:
        raise ValueError(f"{type(model).__name__} is not supported: {problem}")
