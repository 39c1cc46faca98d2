"""Geometry: the sizes that decide what the prefill of one prompt costs."""

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int

_MAY_BE_0 = ("n_vision", "n_text", "outside", "n_marked")


@dataclass(frozen=True)
class Layer:
    """What one decoder layer costs, in FLOPs (2 per multiply-add) and in values that it leaves in the cache.

    `per_token`: of a visual token beside its attention: projections, MLP, router, and the experts that are active for
    it, not those that are there. `text_extra`: of a text token on top of that, where text has experts of its own.
    `per_pair`: of one query against one key, both attention products, all heads; 0 without attention. `per_logit`:
    the part of it that gives the logit. `kv_values`: what the cache holds of one token; 0 where another layer's is
    shared. `per_key`: the part of `per_token` that makes keys and values of what the cache holds, where that is latent:
    a decoded token pays it for every cached one. `window`: tokens that the cache holds at most; None: all. Prefill
    computes every pair, within a window or not.

    Layers of convolution, linear attention and state spaces: `fixed` FLOPs a prefill, however long. Where tokens are
    computed `chunk` at a time, a part of a chunk like a whole one, each costs `per_chunk`, and chunk against chunk
    `per_chunk_pair`. `per_step`: of a decoded token, in all; None: what the others say. `state`: values that the cache
    holds of all tokens at once, in the model's precision; `state_float32`: those that stay in float32.
    """

    per_token: int
    per_pair: int
    per_logit: int
    kv_values: int
    text_extra: int = 0
    per_key: int = 0
    window: int | None = None
    fixed: int = 0
    chunk: int | None = None
    per_chunk: int = 0
    per_chunk_pair: int = 0
    per_step: int | None = None
    state: int = 0
    state_float32: int = 0


@dataclass(frozen=True)
class Geometry:
    """Sizes of one decoder and of one prompt.

    `n_vision` counts the visual tokens before any pruning, `n_text` all other prompt tokens. Without `layers` every
    layer is plain: attention of `n_heads` heads, `n_kv_heads` <= `n_heads` of them with keys and values of their own,
    and a gated MLP, three matrices, as in Llama, Qwen and Gemma. `layers` says what each one costs where they are not
    (experts, unlike heads, latent or shared keys); the sizes then serve the papers' conventions only. `outside`: FLOPs
    that the decoder spends between its layers and its input on each token of the whole prompt, pruned or not.
    `n_marked` of the `n_text` tokens cost what visual ones do: where text has experts of its own, the tokens around a
    picture go to those of pictures.
    """

    n_layers: int
    hidden: int
    intermediate: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vision: int
    n_text: int
    layers: tuple[Layer, ...] | None = None
    outside: int = 0
    n_marked: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a size below 1, a count below 0 or above its whole, or another number of `layers`."""
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in _MAY_BE_0 else 1
            if field.name != "layers" and value < least:
                raise ValueError(f"{field.name}={value} must be at least {least}")
        if self.n_marked > self.n_text:
            raise ValueError(f"n_marked={self.n_marked} must be at most n_text={self.n_text}: it counts some of them")
        if self.layers is not None and len(self.layers) != self.n_layers:
            raise ValueError(f"{len(self.layers)} layers are described, n_layers={self.n_layers}: describe each one")

    @classmethod
    def from_config(cls, config: object, n_vision: int, n_text: int) -> "Geometry":
        """Read a *plain* decoder's sizes from a Hugging Face *text* config; ValueError names what it lacks.

        A config does not say what its layers compute: `decoder.costs` asks them, and refuses to guess.
        """

        def size(name: str, default: int | None = None) -> int:
            value = getattr(config, name, None)
            value = default if value is None else value
            if value is None:
                raise ValueError(f"{type(config).__name__} has no {name}: give the decoder's (text) config")
            return int(value)

        hidden, n_heads = size("hidden_size"), size("num_attention_heads")
        return cls(
            n_layers=size("num_hidden_layers"),
            hidden=hidden,
            intermediate=size("intermediate_size"),
            n_heads=n_heads,
            n_kv_heads=size("num_key_value_heads", n_heads),
            head_dim=size("head_dim", hidden // n_heads),
            n_vision=n_vision,
            n_text=n_text,
        )

    @cached_property
    def each(self) -> tuple[Layer, ...]:
        """What every layer costs, in order."""
        return (self.plain,) * self.n_layers if self.layers is None else self.layers

    @cached_property
    def terms(self) -> Int[np.ndarray, "2 layers"]:
        """`per_token` and `per_pair` of every layer; not to be written to."""
        return np.array([(layer.per_token, layer.per_pair) for layer in self.each], dtype=np.int64).T

    @cached_property
    def chunked(self) -> dict[int, Int[np.ndarray, "2 layers"]]:
        """By length of a chunk: `per_chunk` and `per_chunk_pair` of every layer, 0 where it has no such chunks."""
        return {
            size: np.array(
                [(one.per_chunk, one.per_chunk_pair) if one.chunk == size else (0, 0) for one in self.each],
                dtype=np.int64,
            ).T
            for size in sorted({one.chunk for one in self.each if one.chunk is not None})
        }

    @cached_property
    def fixed(self) -> int:
        """FLOPs of a prefill that no plan changes, beside `terms` and `chunked`; 0 for most decoders."""
        text = sum(layer.text_extra for layer in self.each)
        tokens = text * (self.n_text - self.n_marked) + self.outside * (self.n_vision + self.n_text)
        return tokens + sum(layer.fixed for layer in self.each)

    @cached_property
    def plain(self) -> Layer:
        """A plain layer of these sizes."""
        query, key = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        linear = 2 * self.hidden * (2 * query + 2 * key + 3 * self.intermediate)
        return Layer(linear, per_pair=4 * query, per_logit=2 * query, kv_values=2 * key)

    def with_tokens(self, n_vision: int, n_text: int, n_marked: int = 0) -> "Geometry":
        """The same decoder with another prompt."""
        return replace(self, n_vision=n_vision, n_text=n_text, n_marked=n_marked)
