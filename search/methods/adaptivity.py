"""What adaptivity is worth on the report split: an adaptive policy and its fixed twin, tuned alike, below a ceiling.

The needs of the kinds come first: they say at which budgets there is anything to win (`Bench.needs`). At each budget
both searches are run as far as they are not there yet, and every arm answers the report split (`Bench.compare`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.schedule.opening import left_open
from autoprune_lab.schedule.policy import Signal
from autoprune_lab.statistics.adaptivity import ADAPTIVE as ADAPTIVE_ARM
from autoprune_lab.statistics.adaptivity import FIXED, MEAN, AdaptivityReport, adaptivity_report
from autoprune_lab.statistics.needs import Needs, needs
from autoprune_lab.statistics.replay import Curve, rectangles
from autoprune_lab.tasks.base import Task
from search.config.compose import Settings, compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.overrides import changed_keys
from search.config.paths import select
from search.methods.ceiling import Arm, Bound, Ceiling, staircases
from search.results import study_result
from search.study import loop, preflight
from search.study.front import point_of
from search.study.model_evaluator import ModelEvaluator, open_evaluator, weights_mark
from search.study.objective import PRUNER, Objective
from search.study.replay import replay, unpruned_scores
from search.study.storage import StudyStorage
from search.study.trials import feasible

ADAPTIVE, CONSTANT = "adaptive", "constant"
ESTIMATOR = ("complexity=", "pruner.complexity.")  # how words about it begin
UNPRUNED, SHUFFLED = "unpruned", "shuffled numbers"
UNITS = ("flops_ratio", "mean_tokens")
BUDGETS = (*(f"budget.{unit}" for unit in UNITS), *(f"pruner.budget.{unit}" for unit in UNITS))
STEPS = 6  # of the grid's depths, those where the oracle's staircases may step


@dataclass(frozen=True, eq=False)
class Compared:
    """All arms at one budget, in the table's order; `report` is about `adaptive` and `fixed`, both chosen on tune."""

    bound: Bound
    kinds: tuple[str, ...]
    arms: tuple[Arm, ...]
    report: AdaptivityReport
    adaptive: Pruner
    fixed: Pruner

    @property
    def in_mean(self) -> bool:
        """Is the budget one of the mean over samples?"""
        return isinstance(self.adaptive.budget, MeanBudget)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True)
