"""The vision tower's attention, features and keys, recomputed from one layer's input when evidence asks for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.signatures import names_of
from autoprune_lab.decoder.tap import Counted, Tapped, calls_in, probabilities, rows_at_once
from autoprune_lab.evidence.evidence import TowerLayer

_CLS_PARAMETERS = ("class_embedding", "cls_token")
_ATTENTION_NAMES = ("self_attn", "attention", "attn")


@dataclass(frozen=True, eq=False)
class Call:
    """What a tower layer got and gave: references, nothing is copied. `output` is None where only `hidden` was kept."""

    hidden: Tensor
    kwargs: Mapping[str, Any]
    output: Tensor | None = None

    def of(self, pictures: Bool[Tensor, "pictures"]) -> "Call":
        """The same of some pictures; whatever else the layer got is of all of them alike."""
        return Call(self.hidden[pictures], self.kwargs, None if self.output is None else self.output[pictures])


@dataclass(frozen=True, eq=False)
class Read:
    """What was read off a tower layer, a value or more a patch, (pictures, patches, c), without [CLS]; its FLOPs."""

    values: Tensor
    flops: int


@dataclass(frozen=True, eq=False)
class Tower:
    """The layers of the vision tower; `index` is the one whose output becomes the visual tokens.

    `attention`: the name of a layer's attention module. `has_cls`: the first token of its sequence is [CLS].
    """

    layers: nn.ModuleList
    attention: str
    index: int
    has_cls: bool

    @classmethod
    def of(cls, anatomy: Anatomy) -> "Tower | None":
        """None where there is no tower of attention layers."""
        tower = anatomy.tower
        if tower is None:
            return None
        for stack in tower.modules():
            if not isinstance(stack, nn.ModuleList):
                continue
            name = next((n for n in _ATTENTION_NAMES if _all_have(stack, n)), None)
            if name is not None:
                has_cls = any(n.rsplit(".", 1)[-1] in _CLS_PARAMETERS for n, _ in tower.named_parameters())
                return cls(stack, name, _input_index(anatomy.model.config, len(stack)), has_cls)
        return None

    @property
    def layer(self) -> nn.Module:
        """The layer whose output becomes the visual tokens."""
        return self.layers[self.index]

    def number(self, layer: TowerLayer) -> int:
        """The number from 0; None: `index`; a part of the depth: rounded down. IndexError outside of the tower."""
        if layer is None:
            return self.index
        if isinstance(layer, float):
            if not 0 <= layer < 1:
                raise IndexError(f"layer={layer} of the vision tower is outside [0, 1), as a part of its depth is")
            return int(layer * len(self.layers))
        if not -len(self.layers) <= layer < len(self.layers):
            raise IndexError(f"the vision tower has {len(self.layers)} layers: {layer} is none of them")
        return layer % len(self.layers)

    def call_of(self, hidden: Tensor, layer: int) -> Call:
        """The call of a layer of which only its input was kept: a layer that is told nothing else."""
        return Call(hidden, {"attention_mask": None} if "attention_mask" in names_of(self.layers[layer]) else {})

    def attention_of(self, call: Call, layer: int) -> Read:
        """[CLS] -> patch probabilities; without [CLS] those that each patch receives, the mean over its picture's.

        Mean over heads, (pictures, patches, 1). Where the layer looks through windows, the mean is over the window's
        patches; patches that are padding ask for nothing. Rows are computed part by part.
        """
        return self._attention_of(call, *self._calls(call, layer))

    def wide_attention_of(self, call: Call, layer: int) -> Read:
        """The same, had the layer a single head as wide as all of its own side by side."""
        calls, flops = self._calls(call, layer)
        return self._attention_of(call, [_one_head(tapped) for tapped in calls], flops)

    def _attention_of(self, call: Call, calls: list[Tapped], flops: int) -> Read:
        if not self.has_cls:
            return self._received(calls, flops)
        (tapped,) = calls
        first = torch.zeros(len(call.hidden), 1, dtype=torch.long, device=call.hidden.device)
        rows = probabilities(tapped, first)
        flops += 2 * tapped.query[:, :, 0].numel() * tapped.key.shape[2]
        return Read(rows[:, :, 0, 1:].mean(1)[..., None], flops)

    def received_of(self, call: Call, layer: int) -> Read:
        """The probabilities that each patch receives, the mean over its picture's queries, [CLS] too: see above."""
        return self._received(*self._calls(call, layer))

    def _received(self, calls: list[Tapped], flops: int) -> Read:
        parts = [received(tapped) for tapped in calls]
        flops += sum(2 * tapped.query.numel() * tapped.key.shape[2] for tapped in calls)
        return Read(torch.cat(parts, dim=1)[:, self.has_cls :, None], flops)

    def keys_of(self, call: Call, layer: int) -> Read:
        """The keys of all heads side by side, as the layer's attention compares them: (pictures, patches, width)."""
        calls, flops = self._calls(call, layer)
        keys = torch.cat([tapped.key for tapped in calls], dim=2)
        return Read(keys.transpose(1, 2).flatten(2)[:, self.has_cls :], flops)

    def mean_keys_of(self, call: Call, layer: int) -> Read:
        """Their mean over heads: (pictures, patches, dim)."""
        calls, flops = self._calls(call, layer)
        keys = torch.cat([tapped.key for tapped in calls], dim=2)
        return Read(keys.mean(1)[:, self.has_cls :], flops)

    def features_of(self, call: Call, layer: int) -> Read:
        """Hidden states that leave the layer, (pictures, patches, width), computed anew where they were not kept."""
        output, flops = call.output, 0
        if output is None:
            with Counted(self.layers[layer]) as counted:
                output = self.layers[layer].forward(call.hidden, **call.kwargs)
            output = output[0] if isinstance(output, tuple) else output
            n = call.hidden.shape[1]
            flops = counted.flops + 4 * call.hidden.shape[0] * n * n * call.hidden.shape[2]
        output = output if output.ndim > 2 else output[None]
        return Read(output[:, self.has_cls :], flops)

    def _calls(self, call: Call, layer: int) -> tuple[list[Tapped], int]:
        """The queries and keys of the layer, and what computing them again takes."""
        module = self.layers[layer]
        with Counted(module) as counted:
            calls = calls_in(
                getattr(module, self.attention), lambda: module.forward(call.hidden, **call.kwargs)
            )  # `forward` itself: no hook of the layer's is to see this
        if not calls:
            raise ValueError(
                f"{type(module).__name__} does not call transformers' attention interface: the vision tower's "
                "attention cannot be read; choose another scorer"
            )
        return calls, counted.flops


