"""Evidence made of plain tensors."""

from dataclasses import dataclass

import torch

from autoprune_lab.evidence import Evidence


@dataclass
class PlainSource:
    """Also counts what was asked for, so that a test can see what was not."""

    attention_: torch.Tensor
    hidden_: torch.Tensor
    cls_: torch.Tensor

    def __post_init__(self):
        self.asked = []

    def attention(self):
        self.asked.append("attention")
        return self.attention_

    def last_row(self):
        self.asked.append("last_row")
        return self.attention_[:, :, -1]

    def hidden(self):
        self.asked.append("hidden")
        return self.hidden_

    def cls_attention(self):
        self.asked.append("cls_attention")
        return self.cls_


def evidence_of(attention, n_vision=None, n_rows=None, width=8, seed=0):
    """Evidence with this attention; `n_vision` and `n_rows` per sample, default: all."""
    size, _, rows, vision = attention.shape
    n_vision = torch.tensor(n_vision or [vision] * size)[:, None]
    n_rows = torch.tensor(n_rows or [rows] * size)[:, None]
    vision_mask, text_mask = torch.arange(vision) < n_vision, torch.arange(rows) < n_rows
    real = (text_mask[:, :, None] & vision_mask[:, None])[:, None]
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(size, vision, width, generator=generator)
    source = PlainSource(attention * real, hidden, hidden[..., 0].abs() * vision_mask)
    index = torch.arange(vision).expand(size, -1).masked_fill(~vision_mask, -1)
    return Evidence(1, vision_mask, text_mask, index, source)


def random_attention(seed, size, heads, rows, vision, peak=2.0, mass=0.3):
    """Softmax rows over the visual tokens, scaled to sum to `mass`."""
    logits = torch.randn(size, heads, rows, vision, generator=torch.Generator().manual_seed(seed))
    return (logits * peak).softmax(-1) * mass
