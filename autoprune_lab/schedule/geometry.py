"""Geometry: the sizes that decide what the prefill of one prompt costs."""

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Geometry:
    """Sizes of one decoder (with grouped-query attention) and of one prompt.

    `n_kv_heads` <= `n_heads` is the number of key/value heads; `n_vision` counts the visual tokens before any
    pruning, `n_text` all other prompt tokens. The MLP is gated: three matrices, as in Llama, Qwen and Gemma.
    """

    n_layers: int
    hidden: int
    intermediate: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vision: int
    n_text: int

    def __post_init__(self) -> None:
        """Raise ValueError for a size below 1, or a token count below 0."""
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in ("n_vision", "n_text") else 1
            if value < least:
                raise ValueError(f"{field.name}={value} must be at least {least}")

    @classmethod
    def from_config(cls, config: object, n_vision: int, n_text: int) -> "Geometry":
        """Read the decoder's sizes from a Hugging Face *text* config; ValueError names what it lacks."""

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

    def with_tokens(self, n_vision: int, n_text: int) -> "Geometry":
        """The same decoder with another prompt."""
        return replace(self, n_vision=n_vision, n_text=n_text)
