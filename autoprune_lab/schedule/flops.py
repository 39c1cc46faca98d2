"""What a prefill costs: real FLOPs (2 per multiply-add), cache bytes, and the papers' own conventions.

Counted are the decoder's linear maps and its two attention products, every query against every key (neither causal
skipping nor a sliding window is credited), exactly as `torch.utils.flop_counter.FlopCounterMode` counts them, and of
layers without attention their convolutions and the products of transformers' own chunked code. Of a mixture of
experts the active ones count, and the router: pruned and unpruned alike, so in every ratio. Not counted: norms,
softmax, rotary embedding, lm_head, vision tower (`SampleTrace.vision_flops`). `tokens` are always the *visual* tokens
entering each layer; text comes from the geometry. Sums are int64: good to a million tokens in 80 layers, 8192 wide.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from autoprune_lab.schedule.geometry import Geometry


def layer_terms(geometry: Geometry) -> tuple[Int[np.ndarray, "layers"], Int[np.ndarray, "layers"]]:
    """(linear, quadratic): a layer that n tokens enter costs linear * n + quadratic * n**2 FLOPs.

    And what `fixed_flops` and `chunk_flops` say.
    """
    return geometry.terms[0], geometry.terms[1]


def chunk_flops(geometry: Geometry, entering: Float[np.ndarray, "layers"] | Int[np.ndarray, "layers"]) -> int:
    """FLOPs of the chunks that so many tokens, text included, fill or begin in each layer; 0 for most decoders."""
    return sum(int(chunks_cost(entering, size, *each).sum()) for size, each in geometry.chunked.items())


def chunks_cost(entering: Any, size: int, per_chunk: Any, per_pair: Any) -> Any:
    """What `entering` tokens cost in chunks of `size`, elementwise: a part of a chunk costs what a whole one does."""
    n = -(-entering // size)
    return n * (per_chunk + per_pair * n)


def fixed_flops(geometry: Geometry) -> int:
    """FLOPs of a prefill that no plan changes, beside `layer_terms`; 0 for most decoders."""
    return geometry.fixed


def prefill_flops(geometry: Geometry, tokens: Int[np.ndarray, "layers"]) -> int:
    """FLOPs of the decoder's prefill with `tokens` visual tokens entering each layer."""
    linear, quadratic = layer_terms(geometry)
    n = _entering(geometry, tokens)
    return int((n * (linear + quadratic * n)).sum()) + chunk_flops(geometry, n) + fixed_flops(geometry)


def unpruned_flops(geometry: Geometry) -> int:
    """FLOPs of the decoder's prefill with every visual token in every layer."""
    return prefill_flops(geometry, np.full(geometry.n_layers, geometry.n_vision))


def total_flops(geometries: Sequence[Geometry], tokens: Int[np.ndarray, "samples layers"]) -> int:
    """`prefill_flops` of each prompt with its own row of `tokens`, summed: in few array operations for all of them."""
    if not geometries:
        return 0
    linear, quadratic = np.stack([geometry.terms for geometry in geometries], axis=1)
    n = tokens.astype(np.int64) + np.array([[geometry.n_text] for geometry in geometries])
    each: list[int] = (n * (linear + quadratic * n)).sum(axis=1).tolist()  # int64 holds one prompt's, not a set's
    chunks = sum(chunk_flops(geometry, row) for geometry, row in zip(geometries, n, strict=True) if geometry.chunked)
    return sum(each) + chunks + sum(map(fixed_flops, geometries))


def flops_ratio(geometry: Geometry, tokens: Int[np.ndarray, "layers"]) -> float:
    """Pruned / unpruned prefill FLOPs of the decoder, text included; in (0, 1]. Of experts, the active ones count."""
    return prefill_flops(geometry, tokens) / unpruned_flops(geometry)


