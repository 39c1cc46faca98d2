"""A sampler for fronts whose trials are dear: expected hypervolume improvement under two Gaussian processes."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.optimize import minimize
from scipy.special import ndtr

from autoprune_lab.fronts.front import ParetoFront
from search.study.axis import Axis, AxisSampler

STEPS = 20  # of L-BFGS for each process: more changed no front
REACH = 0.3  # of a local candidate from a point of the front, at most, as a part of each range
HARDLY = 1e-3  # a setting that is more likely refused than not is tried where no other gains anything
ROOM = 0.05  # above the best score so far that there may be, as a part of the range of the scores
ANOTHER = 0.2  # of a local candidate's choices are drawn anew


class EHVISampler(AxisSampler):
    """Suggests what is expected to add most to the feasible hypervolume: a random setting, or one near the front.

    Costs, scores and constraints each have a Gaussian process (Matern 5/2, a length scale for every parameter). A cost
    is all but free of noise, so the mean is taken for it; then the improvement has a closed form, the expected
    improvement over the best score at every cost, times the width of that part of the front. Refused trials teach the
    constraints. The first `n_startup_trials` lie as far as possible from all before. With one objective it is the
    expected improvement. What only some options of a group have is drawn at random.

    Source: Emmerich, Giannakoglou and Naujoks, IEEE TEC 10 (2006), expected hypervolume improvement.
    Differs: one of the two objectives is taken for known.
    """

    def __init__(self, seed: int | None = None, n_startup_trials: int = 8, n_candidates: int = 1000) -> None:
        super().__init__(seed)
        self._rng = np.random.default_rng(seed)
        self._n_startup_trials, self._n_candidates = n_startup_trials, n_candidates

    def learns_from(self, study: optuna.Study) -> Sequence[FrozenTrial]:
        """All trials that ended, refused ones too."""
        return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The candidate with the greatest expected gain; at first the one farthest from all trials."""
        del trial
        if not search_space:
            return {}
        axes = [Axis(distribution) for distribution in search_space.values()]

        def units(trials: Sequence[FrozenTrial]) -> Float[np.ndarray, "trials axes"]:
            rows = [[axis.unit(t.params[name]) for name, axis in zip(search_space, axes, strict=True)] for t in trials]
            return np.array(rows).reshape(len(rows), len(axes))

        given = [t for t in study.get_trials(deepcopy=False) if search_space.keys() <= t.params.keys()]
        ended = [t for t in given if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        running = units([t for t in given if t.state == TrialState.RUNNING])
        seen = np.vstack([units(ended), running])
        learned = _Learned.of(ended, study.directions)
        scored = sum(score is not None for score in learned.scores)
        best = seen[learned.front_places()] if scored else seen[:0]
        candidates = _unseen(self._candidates(axes, best), seen)
        if len(ended) < self._n_startup_trials or scored < 2:
            gains = _distance(_features(axes, candidates), _features(axes, seen))
        else:
            known = _features(axes, seen[: len(ended)])
            gains = learned.gains(known, _features(axes, running), _features(axes, candidates))
        chosen = candidates[int(np.argmax(gains))]
        return {name: axis.value(unit) for name, axis, unit in zip(search_space, axes, chosen, strict=True)}

    def _candidates(
        self, axes: Sequence[Axis], best: Float[np.ndarray, "front axes"]
    ) -> Float[np.ndarray, "candidates axes"]:
        """Half of them drawn from the whole space; the others, where there is a front, from around its points."""
        rng, half = self._rng, self._n_candidates // 2
        anywhere = np.column_stack([axis.drawn(rng, half) for axis in axes])
        if not len(best):
            return anywhere
        near = best[rng.integers(len(best), size=half)]
        moved = rng.random(near.shape) < 0.5
        reach = REACH * rng.random((half, 1))
        near = np.abs(near + moved * reach * rng.normal(size=near.shape))
        near = np.clip(1 - np.abs(1 - near), 0, 1)  # an end of a range is no likelier than the rest of it
        for column, axis in enumerate(axes):
            near[:, column] = axis.snapped(near[:, column])
            if isinstance(axis.distribution, CategoricalDistribution):
                stays = best[rng.integers(len(best), size=half), column]
                anew = rng.random(half) < ANOTHER
                near[:, column] = np.where(anew, axis.drawn(rng, half), stays)
        return np.vstack([anywhere, near])


@dataclass(frozen=True)
class _Learned:
    """Of every ended trial the cost and the score, None where they are unknown, and the constraints, <= 0 where met."""

    costs: Sequence[float | None]
    scores: Sequence[float | None]
    constraints: Sequence[Mapping[str, float]]

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> "_Learned":
        """A single objective has cost 0 everywhere; a score that is minimised counts with the other sign."""
        signs = [1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in directions]
        values = [trial.values if trial.state == TrialState.COMPLETE else None for trial in trials]
        scores = [None if v is None else signs[-1] * v[-1] for v in values]
        costs = [None if v is None else (-signs[0] * v[0] if len(signs) > 1 else 0.0) for v in values]
        return cls(costs, scores, [trial.constraints for trial in trials])

    def front_places(self) -> list[int]:
        """The trials on the front within all constraints; where none is, all that ran."""
        ran = [i for i, score in enumerate(self.scores) if score is not None]
        within = [i for i in ran if all(value <= 0 for value in self.constraints[i].values())] or ran
        costs, scores = (np.array(values, dtype=float)[within] for values in (self.costs, self.scores))
        front = ParetoFront.of(costs, scores, within)
        return [int(label) for label in front.labels]

    def gains(
        self,
        known: Float[np.ndarray, "trials columns"],
        running: Float[np.ndarray, "running columns"],
        candidates: Float[np.ndarray, "candidates columns"],
    ) -> Float[np.ndarray, "candidates"]:
        """Expected hypervolume that each candidate adds. What is running counts as if it ended as it is expected to."""
        both = np.vstack([candidates, running])
        cost, _ = _foretold(known, self.costs, both)
        score, sd = self._scores(known, both, cost)
        here = slice(None, len(candidates))
        front = [(self.costs[i], self.scores[i]) for i in self.front_places()]
        front += zip(cost[len(candidates) :], score[len(candidates) :], strict=True)
        costs = [one for one in self.costs if one is not None]
        dearest = max(costs) if np.ptp(costs) else costs[0] + 1  # of one objective, or one cost: improvement alone
        met, likely = np.ones(len(candidates)), np.ones(len(candidates), dtype=bool)
        for name in sorted({name for one in self.constraints for name in one}):
            mean, doubt = _foretold(known, _tamed([one.get(name) for one in self.constraints]), candidates)
            met *= ndtr(-mean / doubt)
            likely &= mean <= 0
        met *= np.where(likely, 1, HARDLY)  # a refused trial is a trial less
        seen = [one for one in self.scores if one is not None]
        limits = min(0.0, *seen), max(seen) + ROOM * float(np.ptp(seen))
        behind = ParetoFront.of(*np.array(front).T)
        return np.asarray(met * _improvement(behind, dearest, limits, cost[here], score[here], sd[here]))

    def _scores(
        self,
        known: Float[np.ndarray, "trials columns"],
        at: Float[np.ndarray, "points columns"],
        cost: Float[np.ndarray, "points"],
    ) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
        """Mean and standard deviation: a parabola in the cost, which says most of it, and a process for the rest."""
        ran = [i for i, score in enumerate(self.scores) if score is not None]
        spent, told = (np.array([values[i] for i in ran], dtype=float) for values in (self.costs, self.scores))
        span = np.ptp(spent) or 1.0
        whole = None if np.ptp(spent) else [spent[0], spent[0] + span]  # of one cost numpy would divide by 0
        trend = np.polynomial.Polynomial.fit(spent, told, min(2, len(np.unique(spent)) - 1), domain=whole)
        inside = np.clip(cost, spent.min(), spent.max())
        columns = [np.column_stack([rows, c / span]) for rows, c in ((known[ran], spent), (at, cost))]
        mean, deviation = _foretold(columns[0], list(told - trend(spent)), columns[1])
        return mean + trend(inside), deviation


def _tamed(values: Sequence[float | None]) -> list[float | None]:
    """Within as far as half of the others at most, and over by as much: how far over is told in several units."""
    most = float(np.median([-value for value in values if value is not None and value <= 0] or [1.0])) or 1.0
    return [None if value is None else max(value, -most) if value <= 0 else most for value in values]


def _foretold(
    known: Float[np.ndarray, "trials columns"],
    values: Sequence[float | None],
    at: Float[np.ndarray, "points columns"],
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """Mean and standard deviation of a Gaussian process there."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    has = [i for i, value in enumerate(values) if value is not None]
    told = np.array([values[i] for i in has], dtype=float)
    if np.ptp(told) == 0:
        return np.full(len(at), told[0]), np.full(len(at), 1e-9)
    kernel = Matern(np.ones(known.shape[1]), (0.01, 20.0), nu=2.5) + WhiteKernel(1e-2, (1e-6, 0.05))

    def fitted(loss: Any, start: Any, bounds: Any) -> tuple[Any, float]:
        found = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
        return found.x, found.fun

    process = GaussianProcessRegressor(kernel, optimizer=fitted, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(known[has], told)
        mean, deviation = process.predict(at, return_std=True)
    return mean, np.maximum(deviation, 1e-9)


def _improvement(
    front: ParetoFront,
    dearest: float,
    limits: tuple[float, float],
    cost: Float[np.ndarray, "points"],
    score: Float[np.ndarray, "points"],
    sd: Float[np.ndarray, "points"],
) -> Float[np.ndarray, "points"]:
    """Expected area that a point of this cost and a normal score adds left of `dearest`, between the `limits`."""
    edges = np.array([-np.inf, *front.costs, max(dearest, *front.costs)])
    best = np.array([limits[0], *front.scores])
    widths = np.clip(edges[None, 1:] - np.maximum(edges[None, :-1], cost[:, None]), 0, None)

    def above(level: Float[np.ndarray, "levels"]) -> Float[np.ndarray, "points levels"]:
        z = (score[:, None] - level) / sd[:, None]
        return np.asarray(sd[:, None] * (z * ndtr(z) + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)))

    return np.asarray((widths * (above(best) - above(np.array(limits[1:])))).sum(1))


def _features(axes: Sequence[Axis], units: Float[np.ndarray, "points axes"]) -> Float[np.ndarray, "points columns"]:
    return np.hstack([axis.features(column) for axis, column in zip(axes, units.T, strict=True)])


def _distance(
    points: Float[np.ndarray, "points columns"], others: Float[np.ndarray, "others columns"]
) -> Float[np.ndarray, "points"]:
    """To the nearest of the others."""
    return np.asarray(np.square(points[:, None] - others[None]).sum(2).min(1))


def _unseen(
    candidates: Float[np.ndarray, "candidates axes"], seen: Float[np.ndarray, "seen axes"]
) -> Float[np.ndarray, "left axes"]:
    """Those that no trial has tried; all, where all were."""
    known = {row.tobytes() for row in seen.round(9)}
    new = [i for i, row in enumerate(candidates.round(9)) if row.tobytes() not in known]
    return candidates[new] if new else candidates
