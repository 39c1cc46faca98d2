"""The types of config.yaml; what has a `_target_` is checked against the target's own signature instead."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class BudgetSettings:
    """The bound: a share of the prefill FLOPs in (0, 1], or a mean number of visual tokens > 0."""

    flops_ratio: float | None = None
    mean_tokens: float | None = None


@dataclass
class SearchSettings:
    """`n_trials` in all, optuna's sampler as `_target_`, settings to try first; where it is kept, who works on it.

    What is wanted: see `search.config.goal`; `score` None is `task`, unset so that a study of before there was any
    choice is still the same study. With mode best, optuna's `pruner` compares a trial with the best one after each of
    `blocks` parts of the samples; with mode front, a trial that will surely not add `least_gain` of the hypervolume
    ends behind one (None: never). `pictures`: is what a trial keeps that enters the front kept as a picture? `pinned`:
    what would be searched had no value been typed: PATH=VALUE.
    """

    n_trials: int = 60
    sampler: dict[str, Any] = field(default_factory=dict)
    baselines: list[dict[str, Any]] = field(default_factory=list)
    storage: str | None = None
    workers: int = 1
    heartbeat: int = 60
    patience: float = 90.0
    mode: str = "front"
    cost: str = "flops_ratio"
    score: str | None = None
    limits: dict[str, float] | None = None
    pruner: dict[str, Any] | None = None
    blocks: int = 10
    least_gain: float | None = None
    pictures: bool = True
    pinned: list[str] = field(default_factory=list)


@dataclass
class ReportSettings:
    """What is evaluated after a study: FLOPs ratios, points of the front, task fields, arms as overrides or null.

    `episodes`: a task in a closed loop that is played then; None: none.
    """

    ratios: list[float] = field(default_factory=list)
    points: int = 6
    task: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, list[str] | None] = field(default_factory=dict)
    episodes: dict[str, Any] | None = None


class Replayed(NamedTuple):
    """`CalibrationSettings` with nothing unset."""

    labels: bool
    depths: int
    fractions: list[float]


@dataclass
class CalibrationSettings:
    """How needs are measured: an answer survives while it is right (`labels`), or while it is the unpruned one's.

    At most `depths` depths, and `fractions` of the visual tokens, in (0, 1], are tried. None: as `filled` says; unset,
    so that a study of before there was any is still the same study.
    """

    labels: bool | None = None
    depths: int | None = None
    fractions: list[float] | None = None

    def filled(self) -> Replayed:
        """Every setting that is unset at its default."""
        return Replayed(
            True if self.labels is None else self.labels,
            33 if self.depths is None else self.depths,
            [0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.25, 0.5] if self.fractions is None else self.fractions,
        )


@dataclass
class Schema:
    """Every top-level key of config.yaml."""

    study: str
    folder: str
    out: str
    seed: int
    threads: Any
    batch_size: int
    features_gib: float | None
    prefix_gib: float
    cache: str | None
    model: dict[str, Any]
    task: dict[str, Any]
    pruner: dict[str, Any]
    budget: BudgetSettings
    search: SearchSettings
    report: ReportSettings
    calibration: CalibrationSettings
    tracking: Any
    launcher: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
