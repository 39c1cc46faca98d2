"""Finds every mistake that can be found before a model is loaded. Writes nothing."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.curve import Shape
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.records import Record
from search.config.errors import ConfigError, close
from search.config.experiment import Experiment
from search.config.goal import OWN_SCORE
from search.config.schema import BudgetSettings, Schema
from search.study import samplers
from search.study.calibrator import check_calibrated
from search.study.planned import planned
from search.study.slopes import reads_slopes

if TYPE_CHECKING:
    from autoprune_lab.tasks.base import Task


def check_evaluation(experiment: Experiment, pruner: Pruner) -> Path:
    """Check model, task and that the pruner's budget is reachable; return the checkpoint's folder.

    Raises ConfigError, or the CheckpointError or BudgetError that says why.
    """
    check_calibrated(pruner, "pruner.complexity")
    folder, geometries = prompts(experiment.model_settings, experiment.task)
    _check_positions(experiment.model_settings, folder, [pruner])
    bits = np.zeros(len(geometries))
    try:
        pruner.calibrated(bits, geometries).plan(bits, geometries)
    except BudgetError:
        raise
    except ValueError as error:
        raise ConfigError(f"pruner: {error}") from error
    return folder


def check_study(experiment: Experiment) -> Path:
    """Check everything from the checkpoint's files to the space's ends; return the checkpoint's folder.

    Raises as `check_evaluation` does.
    """
    typed = experiment.typed
    pruner = experiment.pruner()
    folder, geometries = prompts(experiment.model_settings, experiment.task)
    try:
        corners = _corners(experiment)
    except ConfigError:
        _check_bounds(typed.budget, geometries, [pruner])  # it is why a range below the bound is empty
        raise
    _check_bounds(typed.budget, geometries, [pruner, *corners])
    _check_positions(experiment.model_settings, folder, [pruner, *corners])
    _check_pinned(typed, [pruner, *corners], geometries)
    _ = experiment.baselines  # built here, as are the next, so that a mistake is told before a model is loaded
    samplers.check(experiment)
    _check_limits(experiment)
    _check_score(experiment)
    _check_least_gain(experiment)
    _check_slopes(experiment)
    _ = experiment.tracking
    for name, arm in experiment.arms.items():
        check_calibrated(arm, f"report.arms.{name}")
    _check_report(experiment)
    _check_episodes(experiment)
    return folder


def tell_pinned(typed: Schema) -> None:
    """Say in a line what this study does not search."""
    if pinned := typed.search.pinned:
        print(f"autoprune: study {typed.study}: not searched, for it was typed: {', '.join(pinned)}", file=sys.stderr)


def _check_positions(model: Mapping[str, Any], folder: Path, pruners: Sequence[Pruner]) -> None:
    """Raise ConfigError where positions are renumbered that the model cannot have renumbered; no weights are read."""
    if all(pruner.positions == "original" for pruner in pruners):
        return
    from autoprune_lab.decoder.positions import check_compact_by
    from autoprune_lab.models.checkpoint import model_config

    trusted = bool(model.get("trust_remote_code"))
    config, _ = model_config(folder, trusted)
    try:
        check_compact_by(config, trusted)
    except ValueError as error:
        raise ConfigError(f"pruner: {error}") from error


def _check_report(experiment: Experiment) -> None:
    """Raise ConfigError where the report would be on samples that trials see."""
    on_report, on_tune = experiment.report_settings(), experiment.settings.config["task"]
    changed = {name for name in on_report if on_report[name] != on_tune.get(name)}
    if changed <= {"per_kind"} or "all" in (on_report.get("split"), on_tune.get("split")):
        raise ConfigError("report.task gives samples that trials see: use task.split=tune and report.task.split=report")
    _tell(experiment.report_task)


def _check_episodes(experiment: Experiment) -> None:
    """Raise ConfigError where what is played after the report is no closed loop, or what trials have played."""
    if (task := experiment.episodes) is None:
        return
    if not task.closed_loop:
        raise ConfigError(
            f"report.episodes: task {task.name} answers once a sample: name a closed loop, such as "
            "autoprune_lab.tasks.driving_closed_loop.DrivingClosedLoopTask, or null"
        )
    if task.name == experiment.task.name and {s.id for s in task.samples()} & {s.id for s in experiment.task.samples()}:
        raise ConfigError("report.episodes gives episodes that trials play: use report.episodes.split=report")


def _corners(experiment: Experiment) -> list[Pruner]:
    """The pruners at the ends of the space; raises ConfigError where one is refused."""
    pruners = []
    for where, changes in experiment.space.corners():
        try:
            pruners.append(experiment.pruner(changes))
        except ConfigError as error:
            raise ConfigError(f"space: with {where}, {error}") from error
    return pruners


def _check_pinned(typed: Schema, pruners: list[Pruner], geometries: list[Geometry]) -> None:
    """Raise ConfigError where what was typed leaves nothing to try: the config and the space's ends are all refused."""
    pinned = typed.search.pinned
    reasons = [_refusal(pruner, typed.budget, geometries) for pruner in pruners] if pinned else [""]
    if all(reasons):
        raise ConfigError(f"{', '.join(pinned)}: every trial would be refused: {reasons[0]}")


