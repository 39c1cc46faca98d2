"""The ranges of the config's values that have no class of their own to check them."""

import math
from pathlib import PurePath

from search.config import threads
from search.config.errors import ConfigError, close
from search.config.goal import COSTS, FRONT, KL, LATENCY, MODES, OWN_SCORE, SCORES
from search.config.schema import Schema, SearchSettings


def check(typed: Schema) -> None:
    """Raise ConfigError naming the key, the bound and the remedy."""
    check_name(typed.study)
    _check_bounds(typed)
    _check_goal(typed)
    least = {
        "search.n_trials": typed.search.n_trials,
        "search.blocks": typed.search.blocks,
        "search.workers": typed.search.workers,
        "search.heartbeat": typed.search.heartbeat,
        "batch_size": typed.batch_size,
        "report.points": typed.report.points,
        "calibration.depths": typed.calibration.filled().depths,
    }
    for key, number in least.items():
        if number < 1:
            raise ConfigError(f"{key}={number} must be at least 1")
    for fraction in typed.calibration.filled().fractions:
        if not 0 < fraction <= 1:
            raise ConfigError(f"calibration.fractions: {fraction} is outside (0, 1]")
    threads.check(typed.threads)
    finite = {
        "features_gib": typed.features_gib,
        "prefix_gib": typed.prefix_gib,
        "search.patience": typed.search.patience,
    }
    for key, value in finite.items():
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"{key}={value} must be a finite number of at least 0")


def check_name(study: str) -> None:
    """It names a folder below `folder`, and nothing outside it."""
    place = PurePath(study)
    if study.strip() in ("", ".") or place.is_absolute() or ".." in place.parts or not study.isprintable():
        raise ConfigError(
            f"study={study!r} names no folder below folder=: take a name such as study=mine; elsewhere: folder=DIR"
        )


def _check_bounds(typed: Schema) -> None:
    bound = typed.budget
    if bound.flops_ratio is not None and not 0 < bound.flops_ratio <= 1:
        raise ConfigError(
            f"budget.flops_ratio={bound.flops_ratio} is outside (0, 1]: give the share of the unpruned "
            "prefill FLOPs that may be spent, for example 0.35"
        )
    if bound.mean_tokens is not None and not 0 < bound.mean_tokens < float("inf"):
        raise ConfigError(f"budget.mean_tokens={bound.mean_tokens} must be a finite number above 0")
    for ratio in typed.report.ratios:
        if not 0 < ratio <= 1:
            raise ConfigError(f"report.ratios: {ratio} is outside (0, 1]")


def _check_goal(typed: Schema) -> None:
    search = typed.search
    score = search.score or OWN_SCORE
    named = (("mode", search.mode, MODES), ("cost", search.cost, COSTS), ("score", score, SCORES))
    for key, value, known in named:
        if value not in known:
            raise ConfigError(f"search.{key}={value} is unknown{close(value, known)}; choose from {', '.join(known)}")
    if search.least_gain is not None:
        _check_least_gain(search, search.least_gain)
    labelled = {"search.limits": search.limits, "calibration.labels": typed.calibration.labels}
    for key, asked in labelled.items():
        if asked and score != OWN_SCORE:
            raise ConfigError(
                f"{key}={asked} needs labels, which search.score={score} does not read: leave it out, or take "
                f"search.score={OWN_SCORE}"
            )
    for name, most in (search.limits or {}).items():
        if math.isnan(most):
            raise ConfigError(f"search.limits.{name}={most} must be a number")


def _check_least_gain(search: SearchSettings, least: float) -> None:
    said = f"search.least_gain={least}"
    if not 0 <= least < 1:
        raise ConfigError(f"{said} is outside [0, 1): give a part of the front's hypervolume, for example 0.001")
    needs = {
        f"search.mode={FRONT}": (search.mode == FRONT, f"with {search.mode} trials are stopped by search.pruner"),
        "a cost that is known before a trial runs": (search.cost != LATENCY, "not latency, which is measured"),
        "a score that is a mean over samples": (search.score != KL, f"not {KL}: take agreement or cosine"),
    }
    for what, (met, why) in needs.items():
        if not met:
            raise ConfigError(f"{said} needs {what}: {why}")
