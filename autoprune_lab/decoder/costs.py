"""What each layer of a decoder costs: its own code is run on shapes alone, and torch's counter looks on.

A twin of the decoder is made of its config on torch's meta device: no weights, no memory, no arithmetic. So a figure
follows from what a layer computes, not from a list of what layers are known to compute: heads of unlike sizes, keys
that are latent or another layer's, experts, per-layer inputs. Attention and MLPs grow as tokens and pairs of tokens do;
layers without attention also as the chunks that they compute at a time. What grows otherwise is refused. A config
alone gives the same twin, and the same figures. A prompt shorter than a convolution looks back may cost a little less.
"""

import copy
import functools
import inspect
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import flop_registry
from transformers import DynamicCache

from autoprune_lab.decoder.mixers import STATES, attention_of, held_by, states_of
from autoprune_lab.models.errors import one_line
from autoprune_lab.schedule.flops import decode_flops
from autoprune_lab.schedule.geometry import Geometry, Layer

_FEW, _SOME, _MANY = 5, 96, 2**21 + 1  # tokens; many: beyond any window, and no decoder's width
_WITHIN = 14, 15  # tokens of one chunk, more than a convolution looks back
_CHUNKS = tuple(2**i for i in range(4, 11))  # where the end of a chunk is looked for
_TYPES = "token_type_ids"  # see `type_names`
_OUTSIDE = -1

_KNOWN: dict[tuple[type, str], Geometry] = {}
"""By class and config, whatever the precision: a process asks once, of a checkpoint and of the model it loads."""


class CostError(ValueError):
    """A decoder whose costs cannot be told; one line."""


def described(decoder: Any) -> Geometry:
    """The decoder's geometry, of an empty prompt (0 visual tokens, 0 of text).

    `decoder` owns `layers` and `config`. Exact where torch counts experts one by one (experts_implementation="eager");
    its counter misses the kernels that take them together. Raises CostError for a decoder that cannot be described.
    """
    config = copy.copy(decoder.config)
    config.dtype = None  # of the weights, of which a twin has none
    key = type(decoder), config.to_json_string(use_diff=False)
    if key not in _KNOWN:
        _KNOWN[key] = _described(decoder)
    geometry = _KNOWN[key]
    if len(decoder.layers) != geometry.n_layers:
        raise CostError(
            f"{key[0].__name__} has {len(decoder.layers)} layers, its config describes {geometry.n_layers}: "
            "set config.num_hidden_layers to what is there"
        )
    return geometry


def type_names(decoder: Any) -> list[str]:
    """Arguments of the decoder that tell visual tokens (not 0) from text (0)."""
    return [name for name in inspect.signature(decoder.forward).parameters if _TYPES in name]


def _described(decoder: Any) -> Geometry:
    name = type(decoder).__name__
    try:
        # Nobody else's counter looks on; in inference mode ours would see `linear` whole, and miss its product.
        with _disable_current_modes(), torch.inference_mode(False):
            run = _Runs(_twin(decoder))
            some, many, few = (run.prefill(n) for n in (_SOME, _MANY, _FEW))
            states = run.states()
            steps = run.step(), run.step()
            seen = run.prefill(_FEW, visual=True) if run.types else few
            unattended = {place: _ordered(run, place) for place in run.unattended}
    except Exception as error:  # whatever a decoder's own code does on shapes without values
        raise CostError(
            f"{name} cannot be described: its layers do not run on shapes alone ({one_line(error)})"
        ) from error
    layers, outside = [], _terms(name, _OUTSIDE, few, some, many)[0]
    for place in range(run.n_layers):
        extra = (few.flops[place] - seen.flops[place]) // _FEW
        if place in unattended:
            found = unattended[place]
            if found is None or steps[0].flops[place] != steps[1].flops[place]:
                raise CostError(
                    f"{name} cannot be described: the FLOPs of layer {place}, which has no attention, do not grow as "
                    "tokens and chunks of tokens do"
                )
            own = {"text_extra": extra, "state": states[place][0], "state_float32": states[place][1]}
            per_token = found.per_token - extra
            per_step = None if found.per_token == steps[0].flops[place] else steps[0].flops[place]
            layers.append(replace(found, per_token=per_token, per_step=per_step, **own))
            continue
        text, pair = _terms(name, place, few, some, many)
        held, values = many.cached.get(place, (_MANY, 0))
        visual = text - extra
        layer = Layer(
            per_token=visual,
            per_pair=pair,
            per_logit=many.logits[place] // _MANY**2,
            kv_values=values,
            text_extra=text - visual,
            per_key=steps[1].flops[place] - steps[0].flops[place] - pair,
            window=held if held < _MANY else None,
        )
        if not layer.per_token:
            raise CostError(f"{name} cannot be described: torch's counter saw no FLOPs in layer {place}")
        layers.append(layer)
    sizes = _sizes(decoder.config)
    if outside or layers != [sizes.plain] * sizes.n_layers:
        sizes = replace(sizes, layers=tuple(layers), outside=outside)
    for n_keys, step in enumerate(steps, _FEW + 1):
        if decode_flops(sizes, np.full(sizes.n_layers, n_keys)) != sum(step.flops.values()):
            raise CostError(f"{name} cannot be described: a decoded token costs other FLOPs than one of the prompt")
    return sizes


