"""Lessons in batches: made endlessly in a worker process beside the training."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

Lesson = TypeVar("Lesson")


class _Stream(IterableDataset[Any]):
    def __init__(self, make_lesson: Callable[[np.random.Generator], Any], seed: int) -> None:
        self.make_lesson, self.seed = make_lesson, seed

    def __iter__(self) -> Iterator[Any]:
        torch.set_num_threads(1)
        rng = np.random.default_rng(self.seed)
        while True:
            yield self.make_lesson(rng)


def collate(lessons: list[Lesson]) -> Lesson:
    """Stack single lessons, dataclasses of tensors, into a batch."""
    first = lessons[0]
    names = [field.name for field in fields(cast(Any, first))]
    return type(first)(*(torch.stack([getattr(x, name) for x in lessons]) for name in names))


def lesson_batches(
    make_lesson: Callable[[np.random.Generator], Lesson], seed: int, batch_size: int
) -> Iterator[Lesson]:
    """Endless batches of what `make_lesson` makes, from one worker process."""
    stream = _Stream(make_lesson, seed)
    return iter(DataLoader(stream, batch_size, collate_fn=collate, num_workers=1, prefetch_factor=4))
