"""Evidence: what scorers and complexity estimators may look at. What nobody asks for is never computed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Of = Literal["vision", "text"]
"""Visual tokens, or text rows."""


TowerLayer = int | float | None
"""A layer of the vision tower from 0, or from the end; a part of its depth in [0, 1), rounded down; None: the one
whose output the decoder reads.
"""


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

    def normed(self, of: Of) -> Tensor:
        """Hidden states after the decoder's final norm, (batch, vision or rows, hidden)."""

    def grid(self) -> Tensor:
        """Places of the visual tokens, (batch, vision, 4)."""

    def tower_attention(self, layer: TowerLayer) -> Tensor:
        """Attention in the vision tower, (batch, vision)."""

    def wide_attention(self, layer: TowerLayer) -> Tensor:
        """Attention in the vision tower as one head pays it, (batch, vision)."""

    def tower_received(self, layer: TowerLayer) -> Tensor:
        """Attention received in the vision tower, (batch, vision)."""

    def tower_features(self, layer: TowerLayer) -> Tensor:
        """The vision tower's hidden states, (batch, vision, width)."""

    def tower_keys(self, layer: TowerLayer) -> Tensor:
        """The vision tower's keys, (batch, vision, width)."""

    def mean_keys(self, layer: TowerLayer) -> Tensor:
        """Their mean over heads, (batch, vision, dim)."""

    def visual_rows(self) -> Tensor:
        """Attention of visual tokens to visual tokens and text rows, (batch, vision, vision + rows)."""

    def history(self) -> Tensor:
        """What earlier decisions of the episode paid, (batch, decisions, vision)."""

    def keys(self, of: Of, rotary: bool) -> Tensor:
        """The decoder layer's keys, (batch, kv_heads, vision or rows, dim)."""

    def queries(self, of: Of, rotary: bool) -> Tensor:
        """The decoder layer's queries, (batch, heads, vision or rows, dim)."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One decoder layer's view of a batch, just before some visual tokens may be dropped.

    Samples differ in their number of visual tokens and text rows: both axes are padded at the right,
    `vision_mask` and `text_mask` say what is real. Text rows are the text tokens after the sample's first
    visual token, the only ones that can see any; a prompt's last token is text whatever it stands for. `index` is
    each visual token's index within its sample, counted before any pruning; -1 at padding. `n_vision`, `n_rows`: the
    real visual tokens and text rows of each sample, if they are known on the host. `n_layers`: of the decoder, if it is
    known. `n_cuts`: how often each sample has lost tokens to its plan before; None: never. An opening is no such cut.
    """

    layer: int
    vision_mask: Bool[Tensor, "batch vision"]
    text_mask: Bool[Tensor, "batch rows"]
    index: Int[Tensor, "batch vision"]
    source: Source
    n_vision: Int[np.ndarray, "batch"] | None = None
    n_layers: int | None = None
    n_rows: Int[np.ndarray, "batch"] | None = None
    n_cuts: Int[np.ndarray, "batch"] | None = None

    @property
    def padded(self) -> bool:
        """May some visual slots be padding? What is not known on the host may be."""
        return self.n_vision is None or bool((self.n_vision < self.n_vision.max()).any())

    @cached_property
    def counts(self) -> Int[np.ndarray, "batch"]:
        """`n_vision`, read from the device where it is not known."""
        return self.vision_mask.sum(1).cpu().numpy() if self.n_vision is None else self.n_vision

    @cached_property
    def row_counts(self) -> Int[np.ndarray, "batch"]:
        """`n_rows`, read from the device where it is not known."""
        return self.text_mask.sum(1).cpu().numpy() if self.n_rows is None else self.n_rows

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

    def normed(self, of: Of = "vision") -> Float[Tensor, "batch tokens hidden"]:
        """`hidden` or `text` after the norm behind the decoder's last layer, 0 at padding; costs no FLOPs.

        Raises ValueError for a decoder whose final norm is not known.
        """
        return self.source.normed(of)

    @cached_property
    def grid(self) -> Int[Tensor, "batch vision 4"]:
        """(picture, t, h, w) of each visual token, from 0; -1 at padding.

        Images and videos of a prompt are numbered together, as they come; where a processor cuts an image into tiles
        that the model takes for pictures (InternVL, SmolVLM) each tile is one. `t` is a video's step in time;
        where tiles are put together (LLaVA-NeXT, LLaVA-OneVision) 0 for the overview and 1 for the tiled picture. `h`
        and `w` count tokens after merging and unpadding. A token without a place, as a newline is, has h = w = -1 (and
        t = -1 behind a whole video). Raises UnknownPlacesError where a family's places are not known: none is guessed.
        """
        return self.source.grid()

    @cached_property
    def host_grid(self) -> Int[np.ndarray, "batch vision 4"]:
        """`grid` on the host, where it is known until tokens have gone; then the device is waited for."""
        return self.grid.cpu().numpy()

    @cached_property
    def host_index(self) -> Int[np.ndarray, "batch vision"]:
        """`index` on the host, as `host_grid`."""
        return self.index.cpu().numpy()

    @cached_property
    def extents(self) -> tuple[int, ...]:
        """Above every picture, t, h and w of `grid`, and at least 1; where it is known, that of before any cut."""
        return extents(self.host_grid)

    @cached_property
    def cls_attention(self) -> Float[Tensor, "batch vision"]:
        """`tower_attention` of the tower layer whose output the decoder reads."""
        return self.tower_attention()

    def tower_attention(self, layer: TowerLayer = None) -> Float[Tensor, "batch vision"]:
        """Attention that [CLS] pays to what a visual token is made of, mean over heads and patches, in [0, 1].

        Where a vision tower has no [CLS]: attention received, the mean over all patches of its picture (of its window,
        in a layer that looks through windows). 0 at padding, and where no patch stands behind a token. `layer` of
        the tower, from 0, or from the end, or a part of its depth in [0, 1), rounded down; None: the one whose output
        the decoder reads. Any other must be named beforehand, in an attribute `tower_layers` of the scorer, estimator
        or recovery that asks. Raises ValueError where there is nothing to read, or where it is not known which patches
        a token is made of.
        """
        return self.source.tower_attention(layer)

    def wide_attention(self, layer: TowerLayer = None) -> Float[Tensor, "batch vision"]:
        """`tower_attention`, were all heads one: softmax of the whole width's dot products by its square root."""
        return self.source.wide_attention(layer)

    def tower_received(self, layer: TowerLayer = None) -> Float[Tensor, "batch vision"]:
        """Attention that what a visual token is made of receives: mean over heads, all queries and patches, in [0, 1].

        [CLS] is one of the queries where there is one; without it this is `tower_attention`. 0 and `layer` as there.
        """
        return self.source.tower_received(layer)

    def tower_features(self, layer: TowerLayer = None) -> Float[Tensor, "batch vision width"]:
        """Hidden states that leave a tower layer, before final norm and projector, in the model's dtype.

        The mean over the patches merged into a token; 0 and `layer` as in `tower_attention`.
        """
        return self.source.tower_features(layer)

    def tower_keys(self, layer: TowerLayer = None) -> Float[Tensor, "batch vision width"]:
        """Keys of a tower layer, all heads side by side, as its attention compares them: after a rotary if it has one.

        The mean over the patches merged into a token; 0 and `layer` as in `tower_attention`.
        """
        return self.source.tower_keys(layer)

    def mean_keys(self, layer: TowerLayer = None) -> Float[Tensor, "batch vision dim"]:
        """The same, the mean over heads instead of all of them side by side."""
        return self.source.mean_keys(layer)

    @cached_property
    def visual_rows(self) -> Float[Tensor, "batch vision keys"]:
        """Attention that visual tokens pay: to each visual token, then to each text row; the mean over heads.

        Float32, of a softmax over *all* visible keys as in `attention`; 0 at padding. It costs a row a visual token.
        """
        return self.source.visual_rows()

    @cached_property
    def history(self) -> Float[Tensor, "batch decisions vision"]:
        """Attention that the answers of earlier decisions of the same episode paid each visual token, the newest first.

        Float32, the mean over heads and over the answer's rows, in [0, 1]; 0 where an episode has had fewer decisions,
        where a token had gone, and at padding. No decisions outside an episode (`Pruner.attach` with a `history`).
        Which layer saw it, and how many decisions are remembered, says a part's attribute `recall`, a `Recall`.
        """
        return self.source.history()

    def keys(self, of: Of = "vision", rotary: bool = True) -> Float[Tensor, "batch heads tokens dim"]:
        """Keys of `layer`, of its own key heads, of visual tokens or of text rows; 0 at padding.

        After norms; without `rotary` before the rotary embedding, which computes them anew (ValueError where that is
        not known). NoAttentionError at layer -1.
        """
        return self.source.keys(of, rotary)

    def queries(self, of: Of = "vision", rotary: bool = True) -> Float[Tensor, "batch heads tokens dim"]:
        """Queries of `layer`, see `keys`; of text rows the last real one is the prompt's last token."""
        return self.source.queries(of, rotary)


Scorer = Callable[[Evidence], Float[Tensor, "batch vision"]]
"""Evidence -> one score per visual token, higher = keep; what stands at padding counts for nothing."""

Estimator = Callable[[Evidence], Float[Tensor, "batch"]]
"""Evidence -> one number per sample, the `Signal.complexity` that a policy is told; in bits, unless it says another."""


def tower_layers_of(part: object) -> tuple[TowerLayer, ...]:
    """Layers of the vision tower that a scorer, estimator or recovery names; of a functools.partial what it wraps."""
    return tuple(getattr(getattr(part, "func", part), "tower_layers", ()))


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor, one held at a time."""
    return reduce(torch.add, parts)


def extents(grid: Int[np.ndarray, "*tokens 4"]) -> tuple[int, ...]:
    """One more than the largest number of each column."""
    return tuple((grid.reshape(-1, 4).max(0, initial=0) + 1).tolist())
