"""Evidence: what scorers and complexity estimators may look at. What nobody asks for is never computed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class NoAttentionError(ValueError):
    """Evidence of before layer 0 was asked for attention."""


@runtime_checkable
class Source(Protocol):
    """Computes one kind of evidence on request; the decoder has one, and a test may bring its own."""

    def attention(self) -> Tensor:
        """Text-to-visual attention, (batch, heads, rows, vision)."""

    def last_row(self) -> Tensor:
        """Attention of the last prompt token, (batch, heads, vision)."""

    def hidden(self) -> Tensor:
        """Visual hidden states, (batch, vision, hidden)."""

    def text(self) -> Tensor:
        """Hidden states of the text rows, (batch, rows, hidden)."""

    def cls_attention(self) -> Tensor:
        """The vision tower's [CLS] attention, (batch, vision)."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One decoder layer's view of a batch, just before some visual tokens may be dropped.

    Samples differ in their number of visual tokens and text rows: both axes are padded at the right,
    `vision_mask` and `text_mask` say what is real. Text rows are the text tokens after the sample's first
    visual token, the only ones that can see any; a prompt's last token is text whatever it stands for. `index` is
    each visual token's index within its sample, counted before any pruning; -1 at padding. `n_vision`: the real visual
    tokens of each sample, if they are known on the host.
    """

    layer: int
    vision_mask: Bool[Tensor, "batch vision"]
    text_mask: Bool[Tensor, "batch rows"]
    index: Int[Tensor, "batch vision"]
    source: Source
    n_vision: Int[np.ndarray, "batch"] | None = None

    @property
    def padded(self) -> bool:
        """May some visual slots be padding? What is not known on the host may be."""
        return self.n_vision is None or bool((self.n_vision < self.n_vision.max()).any())

    @cached_property
    def counts(self) -> Int[np.ndarray, "batch"]:
        """`n_vision`, read from the device where it is not known."""
        return self.vision_mask.sum(1).cpu().numpy() if self.n_vision is None else self.n_vision

    @cached_property
    def attention(self) -> Float[Tensor, "batch heads rows vision"]:
        """Float32 probabilities: softmax over *all* visible keys, then the visual columns; 0 at padding."""
        return self.source.attention()

    @cached_property
    def last_row(self) -> Float[Tensor, "batch heads vision"]:
        """The same for the last prompt token only; far cheaper than `attention`."""
        return self.source.last_row()

    @cached_property
    def last_row_mean(self) -> Float[Tensor, "batch vision"]:
        """Mean of `last_row` over heads."""
        return self.last_row.mean(1)

    def row_chunks(self) -> Iterator[tuple[Float[Tensor, "batch heads part vision"], Bool[Tensor, "batch part"]]]:
        """`attention` and `text_mask` of a part of the rows after the other.

        For sums over the rows: where the prompt is long, memory holds one part only, and it is computed anew each
        time. `attention` is in one part once somebody has asked for it.
        """
        yield self.attention, self.text_mask

    @cached_property
    def hidden(self) -> Float[Tensor, "batch vision hidden"]:
        """Visual hidden states that leave `layer`, in the model's dtype; arbitrary at padding."""
        return self.source.hidden()

    @cached_property
    def text(self) -> Float[Tensor, "batch rows hidden"]:
        """Hidden states of the text rows that leave `layer`, in the model's dtype; 0 at padding.

        At layer -1 they are what enters layer 0: the embeddings. Reading them costs no FLOPs.
        """
        return self.source.text()

    @cached_property
    def cls_attention(self) -> Float[Tensor, "batch vision"]:
        """[CLS] -> patch attention, mean over heads, at the tower layer whose output the decoder reads.

        0 at padding. Raises ValueError for a vision tower without [CLS].
        """
        return self.source.cls_attention()


Scorer = Callable[[Evidence], Float[Tensor, "batch vision"]]
"""Evidence -> one score per visual token, higher = keep; what stands at padding counts for nothing."""

Estimator = Callable[[Evidence], Float[Tensor, "batch"]]
"""Evidence -> one number per sample, the `Signal.complexity` that a policy is told; in bits, unless it says another."""


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor, one held at a time."""
    return reduce(torch.add, parts)
