"""Tunes an adaptive policy and its fixed twin alike, and measures what adaptivity is worth on the report split."""

import sys
from collections.abc import Mapping
from pathlib import Path

import optuna

from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.statistics.adaptivity import ADAPTIVE as ADAPTIVE_ARM
from autoprune_lab.statistics.adaptivity import FIXED, MEAN, AdaptivityReport, adaptivity_report
from search.config.compose import Settings
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.paths import select
from search.results import study_result
from search.results.text_table import table
from search.study import loop, preflight
from search.study.front import point_of
from search.study.model_evaluator import open_evaluator, weights_mark
from search.study.objective import PRUNER, Objective
from search.study.storage import StudyStorage
from search.study.trials import feasible

ADAPTIVE, CONSTANT = "adaptive", "constant"
ESTIMATOR = ("complexity=", "pruner.complexity.")  # how words about it begin


def measure(experiment: Experiment, n_shuffles: int) -> AdaptivityReport:
    """Check both searches, run what is missing of them, answer the report split with every arm."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = experiment.settings
    if not experiment.pruner().policy.adaptive:
        raise ConfigError(
            f"policy={settings.choices['policy']} is not adaptive: choose one whose shape uses complexity"
        )
    twins = {name: Experiment.compose(words, settings.folders) for name, words in twin_words(settings).items()}
    checkpoints = {name: preflight.check_study(twin) for name, twin in twins.items()}
    vlm = experiment.model
    tuned = {name: tune(twin, checkpoints[name], vlm) for name, twin in twins.items()}
    report = open_evaluator(vlm, experiment.report_task, experiment.typed, progress=sys.stderr.isatty())
    bits = report.complexities(tuned[ADAPTIVE])
    run = report.run_with_complexities
    return adaptivity_report(run, tuned[ADAPTIVE], tuned[CONSTANT], bits, n_shuffles, settings.typed.seed)


def twin_words(settings: Settings) -> Mapping[str, list[str]]:
    """The command lines of both searches: at the budget itself, not below it; the fixed twin is told 0 bits of all."""
    words = [word for word in settings.overrides if not word.startswith(("study=", *ESTIMATOR))]
    bounds = [f"space.pruner.budget.{unit}" for unit in ("flops_ratio", "mean_tokens")]
    words += [f"~{path}" for path in bounds if select(settings.config, path) is not None]
    own = [word for word in settings.overrides if word.startswith(ESTIMATOR)]
    study = settings.typed.study
    return {
        ADAPTIVE: [*words, *own, f"study={study}-{ADAPTIVE}"],
        CONSTANT: [*words, "complexity=constant", f"study={study}-{CONSTANT}"],
    }


def tune(experiment: Experiment, checkpoint: Path, vlm: VLM) -> Pruner:
    """The pruner of the study's best trial, the study run as far as it is not there yet."""
    study = loop.open_study(StudyStorage.of(experiment.typed), experiment.made_of(weights_mark(checkpoint)))
    preflight.tell_pinned(experiment.typed)
    loop.enqueue(study, experiment.baselines)
    evaluator = open_evaluator(vlm, experiment.task, experiment.typed, progress=sys.stderr.isatty())
    objective = Objective.of(experiment, evaluator)
    loop.run(study, objective, experiment)
    study_result.write(study, experiment.settings)
    if not (found := feasible(study)):
        raise ConfigError(f"study {experiment.name}: no trial is within the budget; raise it or the trials")
    best = max(found, key=lambda trial: (point_of(trial)[1], -point_of(trial)[0]))
    return experiment.stored_pruner(best.user_attrs.get(PRUNER), f"study {study.study_name}, trial {best.number}")


def arms_table(report: AdaptivityReport) -> str:
    """One row an arm: cost, score, and what the adaptive arm gains on it."""
    gains = {FIXED: report.fixed, MEAN: report.mean}
    names = [name for name in report.arms.records if name != ADAPTIVE_ARM]
    gains |= {name: report.arms.difference(ADAPTIVE_ARM, [name]) for name in names if name not in gains}
    rows = [
        (name, records.flops_ratio, str(report.arms.score(name)), str(gains[name]) if name in gains else "")
        for name, records in report.arms.records.items()
    ]
    return table(["arm", "FLOPs ratio", "score [95 % interval]", "the adaptive arm gains"], rows)
