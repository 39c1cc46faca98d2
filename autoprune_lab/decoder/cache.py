"""The KV cache of a pruned prompt: it carries how it was pruned, and what it holds is told from that."""

import functools
from collections.abc import Mapping
from typing import Any

from transformers import Cache

from autoprune_lab.decoder.layout import Pruned

PRUNED = "_autoprune_lab_pruned"
"""A pruned cache carries how it was pruned under this name: no registry, and gone with the cache."""


def cache_of(arguments: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a model, a decoder or a layer, if any; transformers 5.24 gave it a new name."""
    cache = arguments.get("past_key_values")
    return arguments.get("cache") if cache is None else cache


def is_static(cache: Any) -> bool:
    """Does it hold the keys of each layer in a buffer of one size?"""
    return isinstance(cache, Cache) and cache.is_compileable


def is_whole(cache: Cache | None) -> bool:
    """Does a call with this cache bring a whole prompt?

    The device is not asked for the length of a static cache that a prompt was pruned in, nor of one not yet made.
    """
    if cache is None or (is_static(cache) and not cache.is_initialized):
        return True
    return not (is_static(cache) and hasattr(cache, PRUNED)) and bool(cache.get_seq_length() == 0)


def shorten(cache: Cache | None, layer: int, n_gone: int) -> None:
    """Where a layer's cache was told how long the prompt is (Unlimited-OCR): `n_gone` tokens of it will not come.

    What follows the prompt would be taken for the rest of it.
    """
    layers: Any = [] if cache is None else cache.layers
    for held in layers[layer : layer + 1]:
        if getattr(held, "prefill_length", None) is not None:
            held.prefill_length -= n_gone


def remember(cache: Cache, pruned: Pruned) -> None:
    """Write on the cache how its prompt was pruned; a cut before the first layer that counts must not shorten it."""
    setattr(cache, PRUNED, pruned)
    if pruned.is_cut(_first_counting(cache)):
        vars(cache)["get_seq_length"] = functools.partial(_unpruned_length, cache)  # on this one cache


def _unpruned_length(cache: Cache, layer_idx: int = 0) -> int:
    """Tokens that were fed to the model, which positions follow, where the layer that is asked holds fewer."""
    pruned = getattr(cache, PRUNED)
    length = type(cache).get_seq_length(cache, layer_idx)
    counting = layer_idx or _first_counting(cache)
    return length and length + pruned.width - pruned.stages[counting].index.shape[1]


def measure_whole(cache: Cache) -> None:
    """Let masks on a pruned cache be made for the prompt as it was before: its readers narrow them layer by layer."""
    vars(cache)["get_mask_sizes"] = functools.partial(_unpruned_sizes, cache)  # on this one cache


def _unpruned_sizes(cache: Cache, query_length: int, layer_idx: int) -> tuple[int, int]:
    pruned = getattr(cache, PRUNED)
    n_keys, n_forgotten = type(cache).get_mask_sizes(cache, query_length, layer_idx)
    return n_keys + pruned.width - pruned.stages[layer_idx].index.shape[1], n_forgotten


def _first_counting(cache: Cache) -> int:
    """The layer whose length is the cache's: the first one of attention, since a state has none."""
    layers: Any = cache.layers
    return next(i for i, layer in enumerate(layers) if hasattr(layer, "get_seq_length"))


def pruned_of(cache: Cache) -> Pruned | None:
    """How the prompt in `cache` was pruned; None: it was not. ValueError if that was forgotten."""
    pruned: Pruned | None = getattr(cache, PRUNED, None)
    layers: Any = () if is_static(cache) or pruned is not None else cache.layers
    counted = {layer.get_seq_length() for layer in layers if hasattr(layer, "get_seq_length")}
    if len(counted) > 1:
        raise ValueError("this cache was pruned, but not by an attached pruner: start again from the prompt")
    return pruned


def as_held(pruned: Pruned, cache: Cache, batch: int) -> Pruned:
    """What a pruned cache holds, after its prompt was repeated for a batch, or its last text was taken back.

    ValueError where samples or pictures were taken.
    """
    n_lost = pruned.width - cache.get_seq_length()
    if n_lost > 0:
        if not pruned.ends_in_text(n_lost):
            raise ValueError(
                f"this cache was cropped to {pruned.width - n_lost} tokens, into the pictures or the padding of its "
                f"pruned prompt of {pruned.width}: start again from the prompt"
            )
        pruned = pruned.without_end(n_lost)
        setattr(cache, PRUNED, pruned)
    if pruned.batch == 1:
        return pruned.repeated(batch)
    if batch != pruned.batch:
        raise ValueError(
            f"input_ids hold {batch} samples, the pruned cache {pruned.batch}: only the cache of a single prompt may "
            "be repeated; repeat or choose prompts before the prefill"
        )
    return pruned
