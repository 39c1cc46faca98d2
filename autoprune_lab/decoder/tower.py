"""The vision tower's [CLS] attention, recomputed from one layer's input when a scorer asks for it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.tap import Tapped, arm, disarm, probabilities

_CLS_PARAMETERS = ("class_embedding", "cls_token")


@dataclass(frozen=True, eq=False)
class Tower:
    """The tower layer whose output becomes the visual tokens; its input is `hidden_states[input_index]`."""

    layer: nn.Module
    input_index: int

    @classmethod
    def of(cls, anatomy: Anatomy) -> "Tower | None":
        """None where there is no tower of attention layers with a [CLS] token."""
        tower = anatomy.tower
        if tower is None or not _has_cls(tower):
            return None
        stacks = [module for module in tower.modules() if isinstance(module, nn.ModuleList)]
        layers = next((stack for stack in stacks if len(stack) and hasattr(stack[0], "self_attn")), None)
        if layers is None:
            return None
        index = _input_index(anatomy.model.config, len(layers))
        return cls(layers[index], index)

    def cls_attention(self, hidden: Tensor) -> Tensor:
        """[CLS] -> patch probabilities, mean over heads: (images * patches,), in the visual tokens' order.

        `hidden` (images, 1 + patches, width) is the layer's input.
        """
        first = torch.zeros(len(hidden), 1, dtype=torch.long, device=hidden.device)
        return probabilities(self._tap(hidden), first)[:, :, 0, 1:].mean(1).flatten()

    def _tap(self, hidden: Tensor) -> Tapped:
        """Run the layer up to its queries and keys; leaving it there keeps every forward hook out of this."""

        def leave(tapped: Tapped) -> None:
            raise _Reached(tapped)

        arm(self.layer.self_attn, leave)
        try:
            self.layer(hidden, attention_mask=None)
        except _Reached as reached:
            return reached.tapped
        finally:
            disarm(self.layer.self_attn)
        raise ValueError(f"{type(self.layer).__name__} did not call its self_attn: cls_attention is not supported")


class _Reached(Exception):  # noqa: N818 - not an error
    def __init__(self, tapped: Tapped) -> None:
        self.tapped = tapped


def per_beam(scores: Tensor, n_vision: np.ndarray, model: str) -> Tensor:
    """One score a visual token: for beam search `generate` repeats the samples, not what the tower saw."""
    beams, rest = divmod(int(n_vision.sum()), len(scores))
    groups = n_vision.reshape(-1, max(beams, 1)) if rest == 0 and len(n_vision) % max(beams, 1) == 0 else None
    if groups is None or (groups != groups[:, :1]).any():
        raise ValueError(
            f"cls_attention: {model} has {n_vision.sum()} visual tokens for {len(scores)} patches: "
            "choose another scorer"
        )
    samples = torch.split(scores, groups[:, 0].tolist())
    return torch.cat([sample for sample in samples for _ in range(beams)])


def _has_cls(tower: nn.Module) -> bool:
    return any(name.rsplit(".", 1)[-1] in _CLS_PARAMETERS for name, _ in tower.named_parameters())


def _input_index(config: object, n_layers: int) -> int:
    """`vision_feature_layer` counts `hidden_states`, where entry i + 1 is the output of layer i."""
    feature = getattr(config, "vision_feature_layer", -1)
    feature = feature[-1] if isinstance(feature, list | tuple) else feature
    return (feature if feature >= 0 else n_layers + 1 + feature) - 1
