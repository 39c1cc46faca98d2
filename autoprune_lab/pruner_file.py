"""Reads and writes a tree of frozen dataclasses and functions as YAML, in Hydra's `_target_` notation.

An object is `_target_` plus its fields; a function is `_target_`, `_partial_: true` and bound keyword
arguments.
"""

import importlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import isclass, isfunction
from pathlib import Path
from typing import Any

import numpy as np
import yaml


def write(value: object, path: Path) -> None:
    """Write `plain(value)` to `path`."""
    path.write_text(yaml.safe_dump(plain(value), sort_keys=False), encoding="utf-8")


def read(path: Path, packages: Sequence[str]) -> Any:
    """Rebuild what `write` wrote; it may name code of the top-level `packages` only."""
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _build(node, packages)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def plain(value: Any) -> Any:
    """`value` in YAML's own types; ValueError for what has no name to be found by, such as a lambda."""
    if is_dataclass(value) and not isclass(value):
        return {"_target_": _name(type(value))} | {
            field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init
        }
    if isinstance(value, partial) and not value.args:
        bound = {key: plain(argument) for key, argument in value.keywords.items()}
        return {"_target_": _name(value.func), "_partial_": True} | bound
    if isfunction(value):
        return {"_target_": _name(value), "_partial_": True}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{value!r} cannot be saved: use frozen dataclasses, functions, partials, numbers and strings")


def _name(value: Any) -> str:
    """The dotted name that leads back to a class or function."""
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" in name or value.__module__ == "__main__":
        raise ValueError(f"{name} cannot be saved: define it at the top level of an importable module")
    return name


def _build(node: Any, packages: Sequence[str]) -> Any:
    if isinstance(node, list):
        return tuple(_build(item, packages) for item in node)
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        raise ValueError(f"a mapping needs `_target_`, got the keys {list(node)}")
    target = _find(node["_target_"], packages)
    arguments = {key: _build(item, packages) for key, item in node.items() if not key.startswith("_")}
    if not node.get("_partial_"):
        return target(**arguments)
    return partial(target, **arguments) if arguments else target


def _find(name: str, packages: Sequence[str]) -> Any:
    """The class or function that one of `packages` itself defines under `name`."""
    module, _, attribute = name.rpartition(".")
    if module.split(".")[0] not in packages:
        raise ValueError(f"`{name}` is outside {sorted(packages)}: name its package in load(..., packages=...)")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"`{name}` was not found: {error}") from error
    if not (isclass(found) or isfunction(found)) or found.__module__.split(".")[0] not in packages:
        raise ValueError(f"`{name}` is not a class or function of {sorted(packages)}")
    return found
