"""Searches policies for pruning visual tokens in vision-language models: `import autoprune_lab as ap`.

What a user needs stands here by name, `ap.Pruner` or `from autoprune_lab import Policy, Signal`, and is loaded when it
is asked for: a policy costs no torch. The list is `__init__.pyi`, which type checkers read as well; it is `__all__`.
A name that is not on it, and every module below this one, is private by convention: it may change without notice.
Configurations and pruner files name parts by module, as in `conf/`; those paths are kept like public names.
"""

import ast as _ast
from importlib import import_module as _import_module
from pathlib import Path as _Path


def _homes() -> dict[str, str]:
    """Public name -> the module that defines it."""
    stub = _ast.parse(_Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, _ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_HOMES = _homes()
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Find a public name; nothing is kept here, so a name means what its module says at any time."""
    if name not in _HOMES:
        raise AttributeError(f"module 'autoprune_lab' has no public name '{name}': dir(autoprune_lab) lists them")
    return getattr(_import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
