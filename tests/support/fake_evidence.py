"""Evidence made of plain tensors."""

from dataclasses import dataclass, replace

import torch

from autoprune_lab.evidence.evidence import Evidence


@dataclass
class PlainSource:
    """Also counts what was asked for, so that a test can see what was not."""

    attention_: torch.Tensor
    hidden_: torch.Tensor
    cls_: torch.Tensor
    n_rows: torch.Tensor

    def __post_init__(self):
        self.asked = []

    def attention(self):
        self.asked.append("attention")
        return self.attention_

    def last_row(self):
        self.asked.append("last_row")
        last = (self.n_rows - 1).clamp(min=0)[:, None, None, None]
        return self.attention_.take_along_dim(last, 2)[:, :, 0]

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
    source = PlainSource(attention * real, hidden, hidden[..., 0].abs() * vision_mask, n_rows[:, 0])
    index = torch.arange(vision).expand(size, -1).masked_fill(~vision_mask, -1)
    return Evidence(1, vision_mask, text_mask, index, source)


def part_of(evidence, sample, rows, tokens):
    """One sample's evidence, with these text rows and these visual tokens in this order."""
    source = evidence.source
    return Evidence(
        evidence.layer, evidence.vision_mask[sample, None, tokens], evidence.text_mask[sample, None, rows],
        evidence.index[sample, None, tokens],
        PlainSource(
            source.attention_[sample, None][:, :, rows][..., tokens], source.hidden_[sample, None, tokens],
            source.cls_[sample, None, tokens], torch.tensor([len(rows)]),
        ),
    )  # fmt: skip


def alone(evidence, sample):
    """One sample's evidence without padding."""
    counts = [int(mask[sample].sum()) for mask in (evidence.text_mask, evidence.vision_mask)]
    return part_of(evidence, sample, *map(torch.arange, counts))


def copied(evidence, **changes):
    """The same evidence in tensors of its own, nothing asked yet; `changes` of the source's tensors."""
    tensors = {name: value.clone() for name, value in vars(evidence.source).items() if name != "asked"}
    masks = {name: getattr(evidence, name).clone() for name in ("vision_mask", "text_mask", "index")}
    return replace(evidence, **masks, source=PlainSource(**tensors | changes))


def random_attention(seed, size, heads, rows, vision, peak=2.0, mass=0.3):
    """Softmax rows over the visual tokens, scaled to sum to `mass`."""
    logits = torch.randn(size, heads, rows, vision, generator=torch.Generator().manual_seed(seed))
    return (logits * peak).softmax(-1) * mass


def uneven_attention(seed, size, rows=5, vision=12):
    """2 heads; no two rows look equally much at the image."""
    return random_attention(seed, size, 2, rows, vision) / torch.arange(1.0, rows + 1)[:, None]


def seen_by(scorer, evidence_list):
    """A scorer that also shows its evidence to the test."""

    def spy(evidence):
        evidence_list.append(evidence)
        return scorer(evidence)

    return spy
