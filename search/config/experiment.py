"""One experiment as objects: what Settings describe, each part built once, when it is first asked for.

This is the only place where config becomes code. Whoever runs an experiment takes its parts from here, and gives each
function the two or three that it needs.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.plugins.discovery import packages_of
from search.config.compose import Settings, compose
from search.config.dimension import Values
from search.config.errors import ConfigError
from search.config.goal import BEST, OWN_SCORE, Goal
from search.config.identity import made_of
from search.config.instantiate import build, build_pruner, check_targets
from search.config.paths import changed
from search.config.schema import BudgetSettings, Schema
from search.config.space import Space

if TYPE_CHECKING:
    import optuna

    from autoprune_lab.models.checkpoint import VLM
    from autoprune_lab.pruner import Pruner
    from autoprune_lab.tasks.base import Task


@dataclass(frozen=True)
class Experiment:
    """The parts of one experiment. Each raises ConfigError, when it is first asked for, where it cannot be built."""

    settings: Settings

    @classmethod
    def compose(cls, overrides: Sequence[str] = (), folders: Sequence[Path] = ()) -> "Experiment":
        """The experiment that KEY=VALUE words describe; raises ConfigError as `search.config.compose.compose` does."""
        return cls(compose(overrides, folders))

    @property
    def typed(self) -> Schema:
        """Its numbers, texts and paths."""
        return self.settings.typed

    @property
    def name(self) -> str:
        """The study's."""
        return self.typed.study

    @property
    def out(self) -> Path:
        """The study's own folder."""
        return self.settings.out

    @cached_property
    def task(self) -> "Task":
        """The questions that trials answer."""
        task: Task = build(self.settings.config["task"], "task")
        return task

    @cached_property
    def report_task(self) -> "Task":
        """The questions that no trial sees."""
        return self.report_task_with()

    def report_task_with(self, typed: Collection[str] = ()) -> "Task":
        """The same, but the fields of the task in `typed` stay as they were typed for it."""
        task: Task = build(self.report_settings(typed), "report.task")
        return task

    @cached_property
    def episodes(self) -> "Task | None":
        """The closed loop that is played after the report."""
        node = self.typed.report.episodes
        made: Task | None = None if node is None else build(node, "report.episodes")
        return made

    @cached_property
    def model(self) -> "VLM":
        """The checkpoint, loaded when it is first asked for."""
        from autoprune_lab.models.checkpoint import VLM

        vlm = build(self.settings.config["model"], "model")
        assert isinstance(vlm, VLM)
        return vlm

    @property
    def model_settings(self) -> Mapping[str, Any]:
        """The arguments that load the model; checked, and nothing loaded."""
        check_targets(self.settings.config["model"], "model")
        return self.typed.model

    @cached_property
    def packages(self) -> set[str]:
        """Those whose code the pruner, or any pruner in the space, is made of."""
        return packages_of([self.settings.config["pruner"], self.settings.config["space"]])

    def pruner(self, values: Mapping[str, Any] | None = None) -> "Pruner":
        """The pruner with these values at their paths, as a trial chose them; none: the config's own."""
        node = changed(self.settings.config, values or {})["pruner"]
        return build_pruner(node, packages_of(node), "pruner")

    def stored_pruner(self, node: Any, where: str) -> "Pruner":
        """A pruner that the study's storage holds; it may name code of `packages`. ConfigError begins with `where`."""
        return build_pruner(node, self.packages, where)

    @cached_property
    def space(self) -> Space:
        """What a trial may change."""
        return Space.of(self.settings.config)

    @cached_property
    def baselines(self) -> list[Values]:
        """The trials that are asked for first."""
        given = enumerate(self.typed.search.baselines)
        return [self.space.complete(one, self.settings.config, f"search.baselines[{i}]") for i, one in given]

    @cached_property
    def goal(self) -> Goal:
        """What is wanted of a trial."""
        search = self.typed.search
        return Goal(search.mode, search.cost, search.limits or {}, search.score or OWN_SCORE)

    @property
    def bound(self) -> BudgetSettings:
        """What no trial may pass."""
        return self.typed.budget

    def sampler(self, n_before: int, space: Space | None = None) -> "optuna.samplers.BaseSampler":
        """The sampler of the trial after `n_before` others: its `seed`, and `n_before` if it takes one, go by them.

        What the config calls `_partial_` is given the space.
        """
        import optuna

        node = dict(self.typed.search.sampler)
        if node.get("seed") is not None:
            node["seed"] = (int(node["seed"]) * 1_000_003 + n_before) % 2**32
        if "n_before" in node:
            node["n_before"] = n_before
        made = _of_optuna(node, "search.sampler")
        if isinstance(made, partial):
            made = made(space or self.space)
        if not isinstance(made, optuna.samplers.BaseSampler):
            raise ConfigError(f"search.sampler._target_ gives a {type(made).__name__}, expected a sampler of optuna")
        return made

    @cached_property
    def stopper(self) -> "optuna.pruners.BasePruner":
        """What stops trials of a study for the best score; with two objectives optuna can stop none."""
        import optuna

        node = self.typed.search.pruner
        check_targets(node, "search.pruner")
        if node is None or self.goal.mode != BEST:
            return optuna.pruners.NopPruner()
        made = _of_optuna(node, "search.pruner")
        if not isinstance(made, optuna.pruners.BasePruner):
            raise ConfigError(f"search.pruner._target_ gives a {type(made).__name__}, expected a pruner of optuna")
        return made

    @cached_property
    def launcher(self) -> Any:
        """What starts the workers: `search.study.launchers`."""
        return build(self.settings.config["launcher"], "launcher")

    @cached_property
    def tracking(self) -> Any:
        """Where the study is mirrored: `search.tracking.settings`; None for nowhere."""
        node = self.settings.config["tracking"]
        return None if node is None else build(node, "tracking")

    @cached_property
    def arms(self) -> "dict[str, Pruner]":
        """The pruners that the report compares with: the shipped config changed by words.

        They probe where this one does, and open as it does unless their own words say how.
        """
        arms = self.typed.report.arms.items()
        return {name: self._arm(name, overrides) for name, overrides in arms if overrides is not None}

    def report_settings(self, typed: Collection[str] = ()) -> dict[str, Any]:
        """The task's fields, those of `report.task` changed.

        Fields of `typed` stay as they were typed for the task, unless they were typed for the report too.
        """
        fields = {
            name: value
            for name, value in self.typed.report.task.items()
            if f"task.{name}" not in typed or {"report.task", f"report.task.{name}"} & {*typed}
        }
        return {**self.settings.config["task"], **fields}

    def made_of(self, weights: str = "") -> dict[str, Any]:
        """What two runs of this study must agree in; `weights` is the checkpoint's mark."""
        return made_of(self.settings, weights)

    def _arm(self, name: str, overrides: Sequence[str]) -> "Pruner":
        from autoprune_lab.schedule.budget import Budget

        own = self.pruner()
        try:
            other = Experiment.compose(overrides, self.settings.folders).pruner()
            if own.opening is not None and other.opening is None:
                opened = Budget(flops_ratio=1, opening=own.opening)  # the report sets its bound
                other = replace(other, budget=opened, opening_scorer=own.opening_scorer)
            return replace(other, probe_layer=own.probe_layer)
        except ValueError as error:  # a ConfigError, or the pruner's own
            raise ConfigError(f"report.arms.{name}: {error}") from error


def _of_optuna(node: Mapping[str, Any], key: str) -> Any:
    """What a config node describes, without optuna's notes on what is experimental."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return build(dict(node), key)
