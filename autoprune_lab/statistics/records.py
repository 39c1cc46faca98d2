"""Records: what one evaluation gave, row by row, and its summaries with 95 % intervals."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from autoprune_lab.html_table import html_table

if TYPE_CHECKING:
    import pandas as pd

_LISTS = ("answers", "tokens")  # of a record
_MAY_LACK = ("complexity", "confidence")
Z95 = float(ndtri(0.975))


@dataclass(frozen=True)
class Record:
    """One answered sample.

    FLOPs and MACs are those of the prefill: FLOPs as `flops` counts them, MACs as papers do (`flops.macs_3ndm`).
    `tokens` are the visual tokens entering each layer, `mean_tokens` and `mean_tokens_leaving` means over the layers;
    complexity is in bits, None where the policy is not adaptive. `confidence` is the model's probability of its own
    answer, in [0, 1], None in records from before it was kept.
    """

    id: str
    kind: str
    prediction: str
    answers: tuple[str, ...]
    score: float
    complexity: float | None
    n_vision: int
    n_text: int
    mean_tokens: float
    decoder_flops: int
    unpruned_flops: int
    scoring_flops: int
    macs: int
    unpruned_macs: int
    mean_tokens_leaving: float
    tokens: tuple[int, ...]
    confidence: float | None = None


@dataclass(frozen=True)
class LeftOut:
    """A sample that could not be shown to the model, and why; one line."""

    id: str
    reason: str


@dataclass(frozen=True)
class Records:
    """Rows in the task's order; `seconds` of wall time for all of them; what could not be shown to the model."""

    rows: tuple[Record, ...]
    seconds: float
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("no records: the task has no samples")

    def __repr__(self) -> str:
        said = f"{len(self.rows)} samples, score {self.score:.4f}, FLOPs ratio {self.flops_ratio:.4f}"
        return f"Records({said}, {len(self.left_out)} left out)"

    def _repr_html_(self) -> str:
        """Score and interval of each kind and of their mean, in a notebook."""
        kinds: list[str | None] = [None, *self.by_kind()]
        scores = [self.score, *self.by_kind().values()]
        counts = [len(self.rows), *map(len, self.scores.values())]
        rows = [
            (kind or "mean of kinds", n, score, *self.interval(kind))
            for kind, n, score in zip(kinds, counts, scores, strict=True)
        ]
        return html_table(repr(self), ["kind", "samples", "score", "95 %: low", "high"], rows)

    @cached_property
    def scores(self) -> dict[str, Float[np.ndarray, "_"]]:
        """Every sample's score, by kind, in the order in which kinds first appear."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        return {kind: np.array([row.score for row in self.rows if row.kind == kind]) for kind in kinds}

    @property
    def score(self) -> float:
        """Mean over the kinds of each kind's mean score."""
        return float(np.mean(list(self.by_kind().values())))

    def by_kind(self) -> dict[str, float]:
        """Mean score of each kind."""
        return {kind: float(scores.mean()) for kind, scores in self.scores.items()}

    def interval(self, kind: str | None = None) -> tuple[float, float]:
        """95 % interval of one kind's score (Wilson), or of the mean over kinds (normal, kinds as strata)."""
        if kind is not None:
            return wilson(float(self.scores[kind].mean()), len(self.scores[kind]))
        halves = [np.subtract(*wilson(s.mean(), len(s))[::-1]) / 2 for s in self.scores.values()]
        half = float(np.sqrt(np.square(halves).sum()) / len(halves))
        return max(0.0, self.score - half), min(1.0, self.score + half)

    @cached_property
    def by_sample(self) -> Float[np.ndarray, "rows"]:
        """Every sample's score, in the rows' order."""
        return np.array([row.score for row in self.rows], dtype=float)

    @property
    def flops_ratio(self) -> float:
        """Pruned / unpruned prefill FLOPs of the decoder, summed over the samples; scoring not included."""
        return sum(row.decoder_flops for row in self.rows) / sum(row.unpruned_flops for row in self.rows)

    @property
    def macs_ratio(self) -> float:
        """`flops_ratio` by the count of SparseVLM, PyramidDrop and AutoPrune."""
        return sum(row.macs for row in self.rows) / sum(row.unpruned_macs for row in self.rows)

    @property
    def scoring_ratio(self) -> float:
        """What evidence cost, in the same unit as `flops_ratio`."""
        return sum(row.scoring_flops for row in self.rows) / sum(row.unpruned_flops for row in self.rows)

    @property
    def mean_tokens(self) -> float:
        """Visual tokens entering a layer, mean over layers and samples."""
        return float(np.mean([row.mean_tokens for row in self.rows]))

    @property
    def mean_tokens_leaving(self) -> float:
        """Visual tokens leaving a layer, most papers' "average tokens", mean over layers and samples."""
        return float(np.mean([row.mean_tokens_leaving for row in self.rows]))

    @property
    def samples_per_second(self) -> float:
        """Samples answered per second of wall time."""
        return len(self.rows) / self.seconds

    def to_frame(self) -> "pd.DataFrame":
        """One row a sample."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    @classmethod
    def from_frame(cls, frame: "pd.DataFrame", seconds: float) -> "Records":
        """What `to_frame` gave, also after a way through a parquet file."""
        import pandas as pd

        rows = []
        for row in frame.to_dict("records"):
            lists = {name: tuple(np.asarray(row[name]).tolist()) for name in _LISTS}
            known = {name: None if pd.isna(value := row.get(name)) else value for name in _MAY_LACK}
            rows.append(Record(**{str(key): value for key, value in row.items()} | lists | known))
        return cls(tuple(rows), seconds)


def wilson(mean: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a mean of `n` scores in [0, 1]; exact form for 0/1 scores, safe for others.

    Source: E. B. Wilson, JASA 22 (1927), p. 209.
    """
    centre = (mean + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(mean * (1 - mean) / n + Z95**2 / (4 * n**2))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))