class Bench:
    """An experiment whose adaptive policy is asked about; `grid` depths and as many token counts make the needs."""

    experiment: Experiment
    grid: int = 10

    def check(self) -> Path:
        """Find every mistake that can be found before a model is loaded; return the checkpoint's folder."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        settings, pruner = self.experiment.settings, self.experiment.pruner()
        if not pruner.policy.adaptive:
            raise ConfigError(
                f"policy={settings.choices['policy']} is not adaptive: choose one whose shape uses complexity"
            )
        if not self.typed and not isinstance(pruner.budget, Budget | MeanBudget):
            raise ConfigError(
                f"budget={settings.choices['budget']} is not scaled to a bound that could be chosen: type "
                "budget.flops_ratio=RATIO or budget.mean_tokens=N, or take budget=flops or budget=mean"
            )
        loosest = None
        if not self.typed:
            _, geometries = preflight.prompts(self.experiment.model_settings, self.experiment.task)
            loosest = float(max(geometry.n_vision for geometry in geometries))
        folders = [preflight.check_study(twin) for twin in self.twins(loosest).values()]
        return folders[0]

    @property
    def typed(self) -> bool:
        """Was a budget typed? Then it is the only one."""
        return bool(changed_keys(self.experiment.settings.overrides) & {*BUDGETS})

    @property
    def folder(self) -> Path:
        """Where tables and pictures are written, beside the studies."""
        return self.experiment.out.parent / f"{self.experiment.name}-adaptivity"

    @property
    def title(self) -> str:
        """Of pictures: policy, model, task."""
        typed, choices = self.experiment.typed, self.experiment.settings.choices
        return f"{choices['policy']}, {Path(str(typed.model['path'])).name}, {self.experiment.task.name}"

    def described(self, n_budgets: int) -> str:
        """What would run, in lines."""
        trials = self.experiment.typed.search.n_trials
        budgets = "1 budget, as typed" if self.typed else f"{n_budgets} budgets inside the window of the needs"
        n_staircases = len(staircases(range(1, STEPS + 1), STEPS))
        return (
            f"needs: up to {self.grid} depths x {self.grid} token counts, replayed on the tune split\n"
            f"searches: {budgets}, 2 x {trials} trials each\n"
            f"ceiling: up to {n_staircases} staircases a budget and scorer, on either split\n"
            f"files: {self.folder}"
        )

    @cached_property
    def on_tune(self) -> ModelEvaluator:
        """What trials see, and curves are chosen on."""
        return self._open(self.experiment.task)

    @cached_property
    def on_report(self) -> ModelEvaluator:
        """What arms are scored on."""
        return self._open(self.experiment.report_task)

    @cached_property
    def depths(self) -> list[int]:
        """Of the grid: numbers of layers with visual tokens, those up to the probe the least."""
        first, last = max(self._free_from, 1), self.on_tune.geometries[0].n_layers
        return [int(depth) for depth in np.unique(np.geomspace(first, last, self.grid).round())]

    @cached_property
    def rectangles(self) -> list[Curve]:
        """The grid "so many tokens for so many layers, then none", the layers up to the probe as they are."""
        entering = max(self._entering)
        fractions = np.unique(np.geomspace(1, entering, self.grid).round()) / entering
        return rectangles(self.depths, fractions.tolist(), self.on_tune.geometries[0].n_layers, self._free_from)

    @cached_property
    def staircases(self) -> list[Curve]:
        """Shapes of one to three steps, for the oracle and hindsight."""
        places = np.unique(np.linspace(0, len(self.depths) - 1, STEPS).round()).astype(int)
        return staircases([self.depths[i] for i in places], self.on_tune.geometries[0].n_layers)

    @cached_property
    def needs(self) -> Needs:
        """The needs of the kinds on the tune split."""
        pruner, kinds = self.experiment.pruner(), [sample.kind for sample in self.on_tune.prepared.samples]
        grid = replay(self.on_tune, pruner, self.rectangles)
        n_vision = float(np.mean([geometry.n_vision for geometry in self.on_tune.geometries]))
        return needs(grid, unpruned_scores(self.on_tune), kinds, n_vision, self._free_from)

    def budgets(self, n: int) -> Sequence[float | None]:
        """`n` budgets in mean visual tokens, inside the window of the needs; [None] for the one that was typed."""
        return [None] if self.typed else self.needs.budgets(n)

    def compare(self, tokens: float | None, checkpoint: Path, n_shuffles: int) -> Compared:
        """Tune both twins at the budget, answer the report split with every arm. None: the budget that was typed."""
        twins = self.twins(tokens)
        tuned = {name: self._tune(twin, checkpoint) for name, twin in twins.items()}
        bound = _bound(twins[ADAPTIVE])
        splits, base = (self.on_tune, self.on_report), self.experiment.pruner()
        ceiling = Ceiling(*splits, bound, self.rectangles, self.staircases, base, tuned[ADAPTIVE], tuned[CONSTANT])
        adaptive, fixed = _better(ceiling, tuned[ADAPTIVE], ceiling.table), ceiling.best_fixed
        bits, seed = self.on_report.complexities(adaptive), self.experiment.typed.seed
        report = adaptivity_report(self.on_report.run_with_complexities, adaptive, fixed, bits, n_shuffles, seed)
        records = report.arms.records
        told = {name: Arm.of(name, [records[name]]) for name in (FIXED, ADAPTIVE_ARM, MEAN)}
        others = [one for name, one in records.items() if name not in told]
        arms = [
            ceiling.unpruned(UNPRUNED),
            told[FIXED],
            told[ADAPTIVE_ARM],
            Arm.of(SHUFFLED, others),
            told[MEAN],
            *ceiling.arms(),
        ]
        kinds = tuple(sample.kind for sample in self.on_report.prepared.samples)
        return Compared(bound, kinds, tuple(arms), report, adaptive, fixed)

    def twins(self, tokens: float | None = None) -> dict[str, Experiment]:
        """Both searches, at so many mean visual tokens or at the budget that was typed."""
        folders = self.experiment.settings.folders
        words = twin_words(self.experiment.settings, tokens)
        words[CONSTANT] += [f"~{ESTIMATOR[1]}{name}" for name in _foreign(compose(words[CONSTANT], folders))]
        twins = {name: Experiment.compose(said, folders) for name, said in words.items()}
        if idle := without_effect(twins[CONSTANT]):
            baselines = [
                "{" + ", ".join(f"{path}: {json.dumps(value)}" for path, value in one.items() if path not in idle) + "}"
                for one in twins[CONSTANT].typed.search.baselines
            ]
            said = [f"search.baselines=[{', '.join(dict.fromkeys(baselines))}]", *(f"~space.{path}" for path in idle)]
            twins[CONSTANT] = Experiment.compose([*words[CONSTANT], *said], folders)
        return twins

    @property
    def _free_from(self) -> int:
        return self.experiment.pruner().probe_layer + 1

    @property
    def _entering(self) -> list[int]:
        """Visual tokens of each sample that enter layer 0."""
        n_vision = np.array([geometry.n_vision for geometry in self.on_tune.geometries])
        return [int(count) for count in left_open(self.experiment.pruner().opening, n_vision)]

    def _open(self, task: Task) -> ModelEvaluator:
        return open_evaluator(self.experiment.model, task, self.experiment.typed, progress=True)

    def _tune(self, twin: Experiment, checkpoint: Path) -> Pruner:
        """The pruner of the study's best trial, the study run as far as it is not there yet."""
        study = loop.open_study(StudyStorage.of(twin.typed), twin.made_of(weights_mark(checkpoint)))
        preflight.tell_pinned(twin.typed)
        loop.enqueue(study, twin.baselines)
        loop.run(study, Objective.of(twin, self.on_tune), twin)
        study_result.write(study, twin.settings)
        if not (found := feasible(study)):
            raise ConfigError(f"study {twin.name}: no trial is within the budget; raise it or the trials")
        best = max(found, key=lambda trial: (point_of(trial)[1], -point_of(trial)[0]))
        return twin.stored_pruner(best.user_attrs.get(PRUNER), f"study {study.study_name}, trial {best.number}")


