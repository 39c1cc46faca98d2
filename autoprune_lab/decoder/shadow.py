"""Shadows an attribute or a method on one instance, and takes the shadow away again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def shadowed(owner: object, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside the block; what the instance itself held there comes back after it."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)
