"""Tunes an adaptive policy and its fixed twin alike, and measures what adaptivity is worth on the report split."""

import sys
from collections.abc import Mapping

import optuna
from omegaconf import OmegaConf

from autoprune_lab.adaptivity import ADAPTIVE as ADAPTIVE_ARM
from autoprune_lab.adaptivity import FIXED, MEAN, AdaptivityReport, adaptivity_report
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from search import bench, preflight, results
from search import study as studies
from search.arm import build_pruner, stored_pruner
from search.config import ConfigError, Settings, compose
from search.fronts import point_of
from search.objective import PRUNER, Objective
from search.preflight import CheckedStudy
from search.table import table
from search.trials import feasible

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
    vlm = bench.load(settings.config)
    tuned = {name: tune(twin, checked[name], vlm) for name, twin in twins.items()}
    report = bench.open_bench(vlm, preflight.report_config(settings), progress=sys.stderr.isatty())
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
    made_of = studies.settings_print(settings, bench.weights_mark(checked.checkpoint))
    study = studies.open_study(settings.out, settings.typed.study, made_of)
    preflight.tell_pinned(settings)
    studies.enqueue(study, checked.baselines)
    opened = bench.open_bench(vlm, settings.config, progress=sys.stderr.isatty())
    studies.run(study, Objective(settings.config, settings.typed.budget, checked.space, opened), settings)
    results.write(study, settings)
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
