"""Evidence made of plain tensors, without a model: what the contracts are checked on, and tests of a plug-in's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from autoprune_lab.evidence.evidence import Evidence, Of, TowerLayer


@dataclass
class PlainSource:
    """Gives the tensors that it holds, and writes down in `asked` what was asked for."""

    attention_: Tensor
    hidden_: Tensor
    text_: Tensor
    cls_: Tensor
    n_rows: Tensor
    tower_: Tensor
    keys_: Tensor
    text_keys_: Tensor
    grid_: Tensor
    history_: Tensor
    asked: list[str] = field(default_factory=list)

    def attention(self) -> Tensor:
        """(batch, heads, rows, vision)."""
        self.asked.append("attention")
        return self.attention_

    def last_row(self) -> Tensor:
        """(batch, heads, vision): the attention of each sample's last row."""
        self.asked.append("last_row")
        last = (self.n_rows - 1).clamp(min=0)[:, None, None, None]
        return self.attention_.take_along_dim(last, 2)[:, :, 0]

    def hidden(self) -> Tensor:
        """(batch, vision, width)."""
        self.asked.append("hidden")
        return self.hidden_

    def text(self) -> Tensor:
        """(batch, rows, width)."""
        self.asked.append("text")
        return self.text_

    def normed(self, of: Of) -> Tensor:
        """(batch, vision or rows, width): an RMS norm whose weights differ from channel to channel."""
        self.asked.append("normed")
        values = (self.hidden_ if of == "vision" else self.text_).float()
        weight = torch.linspace(0.5, 1.5, values.shape[-1])
        return rms_norm(values, weight.shape, weight, eps=1e-6).nan_to_num()

    def grid(self) -> Tensor:
        """(batch, vision, 4): one picture, a row of tokens."""
        self.asked.append("grid")
        return self.grid_

    def tower_attention(self, layer: TowerLayer) -> Tensor:
        """(batch, vision), of every layer."""
        self.asked.append("cls_attention" if layer is None else "tower_attention")
        return self.cls_

    def wide_attention(self, layer: TowerLayer) -> Tensor:
        """(batch, vision), of every layer: another than `tower_attention`."""
        self.asked.append("wide_attention")
        return self.tower_[..., 0].abs()

    def tower_received(self, layer: TowerLayer) -> Tensor:
        """(batch, vision), of every layer: what the features make of it, in [0, 1)."""
        self.asked.append("tower_received")
        return self.tower_[..., 0].abs().tanh()

    def tower_features(self, layer: TowerLayer) -> Tensor:
        """(batch, vision, width), of every layer."""
        self.asked.append("tower_features")
        return self.tower_

    def tower_keys(self, layer: TowerLayer) -> Tensor:
        """(batch, vision, width): the features turned round."""
        self.asked.append("tower_keys")
        return self.tower_.flip(-1)

    def mean_keys(self, layer: TowerLayer) -> Tensor:
        """(batch, vision, width / 2): of two heads."""
        self.asked.append("mean_keys")
        return torch.stack(self.tower_.flip(-1).chunk(2, dim=-1)).mean(0)

    def visual_rows(self) -> Tensor:
        """(batch, vision, vision + rows): the keys' first head asks itself, visual tokens and text alike."""
        self.asked.append("visual_rows")
        seen = torch.cat([self.keys_, self.text_keys_], dim=2)[:, 0]
        text = torch.arange(self.text_keys_.shape[2]) < self.n_rows[:, None]
        vision = self.grid_[..., 0] >= 0
        real = torch.cat([vision, text], dim=1)[:, None]
        rows = (self.keys_[:, 0] @ seen.mT).masked_fill(~real, -torch.inf).softmax(-1)
        return rows.masked_fill(~(real & vision[..., None]), 0.0)

    def history(self) -> Tensor:
        """(batch, decisions, vision)."""
        self.asked.append("history")
        return self.history_

    def keys(self, of: Of, rotary: bool) -> Tensor:
        """(batch, 2, vision or rows, width): with a rotary embedding turned round."""
        self.asked.append("keys")
        values = self.keys_ if of == "vision" else self.text_keys_
        return values.flip(-1) if rotary else values

    def queries(self, of: Of, rotary: bool) -> Tensor:
        """The keys, twice as large."""
        self.asked.append("queries")
        values = self.keys_ if of == "vision" else self.text_keys_
        return 2 * (values.flip(-1) if rotary else values)


