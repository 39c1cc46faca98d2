"""Gradient search: ascents along the slopes that trials note, each held to a FLOPs ratio by an augmented Lagrangian."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from search.config.errors import ConfigError
from search.config.space import Space
from search.study.axis import Axis, AxisSampler
from search.study.front import from_study
from search.study.slopes import COST_SLOPES, SCORE_SLOPES
from search.study.trials import was_cut_off

ASCENT = "gradient"  # system attribute: which ascent a trial is of, its step from 0, the trial that it stepped from
BELOW = 0.003  # of the bound, that a step aims below it: costs bend, and what is over is refused

Vector = Float[np.ndarray, "axes"]


class GradientSampler(AxisSampler):
    """Suggests a step uphill from the last trial: towards more likeness to the unpruned model, at the FLOPs ratio.

    Every trial notes how likeness and cost change with its numbers (`reads_slopes`, see `search.study.slopes`). An
    ascent has `steps` steps of at most `reach` of the ranges together, ever shorter. It maximises the augmented
    Lagrangian, likeness - multiplier x over - penalty / 2 x over**2 where the multiplier is above 0: the multiplier is
    the least-squares estimate at the trial, the penalty so stiff that one step leads back to the bound. A refused trial
    steps straight back.

    With one objective an ascent is held to `bound`, and the next one starts at a random setting. On a front it starts
    from the trial nearest to a bound of its own: `bound`, then spread evenly down to `least`. Trials that wait
    (`search.baselines`) start ascents first. What is no number is drawn anew for each ascent, and kept within it. The
    only memory is the study. Workers climb side by side.

    Source: arXiv 2604.15188 (VisPCO): straight-through gradients and an augmented Lagrangian; its code is not there.
    Differs: multiplier and penalty are estimated anew at each step; step lengths do not depend on the gradient's.
    """

    reads_slopes = True

    def __init__(
        self,
        space: Space,
        bound: float | None,
        seed: int | None = None,
        steps: int = 8,
        reach: float = 0.2,
        least: float = 0.24,
    ) -> None:
        if bound is None:
            raise ConfigError("search=gradient holds FLOPs, and budget.flops_ratio is null: give it, or another search")
        if space.groups:
            raise ConfigError(f"search=gradient cannot search the group {space.groups[0].path}: take another search")
        if steps < 1 or not 0 < reach <= 1:
            raise ConfigError(f"search.sampler: steps={steps} must be at least 1, reach={reach} in (0, 1]")
        super().__init__(seed)
        self._bound, self._least, self._steps, self._reach = bound, least, steps, reach

    def learns_from(self, study: optuna.Study) -> Sequence[FrozenTrial]:
        """All trials with slopes."""
        return _climbed(study)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A step of an ascent that waits for one, or the first of the next ascent."""
        if not search_space:
            return {}
        known, climbed = study.get_trials(deepcopy=False), _climbed(study)
        taken = {t.system_attrs[ASCENT][2] for t in known if ASCENT in t.system_attrs and not was_cut_off(t)}
        waiting = [t for t in climbed if t.number not in taken and _ascent(t)[1] < self._steps]
        start: FrozenTrial | None
        if waiting:
            start, (ascent, step) = waiting[-1], _ascent(waiting[-1])
        else:
            ascent, step = 1 + max(_ascent(t)[0] for t in climbed), 0
            start = self._nearest(study, climbed, self._target(study, ascent))
        at = (step, None) if start is None else (step + 1, start.number)
        study._storage.set_trial_system_attr(trial._trial_id, ASCENT, [ascent, *at])
        if start is None:
            return {}
        numbers = {name: of for name, of in search_space.items() if not isinstance(of, CategoricalDistribution)}
        words = {name: start.params[name] for name in search_space if waiting and name not in numbers}
        return words | self._moved(start, numbers, self._target(study, ascent), step)

    def _target(self, study: optuna.Study, ascent: int) -> float:
        """The FLOPs ratio that an ascent is held to: on a front 0, 1/2, 1/4, 3/4, 1/8, ... of the way down."""
        if len(study.directions) == 1:
            return self._bound
        digits = f"{ascent:b}"
        down = int(digits[::-1], 2) / float(2 ** len(digits))
        return self._bound - (self._bound - self._least) * down

    def _nearest(self, study: optuna.Study, climbed: Sequence[FrozenTrial], target: float) -> FrozenTrial | None:
        """The trial on the front that costs what the ascent may cost, about; None: the ascent starts anywhere."""
        if len(study.directions) == 1:
            return None
        labels = {int(label) for label in from_study(study).labels}
        return min((t for t in climbed if t.number in labels), key=lambda t: abs(_cost(t) - target), default=None)

    def _moved(
        self, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution], target: float, step: int
    ) -> dict[str, Any]:
        axes = {name: Axis(distribution) for name, distribution in search_space.items()}
        here = np.array([axis.unit(trial.params[name]) for name, axis in axes.items()])
        score, cost = (
            np.array([trial.user_attrs.get(kind, {}).get(name, 0.0) for name in axes])
            for kind in (SCORE_SLOPES, COST_SLOPES)
        )
        over, reach = _cost(trial) - target * (1 - BELOW), self._reach * (1 - step / self._steps)
        there = moved(here, score, cost, over, reach)
        return {name: axis.value(float(unit)) for (name, axis), unit in zip(axes.items(), there, strict=True)}


def moved(here: Vector, score: Vector, cost: Vector, over: float, reach: float) -> Vector:
    """One step on [0, 1] of each axis, uphill in the augmented Lagrangian; an axis at its end stays there.

    `score` and `cost` are slopes, `over` is how far the cost is over the bound; < 0 within it.
    """
    free = np.ones(len(here))
    step = np.zeros(len(here))
    for _ in here:
        step = _step(free * score, free * cost, over, reach)
        out = ((here <= 0) & (step < 0)) | ((here >= 1) & (step > 0))
        if not out.any():
            break
        free = np.where(out, 0.0, free)
    return np.asarray(np.clip(here + free * step, 0.0, 1.0))


def _step(score: Vector, cost: Vector, over: float, reach: float) -> Vector:
    steepness = float(cost @ cost)
    multiplier = float(score @ cost) / steepness if steepness else 0.0
    along, whole = (float(np.linalg.norm(one)) for one in (score - multiplier * cost, score))
    scale = along if along > 1e-9 * whole else whole  # of slopes that point one way nothing is left but noise
    if not scale:  # nothing to gain, or nothing known of it: back to the bound, if that is where the trial is not
        return np.asarray(-max(over, 0.0) * cost / (steepness or 1.0))
    penalty = scale / (reach * steepness) if steepness else 0.0
    gain = score - max(0.0, multiplier + penalty * over) * cost
    step = reach * gain / scale
    length = float(np.linalg.norm(step))
    return step if over > 0 or length <= reach else step * reach / length


def _climbed(study: optuna.Study) -> list[FrozenTrial]:
    """Ended trials with slopes, some of which are not 0: others lead nowhere."""
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    slopes = [{**t.user_attrs.get(SCORE_SLOPES, {}), **t.user_attrs.get(COST_SLOPES, {})} for t in ended]
    return [t for t, own in zip(ended, slopes, strict=True) if not was_cut_off(t) and any(own.values())]


def _ascent(trial: FrozenTrial) -> tuple[int, int]:
    """Which ascent the trial is of, and its step."""
    ascent, step, _ = trial.system_attrs.get(ASCENT, (0, 0, None))
    return ascent, step


def _cost(trial: FrozenTrial) -> float:
    return float(trial.user_attrs["planned_ratio"])