def watch(tower: Tower, layer: int, see: Callable[[Call], None]) -> RemovableHandle:
    """Let `see` know of each call of a layer, until the handle is removed."""

    def seen(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        _, *names = names_of(module)
        given = dict(zip(names, args, strict=False)) | kwargs
        hidden = given.pop(names[0])
        see(Call(hidden, given, output[0] if isinstance(output, tuple) else output))

    return tower.layers[layer].register_forward_hook(seen, with_kwargs=True)


def received(tapped: Tapped) -> Tensor:
    """Attention that each position receives, (batch, n): mean over heads, and over all queries that may see it.

    Queries that are padding do not count.
    """
    batch, _, n, _ = tapped.query.shape
    mask = tapped.mask
    if mask is None:
        asks = torch.ones(batch, n, device=tapped.query.device)
        n_asking = asks.sum(1, keepdim=True)
    else:  # padding is seen by nobody, and one picture not by another in the same sequence
        visible = (mask if mask.dtype == torch.bool else mask == 0)[:, 0]
        asks = visible.any(1).expand(batch, n)
        n_asking, asks = (visible & asks[..., None]).sum(1), asks.float()
    total = torch.zeros(batch, n, device=tapped.query.device)
    for rows in torch.split(torch.arange(n, device=total.device), rows_at_once(tapped)):
        attention = probabilities(tapped, rows.expand(batch, -1)).mean(1)
        total += (attention * asks[:, rows, None]).sum(1)
    return total / n_asking.clamp(min=1)


def _one_head(tapped: Tapped) -> Tapped:
    """All heads side by side as a single one, its logits by the square root of the whole width."""
    shared = tapped.query.shape[1] // tapped.key.shape[1]
    key = tapped.key.repeat_interleave(shared, dim=1)
    query, key = (part.transpose(1, 2).flatten(2)[:, None] for part in (tapped.query, key))
    return replace(tapped, query=query, key=key, scaling=query.shape[-1] ** -0.5)


def _all_have(stack: nn.ModuleList, name: str) -> bool:
    return len(stack) > 0 and all(hasattr(layer, name) for layer in stack)


def _input_index(config: object, n_layers: int) -> int:
    """`vision_feature_layer` counts `hidden_states`, where entry i + 1 is the output of layer i."""
    feature = getattr(config, "vision_feature_layer", -1)
    feature = feature[-1] if isinstance(feature, list | tuple) else feature
    return (feature if feature >= 0 else n_layers + 1 + feature) - 1
