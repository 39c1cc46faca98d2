"""Evidence from a live decoder: everything is computed on request, and its cost written down."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from autoprune_lab.decoder.layout import Picks, Prompt, Stage, take
from autoprune_lab.decoder.tap import Tapped, probabilities
from autoprune_lab.evidence import Evidence


class DecoderSource:
    """The `Source` behind one stage's evidence.

    `hidden` (batch, slots, width) leaves the tapped layer, or enters the decoder where none was `tapped`;
    `cls_scores` gives the tower's [CLS] attention of all visual tokens of the batch, in reading order.
    """

    def __init__(
        self, prompt: Prompt, stage: Stage, tapped: Tapped | None, hidden: Tensor, cls_scores: Callable[[], Tensor]
    ) -> None:
        self.prompt, self.stage, self.tapped = prompt, stage, tapped
        self.hidden_states, self.cls_scores = hidden, cls_scores
        self.vision = Picks.of(stage.visual, stage.n_vision)
        self.rows = Picks.of(prompt.rows.gather(1, stage.index) & stage.valid, prompt.n_rows)
        self._scored_rows = list[np.ndarray]()

    def evidence(self, layer: int) -> Evidence:
        """The evidence of `layer`, nothing computed yet."""
        return Evidence(layer, self.vision.real, self.rows.real, self._index(), self)

    def attention(self) -> Tensor:
        """(batch, heads, rows, vision)."""
        self._scored_rows.append(self.prompt.n_rows)
        real = self.rows.real[:, :, None] & self.vision.real[:, None]
        return self._visual_columns(self.rows.slots, real)

    def last_row(self) -> Tensor:
        """(batch, heads, vision)."""
        self._scored_rows.append(np.ones_like(self.prompt.n_rows))
        last = (self.prompt.last.gather(1, self.stage.index) & self.stage.valid).byte().argmax(dim=1, keepdim=True)
        return self._visual_columns(last, self.vision.real[:, None])[:, :, 0]

    def hidden(self) -> Tensor:
        """(batch, vision, hidden)."""
        return take(self.hidden_states, self.vision.slots[..., None], dim=1)

    def cls_attention(self) -> Tensor:
        """(batch, vision)."""
        full = Picks.of(self.prompt.pictured, self.prompt.n_pictured).real
        scores = torch.zeros(full.shape, device=full.device).masked_scatter(full, self.cls_scores().float())
        return scores.gather(1, self._index().clamp(min=0)) * self.vision.real

    def take_scored_rows(self) -> Int[np.ndarray, "batch"]:
        """Attention rows computed per sample since the last call of this function."""
        rows = sum(self._scored_rows, np.zeros_like(self.prompt.n_rows))
        self._scored_rows = []
        return rows

    def _index(self) -> Tensor:
        """(batch, vision), -1 at padding."""
        return self.stage.rank.gather(1, self.vision.slots).masked_fill(~self.vision.real, -1)

    def _visual_columns(self, rows: Tensor, real: Tensor) -> Tensor:
        if self.tapped is None:
            raise ValueError(
                "a cut before layer 0 has no attention to go by: choose another scorer, or probe_layer >= 0"
            )
        attention = probabilities(self.tapped, rows)
        columns = take(attention, self.vision.slots[:, None, None], dim=3)
        return torch.where(real[:, None], columns, 0.0)