def decode_flops(geometry: Geometry, kv_lengths: Int[np.ndarray, "layers"]) -> int:
    """FLOPs of one new token; `kv_lengths` are the keys it sees in each layer, itself included (read of attention)."""
    spent = geometry.outside
    for layer, n_keys in zip(geometry.each, map(int, kv_lengths), strict=True):
        pairs = (layer.per_pair + layer.per_key) * n_keys - layer.per_key
        spent += layer.per_token + layer.text_extra + pairs if layer.per_step is None else layer.per_step
    return spent


def scoring_flops(geometry: Geometry, rows: int, keys: int, layer: int = 0) -> int:
    """FLOPs of the attention logits of `rows` text rows against `keys` keys, all heads of one layer."""
    return rows * keys * geometry.each[layer].per_logit


def kv_cache_bytes(geometry: Geometry, tokens: Int[np.ndarray, "layers"], bytes_per_value: int) -> int:
    """Bytes of the keys, values and states that the prefill leaves in the cache (half precision: 2 a value).

    A sliding layer holds no more than its window; one that shares another's keys holds none; a layer without attention
    holds its state, whatever the number of tokens.
    """
    entering = zip(map(int, _entering(geometry, tokens)), geometry.each, strict=True)
    values = sum(min(n, layer.window or n) * layer.kv_values + layer.state for n, layer in entering)
    return bytes_per_value * values + 4 * sum(layer.state_float32 for layer in geometry.each)


def macs_2ndm(geometry: Geometry, tokens: Int[np.ndarray, "layers"]) -> int:
    """Multiply-adds by 4nd^2 + 2n^2d + 2ndm a layer: the count of FastV, DivPrune and HoliTom.

    Source: arXiv 2403.06764 (FastV), its theoretical FLOPs of one decoder layer.
    Differs: real FLOPs are twice as many, count a gated MLP's third matrix, know grouped-query attention.
    """
    return _paper_macs(geometry, tokens, mlp_matrices=2)


def macs_3ndm(geometry: Geometry, tokens: Int[np.ndarray, "layers"]) -> int:
    """Multiply-adds by 4nd^2 + 2n^2d + 3ndm a layer: the count of SparseVLM, AutoPrune and PyramidDrop.

    Source: arXiv 2410.04417 (SparseVLM) and the official code of AutoPrune.
    Differs: real FLOPs are twice as many, know grouped-query attention.
    """
    return _paper_macs(geometry, tokens, mlp_matrices=3)


def visual_only(geometry: Geometry) -> Geometry:
    """The prompt without its text, for the papers that count visual tokens alone: any convention takes it.

    Source: arXiv 2410.17247 (PyramidDrop), section 4.1: "the FLOPs of the image token part", with `macs_3ndm`.
    Differs: text is never pruned, so a ratio without it is too low.
    """
    return geometry.with_tokens(geometry.n_vision, 0)


def mean_tokens_entering(tokens: Int[np.ndarray, "layers"]) -> float:
    """Mean over layers of the visual tokens entering each: what FLOPs follow, and what `Budget` bounds."""
    return float(tokens.mean())


def mean_tokens_leaving(tokens: Int[np.ndarray, "layers"]) -> float:
    """Mean over layers of the visual tokens left *after* each layer: most papers' "average tokens".

    Source: the official code of AutoPrune, its "avg token num".
    Differs: lower than `mean_tokens_entering` by (first - last) / layers; the last layer drops nothing.
    """
    return float(np.append(tokens[1:], tokens[-1]).mean())


def _entering(geometry: Geometry, tokens: Int[np.ndarray, "layers"]) -> Int[np.ndarray, "layers"]:
    """All tokens entering each layer; ValueError when `tokens` has another number of layers."""
    if tokens.shape != (geometry.n_layers,):
        raise ValueError(f"tokens has shape {tokens.shape}, expected ({geometry.n_layers},): one count per layer")
    return tokens.astype(np.int64) + geometry.n_text


def _paper_macs(geometry: Geometry, tokens: Int[np.ndarray, "layers"], mlp_matrices: int) -> int:
    n, d, m = _entering(geometry, tokens), geometry.hidden, geometry.intermediate
    return int((4 * n * d**2 + 2 * n**2 * d + mlp_matrices * n * d * m).sum())