def _ordered(run: "_Runs", place: int) -> Layer | None:
    """What a layer without attention costs; None where tokens, and chunks of them, do not tell it."""
    one, two = _WITHIN

    def spent(n_tokens: int) -> int:
        return run.prefill_once(n_tokens).flops[place]

    token = spent(two) - spent(one)

    def beside(n_tokens: int) -> int:
        return spent(n_tokens) - token * n_tokens

    first = beside(one)
    beyond = next((n for n in _CHUNKS if beside(n) != first), None)
    if beyond is None:
        return Layer(token, per_pair=0, per_logit=0, kv_values=0, fixed=first)
    low, high = max(beyond // 2, one), beyond  # the first chunk ends at low, or behind it and before high
    size = (
        low if beside(low + 1) != first else bisect(range(high), 0, low + 1, high, key=lambda n: beside(n) != first) - 1
    )
    second, third = beside(size + 1), beside(2 * size + 1)
    pair, odd = divmod(third - 2 * second + first, 2)
    chunk = second - first - 3 * pair
    fixed = first - chunk - pair
    fits = all(beside(n) == fixed + m * (chunk + pair * m) for n, m in ((4 * size + 2, 5), (6 * size, 6)))
    layer = Layer(token, 0, 0, 0, fixed=fixed, chunk=size, per_chunk=chunk, per_chunk_pair=pair)
    return layer if fits and not odd and size > two else None


def _sizes(config: Any) -> Geometry:
    """The sizes that the papers' conventions know; where MLPs are of unlike widths, their mean."""
    config = copy.copy(config)
    config.allow_global_per_layer_attribute_access = True  # heads of unlike sizes are told by the layers, not here
    widths = getattr(config, "intermediate_size", None)
    if isinstance(widths, list | tuple):
        config.intermediate_size = round(sum(widths) / len(widths))
    elif widths is None and hasattr(config, "ffn_dim"):  # OPT
        config.intermediate_size = config.ffn_dim
    elif widths is None and hasattr(config, "num_experts_per_tok"):  # nothing but experts: what a token passes
        shared = getattr(config, "shared_expert_intermediate_size", None) or 0
        config.intermediate_size = config.num_experts_per_tok * config.moe_intermediate_size + shared
    return Geometry.from_config(config, 0, 0)


def _terms(name: str, place: int, few: "_Spent", some: "_Spent", many: "_Spent") -> tuple[int, int]:
    """FLOPs a token and FLOPs a pair of tokens, from three lengths; CostError where they do not give them."""
    pairs, rest = divmod(some.flops[place] * _FEW - few.flops[place] * _SOME, _SOME * _FEW * (_SOME - _FEW))
    token = few.flops[place] // _FEW - pairs * _FEW
    if rest or any(spent.flops[place] != n * (token + pairs * n) for n, spent in ((_FEW, few), (_MANY, many))):
        where = "what is outside its layers" if place == _OUTSIDE else f"layer {place}"
        raise CostError(
            f"{name} cannot be described: the FLOPs of {where} do not grow as tokens and pairs of tokens do "
            f"({few.flops[place]} for {_FEW} tokens, {some.flops[place]} for {_SOME})"
        )
    return token, pairs


class _Spent(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts FLOPs by the layer that runs; outside of all layers by `_OUTSIDE`."""

    def __init__(self, n_layers: int, n_tokens: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_tokens, self.place = n_tokens, _OUTSIDE
        self.flops = dict.fromkeys((_OUTSIDE, *range(n_layers)), 0)
        self.logits = dict(self.flops)
        self.cached: dict[int, tuple[int, int]] = {}  # tokens held, and values of each, by layer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return torch.zeros((), dtype=args[0].dtype).item()  # "is any token padding?": none is
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            flops = count(*args, **(kwargs or {}), out_val=out)
            self.flops[self.place] += flops
            if out.shape[-1] == self.n_tokens:  # nothing else is as wide as there are keys
                self.logits[self.place] += flops
        return out


class _Runs:
    """Runs a twin on prompts and decoded tokens that are shapes."""

    def __init__(self, twin: Any) -> None:
        self.twin, self.n_layers = twin, len(twin.layers)
        names = inspect.signature(twin.forward).parameters
        self.types = type_names(twin)
        self.cache_name = "cache" if "cache" in names else "past_key_values"  # see `cache.cache_of`
        self.spent = _Spent(0, 0)
        self.unattended = [place for place, layer in enumerate(twin.layers) if attention_of(layer) is None]
        self.known: dict[int, _Spent] = {}
        for place in self.unattended:
            layer = twin.layers[place]
            layer.forward = functools.partial(self._unless_many, layer.forward)
        for place, layer in enumerate(twin.layers):
            layer.register_forward_pre_hook(self._at(place))
            if place + 1 < self.n_layers:  # what follows the last one is done for the tokens that leave it
                layer.register_forward_hook(self._at(_OUTSIDE))

    def prefill(self, n_tokens: int, visual: bool = False) -> _Spent:
        """A whole prompt, of text or of visual tokens."""
        self.cache: Any = DynamicCache(config=self.twin.config)
        spent = self._run(n_tokens, n_tokens, visual)
        for place, layer in enumerate(self.cache.layers):
            if (pair := held_by(layer)) is not None:
                held = pair[0].shape[-2]
                spent.cached[place] = held, sum(part.numel() for part in pair) // held
        return spent

    def prefill_once(self, n_tokens: int) -> _Spent:
        """The same, of text, remembered."""
        if n_tokens not in self.known:
            self.known[n_tokens] = self.prefill(n_tokens)
        return self.known[n_tokens]

    def states(self) -> list[tuple[int, int]]:
        """Values that each layer of the last prompt's cache holds of all tokens: of convolutions, of recurrences."""

        def values(layer: Any, name: str) -> int:
            return sum(one.numel() for one in states_of(layer, (name,)) if one is not None)

        convolved, recurrent = STATES
        return [(values(layer, convolved), values(layer, recurrent)) for layer in self.cache.layers]

    def step(self) -> _Spent:
        """One token behind the last prompt."""
        return self._run(1, self.cache.get_seq_length() + 1)

    def _unless_many(self, forward: Callable[..., Any], hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What reads tokens chunk by chunk takes its time; where many are run, only attention is looked at."""
        many = hidden_states.shape[1] == _MANY
        return hidden_states if many else forward(hidden_states, *args, **kwargs)

    def _at(self, place: int) -> Callable[..., None]:
        def now(*args: Any) -> None:
            self.spent.place = place

        return now

    def _run(self, n_tokens: int, n_keys: int, visual: bool = False) -> _Spent:
        self.spent = _Spent(self.n_layers, n_tokens)
        # types have values: layers pick tokens by them
        types = {name: torch.full((1, n_tokens), int(visual)) for name in self.types}
        held = {self.cache_name: self.cache, "use_cache": True}
        with torch.no_grad(), self.spent:
            ids = torch.zeros(1, n_tokens, dtype=torch.long, device="meta")
            mask = torch.ones(1, n_keys, dtype=torch.long, device="meta")
            self.twin(input_ids=ids, attention_mask=mask, **held, **types)
        return self.spent


def _twin(decoder: Any) -> Any:
    """The decoder again, of its config, without weights: attention spelled out, experts by their shapes."""
    config = copy.deepcopy(decoder.config)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        twin = type(decoder)(config).eval()
    for module in twin.modules():
        weights = [weight for weight in module._parameters.values() if weight is not None and weight.ndim == 3]
        if weights:  # one matrix an expert
            module.forward = _by_shape(module.forward, weights)
        if hasattr(module, "make_weights"):  # a table of positions, which would be computed for as many as are run
            module.make_weights = _leave
    return twin


def _leave(*sizes: Any) -> None:
    """Shapes alone are looked up in a table of any length."""


def _by_shape(forward: Callable[..., Any], weights: Sequence[Tensor]) -> Callable[..., Any]:
    """Experts' `forward(hidden, top_k_index, top_k_weights)` without looking at which tokens chose which expert.

    Each token passes each matrix of each of the experts that it chose, whichever they are.
    """

    def forwarded(*args: Any, **kwargs: Any) -> Any:
        hidden, chosen, *_ = *args, kwargs.get("top_k_index"), None
        if not isinstance(chosen, Tensor) or chosen.is_floating_point() or chosen.shape[:1] != hidden.shape[:1]:
            return forward(*args, **kwargs)
        for weight in weights:
            _ = hidden.new_empty(chosen.numel(), weight.shape[1]) @ hidden.new_empty(weight.shape[1:])
        return torch.empty_like(hidden)

    return forwarded
