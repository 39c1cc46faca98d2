"""An evaluator without a model: the score is arithmetic on the plan, so a study takes milliseconds; a narrow model."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from autoprune_lab.schedule.flops import prefill_flops, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.records import Record, Records
from search.cli import main
from search.config.experiment import Experiment
from search.results import report, study_result
from search.results.study import Study
from search.study import loop
from search.study.objective import Objective
from search.study.storage import StudyStorage

NO_ARMS = [f"~report.arms.{name}" for name in ("fixed", "layerwise", "random", "uniform")]  # {} would be merged in
SMALL = Geometry(
    n_layers=16, hidden=96, intermediate=264, n_heads=4, n_kv_heads=4, head_dim=24, n_vision=144, n_text=12
)


@dataclass(frozen=True)
class FakeOutcome:
    score: float
    flops_ratio: float

    def by_kind(self):
        return {"easy": self.score, "hard": self.score / 2}


@dataclass(frozen=True)
class FakeBlock:
    number: int
    is_last: bool
    outcome: FakeOutcome
    so_far: FakeOutcome


@dataclass
class FakeEvaluator:
    """Early layers matter more; `stop_at` interrupts that run, as Ctrl-C would."""

    stop_at: int | None = None
    nan_at: int | None = None
    geometries: tuple = tuple(replace(SMALL, n_text=n) for n in (9, 12, 15))
    n_blocks: int = 8
    blocks: int = 0
    closed_loop: bool = False
    runs: list = field(default_factory=list)

    def complexities(self, pruner):
        return np.array([0.2, 1.0, 2.5]) if pruner.policy.adaptive else np.zeros(3)

    def prompts(self, pruner):
        return self.complexities(pruner), self.geometries

    def figures(self, outcome):
        return {"collision_rate": 1 - outcome.score}

    def latency(self, pruner):
        return 0.25

    def count_gradients(self, pruner):
        """Of the score, without the mean over the samples."""
        counts = pruner.plan(self.complexities(pruner), self.geometries).tokens
        weights = np.linspace(1, 0.2, counts.shape[1])
        return weights / weights.sum() / (2 * np.sqrt(144 * np.maximum(counts, 0.5)))

    def run(self, pruner, after_block=None):
        if len(self.runs) == self.stop_at:
            self.stop_at = None
            raise KeyboardInterrupt
        self.runs.append(pruner)
        counts = pruner.plan(self.complexities(pruner), self.geometries).tokens
        spent = sum(prefill_flops(g, row) for g, row in zip(self.geometries, counts, strict=True))
        weights = np.linspace(1, 0.2, counts.shape[1])
        score = float((np.sqrt(counts / 144) * weights).sum() / weights.sum() / len(counts))
        score = float("nan") if len(self.runs) == self.nan_at else score
        outcome = FakeOutcome(score, spent / sum(map(unpruned_flops, self.geometries)))
        for i in range(self.n_blocks if after_block else 0):
            part = replace(outcome, score=score + 0.001 * (-1) ** i)
            after_block(FakeBlock(i, i == self.n_blocks - 1, part, outcome))
            self.blocks += 1
        return outcome


@dataclass
class FakeReportEvaluator(FakeEvaluator):
    """As a real model's, its outcomes are records: a sample is answered by every plan that is good enough for it."""

    n: int = 60

    def run(self, pruner):
        whole = FakeEvaluator.run(self, pruner) if pruner else FakeOutcome(1.0, 1.0)
        needs = np.random.default_rng(0).permutation(self.n) / self.n
        flops = round(whole.flops_ratio * 10**6)
        tokens = 144 * whole.flops_ratio
        costs = (tokens, flops, 10**6, 0, flops // 2, 10**6 // 2, tokens, ())
        rows = [
            Record(f"sample-{i}", ("even", "odd")[i % 2], "", (), float(need < whole.score), 0.5, 144, 12, *costs)
            for i, need in enumerate(needs)
        ]
        return Records(tuple(rows), 1.0)


def finished(folder: Path, name: str, *words: str) -> Study:
    """A small study on benches without a model, run, reported and read back."""
    return finish(settings(folder, f"study={name}", "search.n_trials=8", *words))


def finish(given: Experiment) -> Study:
    """The study as far as it is not there yet, without a model."""
    study = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    loop.run(study, objective(given, FakeEvaluator()), given)
    front = study_result.write(study, given.settings)
    tuned = report.tuned_pruners(study, given, front)
    report.evaluate_report(given.out, given.typed.report, front, tuned, given.arms, FakeReportEvaluator)
    return Study.read(given.out)


def settings(tmp_path: Path, *overrides: str) -> Experiment:
    return Experiment.compose([f"folder={tmp_path}", "tracking=none", "study=s", *overrides])


def objective(experiment: Experiment, evaluator: FakeEvaluator) -> Objective:
    experiment.pruner()
    return Objective.of(experiment, evaluator)


def save_narrow_model(folder: Path) -> Path:
    """A model in the layout of the embedded one, but narrow, that answers a part of the questions."""
    from answering import answering

    vlm = answering(SMALL.n_layers)
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


def refused(argv, words, capsys, folder):
    """One line with the words, exit code 2, nothing printed, nothing written."""
    before = sorted(folder.rglob("*"))
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert all(word in shown.err for word in words), shown.err
    assert sorted(folder.rglob("*")) == before


def run(given, evaluator):
    """A study with its baselines queued, run to its end."""
    opened = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    loop.enqueue(opened, given.baselines)
    loop.run(opened, objective(given, evaluator), given)
    return opened


def quick(checkpoint, *words):
    return [
        "experiment=quick",
        f"model.path={checkpoint}",
        "task.per_kind=1",
        "report.task.per_kind=1",
        "report.ratios=[0.5,0.3]",
        "~report.arms.random",
        "~report.arms.uniform",
        "report.points=2",
        "search.n_trials=4",
        "tracking=none",
        *words,
    ]
