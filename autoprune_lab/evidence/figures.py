"""Figures: what one layer's evidence says of a sample, in a handful of numbers that a calibrated estimator weighs."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.complexity import conditional, entropy, mutual_information_official
from autoprune_lab.evidence.evidence import Evidence, NoAttentionError, sum_of

_FEW = 8  # visual tokens: those that are looked at most
_LEAST = 1e-12


class _Seen:
    """What the figures of one batch share, each part computed when it is first asked for; the text rows in one pass.

    p(v|t) is a text row's attention over the visual tokens, renormalised to sum to 1, as in `complexity`.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def rows(self) -> "_Rows":
        """All text rows."""
        parts = (_sums(*part) for part in self.evidence.row_chunks())
        n_seen, total, entropies, mass = map(sum_of, zip(*parts, strict=True))
        n_seen, n_rows = n_seen.clamp(min=1), self.evidence.text_mask.sum(1).clamp(min=1)
        return _Rows(total / n_seen[..., None], entropies / n_seen, mass.mean(1) / n_rows)

    @cached_property
    def last(self) -> "_Rows":
        """The last row alone."""
        row = self.evidence.last_row[:, :, None].float()
        p, _ = conditional(row, torch.ones(len(row), 1, dtype=torch.bool, device=row.device))
        return _Rows(p[:, :, 0], entropy(p[:, :, 0]), row.sum((2, 3)).mean(1))


class _Rows(NamedTuple):
    """Per head the mean p(v|t) and the mean entropy of p(v|t), in bits; the visual mass, mean over rows and heads."""

    p: Float[Tensor, "batch heads vision"]
    entropies: Float[Tensor, "batch heads"]
    mass: Float[Tensor, "batch"]

    @property
    def information(self) -> Float[Tensor, "batch heads"]:
        """Mutual information of text and vision in bits."""
        return (entropy(self.p) - self.entropies).clamp(min=0)

    def top(self, n: int) -> Float[Tensor, "batch"]:
        """The share of p that the n visual tokens have which are looked at most, by the mean over heads; in [0, 1]."""
        mean = self.p.mean(1)
        return mean.topk(min(n, mean.shape[-1])).values.sum(-1)


class Figure(NamedTuple):
    """How a figure is read, and what it says: meaning, unit, range."""

    read: Callable[[_Seen], Tensor]
    meaning: str


FIGURES = {
    "mutual_information_official": Figure(  # first: it needs all rows at once, which the next ones then reuse
        lambda seen: mutual_information_official(seen.evidence), "the official code's information; bits, any sign"
    ),
    "mutual_information": Figure(
        lambda seen: seen.rows.information.mean(1), "how differently text rows look; bits, [0, log2 rows]"
    ),
    "information_spread": Figure(
        lambda seen: seen.rows.information.std(1, correction=0), "its standard deviation over heads; bits, >= 0"
    ),
    "attention_entropy": Figure(
        lambda seen: seen.rows.entropies.mean(1), "how widely a text row looks; bits, [0, log2 visual tokens]"
    ),
    "mean_row_entropy": Figure(
        lambda seen: entropy(seen.rows.p.mean(1)), "how widely all rows look together; bits, [0, log2 visual tokens]"
    ),
    "mean_row_max": Figure(lambda seen: seen.rows.top(1), "all rows' share on one visual token; [0, 1]"),
    "mean_row_top": Figure(lambda seen: seen.rows.top(_FEW), f"all rows' share on {_FEW} visual tokens; [0, 1]"),
    "visual_mass": Figure(lambda seen: seen.rows.mass, "attention of a text row that goes to the picture; [0, 1]"),
    "last_row_entropy": Figure(
        lambda seen: seen.last.entropies.mean(1), "how widely the last row looks; bits, [0, log2 visual tokens]"
    ),
    "last_row_tokens": Figure(
        lambda seen: entropy(seen.last.p.mean(1)).exp2(), "at how many tokens it looks; 2^bits, [1, visual tokens]"
    ),
    "last_row_max": Figure(lambda seen: seen.last.top(1), "its share on one visual token; [0, 1]"),
    "last_row_top": Figure(lambda seen: seen.last.top(_FEW), f"its share on {_FEW} visual tokens; [0, 1]"),
    "last_row_mass": Figure(lambda seen: seen.last.mass, "its attention that goes to the picture; [0, 1]"),
    "head_spread": Figure(
        lambda seen: entropy(seen.last.p.mean(1)) - seen.last.entropies.mean(1),
        "how differently heads look, last row; bits, [0, log2 heads]",
    ),
    "text_rows": Figure(lambda seen: _log2(seen.evidence.text_mask), "log2(1 + text rows behind the first picture)"),
    "visual_tokens": Figure(lambda seen: _log2(seen.evidence.vision_mask), "log2(1 + visual tokens)"),
}
"""Name -> figure. All but the last two need attention, which there is none of before layer 0."""

NO_ATTENTION = ("text_rows", "visual_tokens")


def read_figures(evidence: Evidence, names: Sequence[str], text: int = 0) -> Float[Tensor, "batch figures"]:
    """The named figures, then `text` numbers of the mean text state; float32, 0 where a sample has no visual tokens.

    Only what these need is computed. Raises KeyError for an unknown name, NoAttentionError for one that there is not
    before layer 0.
    """
    if evidence.layer < 0 and not {*names} <= {*NO_ATTENTION}:
        raise NoAttentionError(
            f"before layer 0 there is no attention to take {next(name for name in names if name not in NO_ATTENTION)} "
            f"of: figures=[{','.join(NO_ATTENTION)}], and text=32 for the text's embeddings, or probe_layer >= 0"
        )
    seen = _Seen(evidence)
    found = {name: figure.read(seen) for name, figure in FIGURES.items() if name in names}
    sighted = evidence.vision_mask.any(1)[:, None]
    columns = [found[name].float()[:, None] for name in names]
    columns += [text_state(evidence, text)] if text else []
    return torch.cat(columns, dim=1) * sighted


def text_state(evidence: Evidence, n: int) -> Float[Tensor, "batch n"]:
    """The mean hidden state of the text rows, each brought to a root mean square of 1, on `n` fixed random axes.

    The axes are signs, drawn once for all: distances survive, and no number of theirs has to be kept.

    Source: D. Achlioptas, Database-friendly random projections, 2003.
    """
    rows = evidence.text.float()
    level = rows.square().mean(-1, keepdim=True).sqrt().clamp(min=_LEAST)
    mean = (rows / level).sum(1) / evidence.text_mask.sum(1).clamp(min=1)[:, None]
    return mean @ torch.from_numpy(_signs(mean.shape[1], n)).to(mean.device)


@lru_cache(maxsize=8)
def _signs(width: int, n: int) -> Float[np.ndarray, "width n"]:
    """+-1 / sqrt(width); of RandomState, whose stream numpy has promised never to change."""
    drawn = np.random.RandomState(0).randint(0, 2, (n, width)).T
    return np.asarray((2 * drawn - 1) / np.sqrt(width), dtype=np.float32)


def _sums(attention: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a part of the rows, per head: how many see the image; sums of their p(v|t), entropies and visual mass."""
    p, seen = conditional(attention, text_mask)
    return seen.sum(-1), p.sum(-2), entropy(p).sum(-1), attention.float().sum((2, 3))


def _log2(mask: Tensor) -> Tensor:
    return (1.0 + mask.sum(1)).log2()
