"""What another harness asks a pruned model, and scores itself: shared by those for lmms-eval and vla-eval."""

from dataclasses import dataclass

from autoprune_lab.plugins.parts import PackagesError
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.base import Sample, Task


@dataclass(frozen=True)
class Asked(Task):
    """Questions that the harness `name` scores itself."""

    asked: tuple[Sample, ...]
    max_new_tokens: int
    name: str

    def samples(self) -> tuple[Sample, ...]:
        """As they were asked."""
        return self.asked

    def score(self, prediction: str, sample: Sample) -> float:
        """Not known here."""
        return 0.0


def pruner_of(file: str, packages: str, words: str) -> Pruner:
    """The file's pruner; it may name code of `packages`, joined by `+`.

    Raises ValueError, where it needs other packages, with the words for the harness: `words`, {} for all of them.
    """
    named = packages.split("+") if packages else []
    try:
        return Pruner.load(file, named)
    except PackagesError as error:
        needed = words.format("+".join([*named, *error.missing]))
        raise ValueError(f"{file} {error.needs}: add {needed} if you trust that code") from error
