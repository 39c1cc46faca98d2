"""Where a trial's settings come from, and what stops it early: what config names, mostly optuna's own.

Every trial gets a new sampler, seeded by `seed` and the number of trials before it: a sampler's only memory is the
study itself, so a resumed study goes on exactly as if it had never stopped.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import optuna

from search.config.compose import ConfigError, Settings
from search.config.dimension import Values
from search.config.goal import BEST, Goal
from search.config.instantiate import make
from search.config.space import Space


def sampler(settings: Settings, space: Space, done: int) -> optuna.samplers.BaseSampler:
    """The sampler of the trial after `done` others; what the config calls `_partial_` is given the space."""
    node = dict(settings.typed.search.sampler)
    if node.get("seed") is not None:
        node["seed"] = (int(node["seed"]) * 1_000_003 + done) % 2**32
    made = _made(node, "search.sampler")
    if isinstance(made, partial):
        made = made(space)
    if not isinstance(made, optuna.samplers.BaseSampler):
        raise ConfigError(f"search.sampler._target_ gives a {type(made).__name__}, expected a sampler of optuna")
    return made


def stopper(settings: Settings) -> optuna.pruners.BasePruner:
    """What stops trials of a study for the best score; with two objectives optuna can stop none."""
    node = settings.typed.search.pruner
    if node is None or settings.typed.search.mode != BEST:
        return optuna.pruners.NopPruner()
    made = _made(node, "search.pruner")
    if not isinstance(made, optuna.pruners.BasePruner):
        raise ConfigError(f"search.pruner._target_ gives a {type(made).__name__}, expected a pruner of optuna")
    return made


def check(settings: Settings, space: Space, baselines: Sequence[Values]) -> None:
    """Raise ConfigError where sampler and pruner refuse their settings, or the study's goal or space."""
    stopper(settings)
    made = sampler(settings, space, 0)
    dry = optuna.create_study(sampler=made, directions=Goal.of(settings.config).directions)
    try:
        space.suggest(dry.ask())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"search.sampler: {error}") from error
    if isinstance(made, optuna.samplers.GridSampler):
        _check_grid(settings, space, baselines)


def _check_grid(settings: Settings, space: Space, baselines: Sequence[Values]) -> None:
    for i, baseline in enumerate(baselines):
        left = [dimension.path for dimension in space.dimensions if dimension.name not in baseline]
        if left:
            raise ConfigError(f"search.baselines[{i}] leaves {left[0]} open, which search=grid cannot fill: give it")
    points, wanted = settings.typed.search.sampler.get("points"), settings.typed.search.n_trials
    size = math.prod(len(dimension.grid(int(points or 1))) for dimension in space.dimensions) + len(baselines)
    if points is not None and wanted > size:
        raise ConfigError(f"search.n_trials={wanted} is more than the grid has: at most {size}, baselines included")


def qmc(scrambling: int, seed: int) -> optuna.samplers.QMCSampler:
    """Sobol's sequence, scrambled once for a whole study; categorical choices are drawn anew with `seed`."""
    others = optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.QMCSampler(
        scramble=True, seed=scrambling, independent_sampler=others, warn_independent_sampling=False
    )


def grid(space: Space, points: int, order: int) -> optuna.samplers.GridSampler:
    """Every combination of the space's choices and steps, or of `points` values of a range, in an order from a seed.

    Raises ConfigError for a space with groups, whose options have different dimensions.
    """
    if space.groups:
        raise ConfigError(f"search=grid cannot search the group {space.groups[0].path}: take another search")
    return optuna.samplers.GridSampler({d.name: d.grid(points) for d in space.dimensions}, seed=order)


def _made(node: Mapping[str, Any], key: str) -> Any:
    """What a config node describes, without optuna's notes on what is experimental; raises as `make` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return make(dict(node), key)
