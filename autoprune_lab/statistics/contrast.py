"""Arms compared on the same samples: scores, shares of another arm's score and differences, with 95 % intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from autoprune_lab.statistics.records import Records
from autoprune_lab.statistics.resampling import difference, interval, resampled

RIGHT = 0.5  # a graded score of so much counts as a right answer
_SAME = 1e-6  # of two probabilities: what rounding may change where batches are cut alike


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval from the paired bootstrap; `low` = `high` where no resample differs."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """'0.912 [0.893, 0.930]'."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def clear(self) -> bool:
        """Does the interval leave out 0?"""
        return self.low > 0 or self.high < 0

    def columns(self, name: str) -> dict[str, float]:
        """The cells of a table's row: `name`, `name:low` and `name:high`."""
        return {name: self.value, f"{name}:low": self.low, f"{name}:high": self.high}


@dataclass(frozen=True, eq=False)
class Arms:
    """Several arms' records of the same samples; every figure is resampled with the same draws."""

    records: Mapping[str, Records]

    def __post_init__(self) -> None:
        """Raise ValueError unless all arms answered the same samples in the same order."""
        ids = {name: [row.id for row in records.rows] for name, records in self.records.items()}
        first = next(iter(ids.values()), [])
        for name, own in ids.items():
            if own != first:
                raise ValueError(f"arm {name!r} answered other samples than {next(iter(ids))!r}: they cannot be paired")

    def scores(self, names: Sequence[str], kind: str | None = None) -> tuple[Float[np.ndarray, "arms n"], list[str]]:
        """Every arm's score of every sample, or of those of one kind, and the samples' kinds."""
        kinds = [row.kind for row in self.records[names[0]].rows]
        wanted = [i for i, one in enumerate(kinds) if kind in (None, one)]
        scores = [[self.records[name].rows[i].score for i in wanted] for name in names]
        return np.array(scores, dtype=float), [kinds[i] for i in wanted]

    def score(self, name: str, kind: str | None = None) -> Estimate:
        """One arm's score: the mean over kinds, or that of one kind."""
        draws = resampled(*self.scores([name], kind))[:, 0]
        records = self.records[name]
        return Estimate(records.score if kind is None else records.by_kind()[kind], *interval(draws))

    def relative(self, name: str, to: str) -> Estimate:
        """One arm's score over another's; NaN where that is 0."""
        own, other = resampled(*self.scores([name, to])).T
        whole = self.records[to].score
        if whole == 0 or not other.all():
            return Estimate(np.nan, np.nan, np.nan)
        return Estimate(self.records[name].score / whole, *interval(own / other))

    def loyalty(self, name: str, to: str) -> Estimate:
        """The share of samples that one arm answers word for word as another does, every sample counting alike.

        Source: arXiv 2506.00479 (EffiVLM-Bench), its loyalty: predictions that agree with the uncompressed model's.
        """
        own, other = ([row.prediction for row in self.records[one].rows] for one in (name, to))
        return _mean(np.array([a == b for a, b in zip(own, other, strict=True)], dtype=float))

    def groups(self, whole: str, smaller: str) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        """A and B: what `whole` answers right, and `smaller`, shown smaller pictures, wrong (A) or right (B).

        A is difficult, and says what a method keeps that a smaller picture does not; B is simple.

        Source: arXiv 2510.07143 (VTC-Bench), and its repository's README.
        Differs: a graded score is right from a half on.
        """
        known, seen = (self.scores([name])[0][0] >= RIGHT for name in (whole, smaller))
        return known & ~seen, known & seen

    def score_within(self, name: str, group: Bool[np.ndarray, "n"]) -> Estimate:
        """One arm's mean score of a group, every sample counting alike; NaN where it is empty."""
        scores = self.scores([name])[0][0][group]
        return _mean(scores) if len(scores) else Estimate(np.nan, np.nan, np.nan)

    def is_no_op(self, name: str, to: str) -> bool:
        """Can one arm's outputs not be told from another's: every answer, and where kept its probability, the same?"""
        pairs = list(zip(self.records[name].rows, self.records[to].rows, strict=True))
        known = [
            (a.confidence, b.confidence) for a, b in pairs if a.confidence is not None and b.confidence is not None
        ]
        return all(a.prediction == b.prediction for a, b in pairs) and all(abs(a - b) <= _SAME for a, b in known)

    def difference(self, name: str, others: Sequence[str]) -> Estimate:
        """One arm's score less the mean score of `others`."""
        scores, kinds = self.scores([name, *others])
        gap = difference(scores[:1], scores[1:], kinds)
        return Estimate(gap.value, gap.low, gap.high)


def _mean(values: Float[np.ndarray, "n"]) -> Estimate:
    return Estimate(float(values.mean()), *interval(resampled(values[None], ["all"] * len(values))[:, 0]))
