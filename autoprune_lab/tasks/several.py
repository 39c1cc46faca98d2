"""Several benchmarks as one task: each is a kind of question, scored by its own rules."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from autoprune_lab.tasks.base import Episode, Sample, Task, TaskError

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

SHARED = ("split", "per_kind")


@dataclass(frozen=True, eq=False)
class SeveralTask(Task):
    """`tasks` by name; `split` and `per_kind` are those of all of them, in place of their own.

    A benchmark is one kind, NAME, of at most `per_kind` samples, the same number of each of its own kinds: so every
    benchmark counts alike in the score, as in published tables, and an oracle per kind is one per benchmark. Those in
    `finer` keep their own kinds, as NAME/KIND with up to `per_kind` samples each: they count once for each of them.

    Raises ValueError for no task, for one without `split` and `per_kind`, for an unknown name in `finer`, and where
    answers may not be equally long.
    """

    tasks: Mapping[str, Task]
    split: str = "tune"
    per_kind: int | None = 50
    finer: Sequence[str] = ()
    name: str = field(init=False)
    max_new_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("task.tasks is empty: name benchmarks, for example task=pope,gqa,textvqa")
        for name, task in self.tasks.items():
            if not (is_dataclass(task) and {*SHARED} <= {one.name for one in fields(task)}):
                raise ValueError(f"task.tasks.{name}: {type(task).__name__} has no fields split and per_kind")
        if unknown := [name for name in self.finer if name not in self.tasks]:
            raise ValueError(f"task.finer: {unknown[0]!r} is none of {', '.join(self.tasks)}")
        longest = {name: task.max_new_tokens for name, task in self.tasks.items()}
        if len({*longest.values()}) > 1:
            told = ", ".join(f"{name} {n}" for name, n in longest.items())
            raise ValueError(f"answers of unlike length cannot be one task, max_new_tokens: {told}; run them apart")
        object.__setattr__(self, "name", "+".join(self.tasks))
        object.__setattr__(self, "max_new_tokens", next(iter(longest.values())))
        _ = [_with(task, split=self.split, per_kind=self.per_kind) for task in self.tasks.values()]  # raises

    def samples(self) -> tuple[Sample, ...]:
        """Benchmark by benchmark; ids begin with its name. Raises TaskError that names the benchmark."""
        return tuple(self._samples.values())

    def score(self, prediction: str, sample: Sample) -> float:
        """By the rules of the sample's benchmark."""
        name, own = self._own[sample.id]
        return self._parts[name].score(prediction, own)

    def episode(self, sample: Sample) -> Episode | None:
        """That of the sample's benchmark."""
        name, own = self._own[sample.id]
        return self._parts[name].episode(own)

    def actions(self) -> tuple[int, int] | None:
        """What all of them ask for; None where they ask for unlike answers."""
        asked = {part.actions() for part in self._parts.values()}
        return asked.pop() if len(asked) == 1 else None

    def chance(self) -> Mapping[str, float]:
        """Of the benchmarks in `finer`, that know it."""
        known = {name: self._parts[name].chance() for name in self.finer}
        return {f"{name}/{kind}": value for name, one in known.items() for kind, value in one.items()}

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """NAME: FIGURE, each benchmark's official ones; where it has none the mean score of its samples."""
        found: dict[str, float] = {}
        for name, part in self._parts.items():
            owned = [(self._own[row.id], row) for row in rows]
            mine = [replace(row, id=own.id, kind=own.kind) for (whose, own), row in owned if whose == name]
            if mine:
                own_figures = part.summary(mine) or {"mean score": sum(row.score for row in mine) / len(mine)}
                found |= {f"{name}: {figure}": value for figure, value in own_figures.items()}
        return found

    def notes(self) -> Sequence[str]:
        """Of all of them."""
        told: list[str] = []
        for name, part in self._parts.items():
            with _told_as(name):
                told += part.notes()
        return told

    @cached_property
    def _parts(self) -> Mapping[str, Task]:
        return {name: self._sized(name) for name in self.tasks}

    @cached_property
    def _own(self) -> Mapping[str, tuple[str, Sample]]:
        """By id: the benchmark, and the sample as it has it."""
        found: dict[str, tuple[str, Sample]] = {}
        for name, part in self._parts.items():
            with _told_as(name):
                found |= {f"{name}/{sample.id}": (name, sample) for sample in part.samples()}
        return found

    @cached_property
    def _samples(self) -> Mapping[str, Sample]:
        return {
            key: replace(own, id=key, kind=f"{name}/{own.kind}" if name in self.finer else name)
            for key, (name, own) in self._own.items()
        }

    def _sized(self, name: str) -> Task:
        """The benchmark on the split, `per_kind` samples dealt out to its own kinds unless those stay."""
        part = _with(self.tasks[name], split=self.split, per_kind=self.per_kind)
        if self.per_kind is None or name in self.finer:
            return part
        with _told_as(name):
            n_kinds = len({sample.kind for sample in part.samples()})
        return _with(part, per_kind=max(self.per_kind // n_kinds, 1))


def _with(task: Task, **changes: Any) -> Task:
    made: Task = replace(task, **changes)  # type: ignore[type-var]  # a dataclass: see __post_init__
    return made


@contextmanager
def _told_as(name: str) -> Iterator[None]:
    """A TaskError inside says whose it is, and names fields as they are typed for that benchmark."""
    try:
        yield
    except TaskError as error:
        fields_of_it = re.sub(
            r"\btask\.(?=(path|images|annotations|images_outside)\b)", f"task.tasks.{name}.", str(error)
        )
        raise TaskError(f"{name}: {fields_of_it}") from error
