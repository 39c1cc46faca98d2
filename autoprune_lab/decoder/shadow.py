"""Shadows a method on one instance, and takes the shadow away again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def shadowed(owner: object, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """`owner.name` is `function` inside the block; what the instance itself held there comes back after it."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)
