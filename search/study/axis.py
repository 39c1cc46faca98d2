"""Axis: a parameter of a trial on [0, 1], and what samplers that reckon with distances have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Axis:
    """One parameter on [0, 1]; `levels` values where it has choices or steps, None where it is continuous."""

    distribution: BaseDistribution

    @property
    def levels(self) -> int | None:
        """Choices or steps; None without. A whole number on a logarithmic range is rounded when it is read."""
        of = self.distribution
        if isinstance(of, CategoricalDistribution):
            return len(of.choices)
        assert isinstance(of, FloatDistribution | IntDistribution)
        return None if of.step is None or of.log else round((of.high - of.low) / of.step) + 1

    def snapped(self, unit: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
        """The nearest that there are."""
        return unit if self.levels is None else np.round(unit * (self.levels - 1)) / (self.levels - 1)

    def drawn(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "points"]:
        """Uniformly, each level alike."""
        return rng.random(size) if self.levels is None else rng.integers(self.levels, size=size) / (self.levels - 1)

    def unit(self, value: Any) -> float:
        """Where a value lies."""
        of = self.distribution
        if isinstance(of, CategoricalDistribution):
            return of.to_internal_repr(value) / (len(of.choices) - 1)
        assert isinstance(of, FloatDistribution | IntDistribution)
        low, high, at = np.log([of.low, of.high, value]) if of.log else (of.low, of.high, value)
        return float((at - low) / (high - low))

    def value(self, unit: float) -> Any:
        """What lies there."""
        of = self.distribution
        if isinstance(of, CategoricalDistribution):
            return of.choices[round(unit * (len(of.choices) - 1))]
        assert isinstance(of, FloatDistribution | IntDistribution)
        at = of.low * (of.high / of.low) ** unit if of.log else of.low + unit * (of.high - of.low)
        if of.step is not None and not of.log:
            at = of.low + round((at - of.low) / of.step) * of.step
        at = min(max(at, of.low), of.high)
        return round(at) if isinstance(of, IntDistribution) else float(at)

    def features(self, unit: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points columns"]:
        """A column, or one for each choice."""
        if not isinstance(self.distribution, CategoricalDistribution):
            return unit[:, None]
        count = len(self.distribution.choices)
        return np.asarray(np.eye(count)[np.round(unit * (count - 1)).astype(int)])


class AxisSampler(optuna.samplers.BaseSampler):
    """A sampler whose `sample_relative` says what the trials it learns from have in common; the rest is random."""

    def __init__(self, seed: int | None) -> None:
        self._others = optuna.samplers.RandomSampler(seed=seed)

    @abstractmethod
    def learns_from(self, study: optuna.Study) -> Sequence[FrozenTrial]:
        """The trials that tell something."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the trials that it learns from have in common, and what has more than one value."""
        del trial
        known = list(self.learns_from(study))
        space = optuna.search_space.intersection_search_space(known, include_pruned=True)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)