def evidence_of(
    attention: Tensor,
    n_vision: Sequence[int] | None = None,
    n_rows: Sequence[int] | None = None,
    width: int = 8,
    seed: int = 0,
) -> Evidence:
    """Evidence with this attention, (batch, heads, rows, vision); `n_vision` and `n_rows` per sample, default: all.

    Hidden states of `width`, of visual tokens and of text rows, the tower's attention, features and keys, and the
    layer's keys and queries are drawn with `seed`. It is of no episode: no decisions came before.
    """
    size, _, rows, vision = attention.shape
    vision_counts = torch.tensor(n_vision or [vision] * size)[:, None]
    row_counts = torch.tensor(n_rows or [rows] * size)[:, None]
    vision_mask, text_mask = torch.arange(vision) < vision_counts, torch.arange(rows) < row_counts
    real = (text_mask[:, :, None] & vision_mask[:, None])[:, None]
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(size, vision, width, generator=draw)
    text = torch.randn(size, rows, width, generator=draw) * text_mask[..., None]
    tower = torch.randn(size, vision, width, generator=draw) * vision_mask[..., None]
    keys = torch.randn(size, 2, vision, width, generator=draw) * vision_mask[:, None, :, None]
    text_keys = torch.randn(size, 2, rows, width, generator=draw) * text_mask[:, None, :, None]
    index = torch.arange(vision).expand(size, -1).masked_fill(~vision_mask, -1)
    grid = torch.stack([0 * index, 0 * index, 0 * index, index], dim=-1).masked_fill(~vision_mask[..., None], -1)
    cls = hidden[..., 0].abs() * vision_mask
    history = torch.zeros(size, 0, vision)
    source = PlainSource(attention * real, hidden, text, cls, row_counts[:, 0], tower, keys, text_keys, grid, history)
    return Evidence(1, vision_mask, text_mask, index, source, n_layers=8)


def part_of(evidence: Evidence, sample: int, rows: Tensor, tokens: Tensor) -> Evidence:
    """One sample's evidence, with these text rows and these visual tokens in this order."""
    source = source_of(evidence)
    return Evidence(
        evidence.layer, evidence.vision_mask[sample, None, tokens], evidence.text_mask[sample, None, rows],
        evidence.index[sample, None, tokens],
        PlainSource(
            source.attention_[sample, None][:, :, rows][..., tokens], source.hidden_[sample, None, tokens],
            source.text_[sample, None, rows], source.cls_[sample, None, tokens], torch.tensor([len(rows)]),
            source.tower_[sample, None, tokens], source.keys_[sample, None][:, :, tokens],
            source.text_keys_[sample, None][:, :, rows], source.grid_[sample, None, tokens],
            source.history_[sample, None][:, :, tokens],
        ),
        n_layers=evidence.n_layers,
    )  # fmt: skip


def alone(evidence: Evidence, sample: int) -> Evidence:
    """One sample's evidence without padding."""
    n_rows, n_vision = (int(mask[sample].sum()) for mask in (evidence.text_mask, evidence.vision_mask))
    return part_of(evidence, sample, torch.arange(n_rows), torch.arange(n_vision))


def copied(evidence: Evidence, **changes: Tensor) -> Evidence:
    """The same evidence in tensors of its own, nothing asked yet; `changes` of the source's tensors."""
    tensors = {name: each.clone() for name, each in tensors_of(source_of(evidence)).items()} | changes
    masks = {name: getattr(evidence, name).clone() for name in ("vision_mask", "text_mask", "index")}
    return replace(evidence, **masks, source=replace(source_of(evidence), asked=[], **tensors))


def source_of(evidence: Evidence) -> PlainSource:
    """The source of evidence that was made here."""
    assert isinstance(evidence.source, PlainSource)
    return evidence.source


def tensors_of(owner: object) -> dict[str, Tensor]:
    """What an object holds in tensors, by name."""
    return {name: value for name, value in vars(owner).items() if isinstance(value, Tensor)}


def random_attention(
    seed: int, size: int, heads: int, rows: int, vision: int, peak: float = 2.0, mass: float = 0.3
) -> Tensor:
    """Softmax rows over the visual tokens, scaled to sum to `mass`."""
    logits = torch.randn(size, heads, rows, vision, generator=torch.Generator().manual_seed(seed))
    return (logits * peak).softmax(-1) * mass


def uneven_attention(seed: int, size: int, rows: int = 5, vision: int = 12) -> Tensor:
    """2 heads; no two rows look equally much at the image."""
    return random_attention(seed, size, 2, rows, vision) / torch.arange(1.0, rows + 1)[:, None]
