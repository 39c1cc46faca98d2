"""Samplers beside optuna's own, and what no sampler can do; which one a study has is said by `search.sampler`.

Every trial gets a new sampler, seeded by `seed` and the number of trials before it: a sampler's only memory is the
study itself, so a resumed study goes on exactly as if it had never stopped.
"""

import math

import optuna

from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.space import Space


def check(experiment: Experiment) -> None:
    """Raise ConfigError where sampler and stopper refuse their settings, or the study's goal or space."""
    sampler, _ = experiment.sampler(0), experiment.stopper
    dry = optuna.create_study(sampler=sampler, directions=experiment.goal.directions)
    try:
        experiment.space.suggest(dry.ask())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"search.sampler: {error}") from error
    if isinstance(sampler, optuna.samplers.GridSampler):
        _check_grid(experiment)


def _check_grid(experiment: Experiment) -> None:
    space, baselines, search = experiment.space, experiment.baselines, experiment.typed.search
    for i, baseline in enumerate(baselines):
        left = [dimension.path for dimension in space.dimensions if dimension.name not in baseline]
        if left:
            raise ConfigError(f"search.baselines[{i}] leaves {left[0]} open, which search=grid cannot fill: give it")
    points = search.sampler.get("points")
    size = math.prod(len(dimension.grid(int(points or 1))) for dimension in space.dimensions) + len(baselines)
    if points is not None and search.n_trials > size:
        raise ConfigError(
            f"search.n_trials={search.n_trials} is more than the grid has: at most {size}, baselines included"
        )


def qmc(scrambling: int, seed: int) -> optuna.samplers.QMCSampler:
    """Sobol's sequence, scrambled once for a whole study; categorical choices are drawn anew with `seed`."""
    others = optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.QMCSampler(
        scramble=True, seed=scrambling, independent_sampler=others, warn_independent_sampling=False
    )


def ehvi_then_tpe(space: Space, n_ehvi: int, n_before: int, seed: int) -> optuna.samplers.BaseSampler:
    """EHVI, which is ahead while trials are few, for the first `n_ehvi`; then TPE, which goes on improving.

    TPE from the first trial where the space has groups, of whose options EHVI learns only what all have in common.
    """
    if space.groups or n_before >= n_ehvi:
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
    from search.study.ehvi import EHVISampler  # here: it loads scipy's optimisers

    return EHVISampler(seed)


def botorch(n_startup_trials: int, seed: int) -> optuna.samplers.BaseSampler:
    """BoTorch's Gaussian processes: qLogEHVI for a front, qEI for one objective; what is running counts, too.

    Raises ConfigError where the packages are not installed.
    """
    try:
        from optuna_integration import BoTorchSampler

        sampler: optuna.samplers.BaseSampler = BoTorchSampler(
            n_startup_trials=n_startup_trials, consider_running_trials=True, seed=seed
        )
    except ImportError as error:
        raise ConfigError("search=botorch needs BoTorch: pip install 'autoprune-lab[botorch]'") from error
    return sampler


def grid(space: Space, points: int, order: int) -> optuna.samplers.GridSampler:
    """Every combination of the space's choices and steps, or of `points` values of a range, in an order from a seed.

    Raises ConfigError for a space with groups, whose options have different dimensions.
    """
    if space.groups:
        raise ConfigError(f"search=grid cannot search the group {space.groups[0].path}: take another search")
    return optuna.samplers.GridSampler({d.name: d.grid(points) for d in space.dimensions}, seed=order)