def _refusal(pruner: Pruner, bound: BudgetSettings, geometries: list[Geometry]) -> str:
    """Why a trial of this pruner would not run, as far as prompts of these sizes show it; empty where it would."""
    bits = np.zeros(len(geometries))
    try:
        ready = pruner.calibrated(bits, geometries)
        ready.plan(bits, geometries)
        least = min(
            (planned(ready, bits[:1], [geometry]) for geometry in geometries), key=lambda plan: plan.over(bound)
        )
    except ValueError as error:
        return str(error)
    return f"it costs {least.flops_ratio:.4f} of the unpruned prefill, over the bound" if least.over(bound) > 0 else ""


def _check_limits(experiment: Experiment) -> None:
    """Does the task give the figures that are limited? It is asked as if nothing had been answered."""
    if not experiment.goal.limits:
        return
    task = experiment.task
    rows = [Record(s.id, s.kind, "", s.answers, 0.0, None, 1, 1, 1.0, 1, 1, 0, 1, 1, 1.0, (1,)) for s in task.samples()]
    known = list(task.summary(rows))
    for name in experiment.goal.limits:
        if name not in known:
            listed = f"its figures: {', '.join(known)}" if known else "it gives none"
            raise ConfigError(f"search.limits.{name}: the task has no such figure{close(name, known)}; {listed}")


def _check_score(experiment: Experiment) -> None:
    """Raise ConfigError for a score without labels in a closed loop, where the unpruned model is shown other things."""
    task, score = experiment.task, experiment.goal.score
    if score != OWN_SCORE and task.closed_loop:
        raise ConfigError(f"search.score={score}: task {task.name} is a closed loop, scored by itself: leave it out")


def _check_least_gain(experiment: Experiment) -> None:
    """Raise ConfigError in a closed loop, where the cost of a trial follows from its answers."""
    task, least = experiment.task, experiment.typed.search.least_gain
    if least is not None and task.closed_loop:
        raise ConfigError(
            f"search.least_gain={least}: task {task.name} is a closed loop, whose cost is not known before"
        )


def _check_slopes(experiment: Experiment) -> None:
    """Raise ConfigError where the sampler asks for gradients, and the pruner or the task has none."""
    if not reads_slopes(experiment):
        return
    from autoprune_lab.decoder.gates import WITH_GATES
    from autoprune_lab.evaluation.gradients import check_gradients

    if (attention := experiment.typed.model.get("attention", "sdpa")) not in WITH_GATES:
        raise ConfigError(
            f"search.sampler: model.attention={attention} has no gradient to tokens: use {' or '.join(WITH_GATES)}"
        )
    if experiment.task.closed_loop:
        raise ConfigError(f"search.sampler: task {experiment.task.name} is a closed loop, which has no gradient")
    try:
        check_gradients(experiment.pruner())
    except ValueError as error:
        raise ConfigError(f"search.sampler: {error}") from error


def _check_bounds(limit: BudgetSettings, geometries: list[Geometry], pruners: list[Pruner]) -> None:
    bounds = [Budget(flops_ratio=limit.flops_ratio)] if limit.flops_ratio is not None else []
    bounds += [Budget(mean_tokens=limit.mean_tokens)] if limit.mean_tokens is not None else []
    for bound in bounds:
        ways = [(replace(bound, opening=p.opening), p.probe_layer) for p in pruners]
        _check_reachable(ways, np.zeros(geometries[0].n_layers), geometries)


def prompts(model: Mapping[str, Any], task: "Task") -> tuple[Path, list[Geometry]]:
    """The checkpoint's folder, and the sizes of the task's prompts (of a benchmark, the extreme ones).

    `model`: the arguments that load it. No weights are read.
    """
    from autoprune_lab.decoder.anatomy import geometry_by
    from autoprune_lab.evaluation.prompts import check_answers, extremes, prompt_lengths
    from autoprune_lab.models.checkpoint import check_checkpoint, load_processor, model_config
    from autoprune_lab.models.placement import Placement
    from autoprune_lab.models.processor import refuse_videos
    from autoprune_lab.tasks.drawn import spread

    Placement(**{field: model[field] for field in Placement.__dataclass_fields__ if field in model}).check()
    trusted, strict = bool(model.get("trust_remote_code")), bool(model.get("strict", True))
    folder = check_checkpoint(str(model["path"]), model.get("revision"), trusted, strict)
    _tell(task)
    config, visual_ids = model_config(folder, trusted)
    processor, samples = load_processor(folder, trusted), spread(task.samples())
    check_answers(processor, task)
    if any(sample.videos for sample in samples):
        refuse_videos(processor)
    lengths = prompt_lengths(processor, visual_ids, extremes(samples))
    try:
        decoder = geometry_by(config, trusted)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    return folder, [decoder.with_tokens(*pair) for pair in dict.fromkeys(lengths)]


def _tell(task: "Task") -> None:
    """What the user should know about the task's samples; finds what is wrong with them."""
    for note in task.notes():
        print(f"autoprune: {note}", file=sys.stderr)


def _check_reachable(ways: list[tuple[Budget, int]], shape: Shape, geometries: list[Geometry]) -> None:
    """Raise BudgetError for the prompt with the highest floor, if that is above the bound in every way.

    A way is the bound, with an opening or without, and a probe layer.
    """

    def floors(budget: Budget, probe: int) -> list[float]:
        return [budget.floor(shape, geometry, probe + 1) for geometry in sighted]

    if sighted := [geometry for geometry in geometries if geometry.n_vision]:
        budget, probe = min(ways, key=lambda way: max(floors(*way)))
        budget.fit(shape, sighted[int(np.argmax(floors(budget, probe)))], probe + 1)
