"""Tunes an adaptive policy and its fixed twin alike, and measures what adaptivity is worth on the report split."""

import sys
from collections.abc import Mapping

import optuna
from omegaconf import OmegaConf

from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.statistics.adaptivity import ADAPTIVE as ADAPTIVE_ARM
from autoprune_lab.statistics.adaptivity import FIXED, MEAN, AdaptivityReport, adaptivity_report
from search.config.compose import ConfigError, Settings, compose
from search.config.instantiate import build_pruner, stored_pruner
from search.results import study_result
from search.results.fronts import point_of
from search.results.text_table import table
from search.study import loop, model_evaluator, preflight
from search.study.objective import PRUNER, Objective
from search.study.preflight import CheckedStudy
from search.study.trials import feasible

ADAPTIVE, CONSTANT = "adaptive", "constant"


def measure(settings: Settings, n_shuffles: int) -> AdaptivityReport:
    """Check both searches, run what is missing of them, answer the report split with every arm."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not build_pruner(settings.config).policy.adaptive:
        raise ConfigError(
            f"policy={settings.choices['policy']} is not adaptive: choose one whose shape uses complexity"
        )
    twins = {name: compose(words, settings.folders) for name, words in twin_words(settings).items()}
    checked = {name: preflight.check_study(twin) for name, twin in twins.items()}
    vlm = model_evaluator.load(settings.config)
    tuned = {name: tune(twin, checked[name], vlm) for name, twin in twins.items()}
    report = model_evaluator.open_evaluator(vlm, preflight.report_config(settings), progress=sys.stderr.isatty())
    bits = report.complexities(tuned[ADAPTIVE])
    return adaptivity_report(report.run_told, tuned[ADAPTIVE], tuned[CONSTANT], bits, n_shuffles, settings.typed.seed)


def twin_words(settings: Settings) -> Mapping[str, list[str]]:
    """The command lines of both searches: at the budget itself, not below it; the fixed twin is told 0 bits of all."""
    words = [word for word in settings.overrides if not word.startswith(("study=", "complexity="))]
    if OmegaConf.select(settings.config, "space.pruner.budget") is not None:
        words.append("~space.pruner.budget")
    own = [word for word in settings.overrides if word.startswith("complexity=")]
    study = settings.typed.study
    return {
        ADAPTIVE: [*words, *own, f"study={study}-{ADAPTIVE}"],
        CONSTANT: [*words, "complexity=constant", f"study={study}-{CONSTANT}"],
    }


def tune(settings: Settings, checked: CheckedStudy, vlm: VLM) -> Pruner:
    """The pruner of the study's best trial, the study run as far as it is not there yet."""
    made_of = loop.settings_print(settings, model_evaluator.weights_mark(checked.checkpoint))
    study = loop.open_study(settings.out, settings.typed.study, made_of)
    preflight.tell_pinned(settings)
    loop.enqueue(study, checked.baselines)
    opened = model_evaluator.open_evaluator(vlm, settings.config, progress=sys.stderr.isatty())
    loop.run(study, Objective(settings.config, settings.typed.budget, checked.space, opened), settings)
    study_result.write(study, settings)
    if not (found := feasible(study)):
        raise ConfigError(f"study {settings.typed.study}: no trial is within the budget; raise it or the trials")
    best = max(found, key=lambda trial: (point_of(trial)[1], -point_of(trial)[0]))
    return stored_pruner(best.user_attrs.get(PRUNER), settings.config, f"study {study.study_name}, trial {best.number}")


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