def twin_words(settings: Settings, tokens: float | None = None) -> dict[str, list[str]]:
    """The command lines of both searches: at the budget itself, not below it; the fixed twin is told 0 bits of all.

    `tokens`: the budget in mean visual tokens, also part of the studies' names; None: what was typed.
    """
    words = [word for word in settings.overrides if not word.startswith(("study=", *ESTIMATOR))]
    bounds = [f"space.pruner.budget.{unit}" for unit in UNITS]
    words += [f"~{path}" for path in bounds if select(settings.config, path) is not None]
    study = settings.typed.study
    if tokens is not None:
        values = {"flops_ratio": "null", "mean_tokens": f"{tokens:g}"}
        words += [f"{place}.{unit}={value}" for place in ("budget", "pruner.budget") for unit, value in values.items()]
        study = f"{study}-{tokens:g}"
    own = [word for word in settings.overrides if word.startswith(ESTIMATOR)]
    return {
        ADAPTIVE: [*words, *own, f"study={study}-{ADAPTIVE}"],
        CONSTANT: [*words, "complexity=constant", f"study={study}-{CONSTANT}"],
    }


def _foreign(constant: Settings) -> list[str]:
    """Fields that an experiment sets of its own estimator, which the constant number does not have."""
    return [
        name for name in select(constant.config, "pruner.complexity") if name not in ("_target_", "_partial_", "bits")
    ]


def without_effect(experiment: Experiment) -> list[str]:
    """Dimensions of a table's policy that do nothing where every sample has the number 0: its other rows, its edges.

    A policy whose fields hold rows is a table. In the space, what has no effect would cost the fixed twin trials.
    """
    space, own = experiment.space, experiment.pruner().policy
    if not any(isinstance(value, tuple) and isinstance(next(iter(value), 0), tuple) for value in vars(own).values()):
        return []
    corners = [{}, *(changes for _, changes in space.corners())]
    idle = []
    for dimension in space.dimensions:
        if not dimension.path.startswith("pruner.policy.") or dimension.type == "categorical":
            continue
        shapes = [
            [experiment.pruner({**corner, dimension.path: end}).policy.shape(Signal(64)) for end in dimension.ends()]
            for corner in corners
        ]
        if all(np.array_equal(low, high) for low, high in shapes):
            idle.append(dimension.path)
    return idle


def _better(ceiling: Ceiling, tuned: Pruner, table: Pruner | None) -> Pruner:
    """Of the adaptive pruners that the search found and the pool gave, the one with the better tune score."""
    if table is None or ceiling.on_tune_score(tuned) > ceiling.on_tune_score(table):
        return tuned
    return table


def _bound(twin: Experiment) -> Bound:
    """The budget of a twin: its pruner's own, else what no trial may pass."""
    for place in (twin.pruner().budget, twin.bound):
        for unit in UNITS:
            if isinstance(value := getattr(place, unit, None), int | float):
                return Bound(unit, float(value))
    raise ConfigError("the experiment has no budget: type budget.flops_ratio=RATIO or budget.mean_tokens=N")
