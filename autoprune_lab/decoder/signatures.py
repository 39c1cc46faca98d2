"""The arguments of a class's forward, looked up once a process: a signature takes longer than a hook."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def names_of(module: Any) -> tuple[str, ...]:
    """What the forward of a module's class takes, by name, `self` first; an instance's own may be a wrapper."""
    return _names(type(module).forward)


@functools.cache
def _names(forward: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(forward).parameters)
