"""An evaluation in a folder: answered by one process or several, gone on with where it was left."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.errors import one_line
from autoprune_lab.evaluation.answers import Answers
from autoprune_lab.evaluation.prompts import none_shown
from autoprune_lab.evaluation.streaming import WHOLE, Shard, Stream
from autoprune_lab.plugins.parts import PackagesError
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import own_packages, plain
from autoprune_lab.statistics.records import Records
from autoprune_lab.tasks.base import Task
from search.config.errors import ConfigError, add_packages
from search.config.experiment import Experiment
from search.config.identity import difference, is_as_before
from search.config.paths import leaves
from search.methods import shards
from search.results import provenance
from search.results.folder import read_json
from search.study import locks, model_evaluator

PRUNED, UNPRUNED = "pruned", "unpruned"
SETTINGS, PRUNER, LOCK = "settings.json", "pruner.yaml", "lock"
FREE = ("model.device", "model.device_map", "model.strict")  # may differ between two runs, as may the batch size


@dataclass(frozen=True)
class Finished:
    """A complete evaluation: the pruner as it ran, and every run's records."""

    task: Task
    pruner: Pruner
    runs: Mapping[str, Records]


@dataclass(frozen=True)
class Evaluation:
    """A pruner on the experiment's task, perhaps beside the unpruned model; `shard` is what this process answers."""

    experiment: Experiment
    pruner: Pruner
    out: Path
    names: tuple[str, ...] = (PRUNED, UNPRUNED)
    shard: Shard = WHOLE

    def begin(self, checkpoint: Path) -> None:
        """Make the folder, or check that it is one of the same settings; ConfigError names what differs."""
        now, file = self._made_of(checkpoint), self.out / SETTINGS
        self.out.mkdir(parents=True, exist_ok=True)
        with locks.held(self.out / LOCK):
            if not file.is_file():
                with atomic_write(file) as half:
                    half.write_text(json.dumps(now, indent=1), encoding="utf-8")
        if differs := difference(read_json(file), now):
            raise ConfigError(f"--out {self.out} holds an evaluation of other settings: {differs}; take another folder")

    def run(self) -> Finished | None:
        """Answer what is missing of this shard; None while others have not finished, or where another finishes."""
        task, answers = self.experiment.task, self._answers()
        if not (known := self._is_complete(task)):
            self._answer(task)
        with locks.held(self.out / LOCK):  # of shards that end together the first finishes
            is_merged = self._merged(self.names[-1]).is_file()
            left_to_another = self.shard.index > 1 if known else self.shard.of > 1 and is_merged
            if left_to_another or not self._is_complete(task):
                return None
            if not self.n_answered():
                raise none_shown(task.name, list(answers[self.names[-1]].left_out().values()))
            for name, kept in answers.items():
                kept.merge(self._merged(name))
        return Finished(task, self._agreed(), {name: kept.records() for name, kept in answers.items()})

    def n_answered(self) -> int:
        """Answers on disk, those of all shards and runs."""
        return sum(len(kept.places()) for kept in self._answers().values())

    def _is_complete(self, task: Task) -> bool:
        """Is every sample answered, or left out, by every arm?"""
        n_left_out = sum(len(kept.left_out()) for kept in self._answers().values())
        return self.n_answered() == len(task.samples()) * len(self.names) - n_left_out

    def _merged(self, name: str) -> Path:
        return self.out / f"{name}.parquet"

    def _answer(self, task: Task) -> None:
        shards.take_gpu()
        bars = shards.is_first_here()
        stream = Stream(self.experiment.model, task, self.experiment.typed.batch_size, bars)
        pruners = {PRUNED: self._agreed(stream), UNPRUNED: None}
        stream.answer({kept: pruners[name] for name, kept in self._answers().items()}, self.shard)

    def _agreed(self, stream: Stream | None = None) -> Pruner:
        """The pruner that all shards run: whoever comes first calibrates it, if that must be, and keeps it."""
        file = self.out / PRUNER
        with locks.held(self.out / LOCK):
            if stream is not None and not file.is_file():
                with atomic_write(file) as half:
                    stream.calibrated(self.pruner).save(half)
        return load_pruner(file, own_packages(plain(self.pruner)))

    def _answers(self) -> dict[str, Answers]:
        return {name: Answers(self.out / name) for name in self.names}

    def _made_of(self, checkpoint: Path) -> dict[str, Any]:
        """All that the answers depend on, by path."""
        config = self.experiment.settings.config
        described = {"model": config["model"], "task": config["task"], "pruner": plain(self.pruner)}
        known = leaves(described).items()
        flat = {path: value for path, value in known if path not in FREE and not is_as_before(path, value)}
        samples = self.experiment.task.samples()
        marks = {"weights": model_evaluator.weights_mark(checkpoint), "samples": provenance.fingerprint(samples)}
        return dict(json.loads(json.dumps(flat | marks)))


def load_pruner(path: Path, packages: Sequence[str] = ()) -> Pruner:
    """A saved pruner; it may name code of autoprune_lab, policies and `packages`. Raises ConfigError."""
    try:
        return Pruner.load(path, packages)
    except PackagesError as error:
        raise ConfigError(f"the pruner {path} {error.needs}: {add_packages(error.missing)}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the pruner {path}: {one_line(error)}") from error
