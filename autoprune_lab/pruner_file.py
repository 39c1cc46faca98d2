"""Writes a tree of frozen dataclasses and functions as YAML, in Hydra's `_target_` notation, and reads it again.

An object is `_target_` plus its fields; a function is `_target_`, `_partial_: true` and bound keyword arguments. At
the top `packages` names the packages, beside the project's own, whose code the tree needs; to name them there does not
allow them. What a file may hold is said in `autoprune_lab.plugins.parts`.
"""

import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import isclass, isfunction
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autoprune_lab.errors import one_line
from autoprune_lab.plugins.discovery import OURS, TARGET, packages_of
from autoprune_lab.plugins.parts import PARTIAL, PartError, check_bounds, make

MOST_BYTES = 1 << 16
PACKAGES = "packages"
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same text; several times as fast, where it was built


def write(value: object, path: Path) -> None:
    """Write `value` to `path`. ValueError, with nothing written, for what `read` would not take."""
    node = plain(value)
    make(node, type(value), packages_of(node))
    path.write_text(text(node), encoding="utf-8")


def text(node: Mapping[str, Any]) -> str:
    """What `write` writes of a value that `plain` gave."""
    others = own_packages(node)
    named = {TARGET: node[TARGET], PACKAGES: others} if others else {}
    return yaml.dump({**named, **node}, Dumper=_DUMPER, sort_keys=False)


def own_packages(node: Any) -> list[str]:
    """The packages that a node needs beside the project's own: what `read` must be given."""
    return sorted(packages_of(node) - set(OURS))


def read(path: Path, kind: type, packages: Collection[str]) -> Any:
    """Rebuild what `write` wrote, of class `kind`; see `parts.make`. OSError where there is no such file."""
    try:
        node = _parsed(_content(path))
        if isinstance(node, dict):
            _check_packages(node.pop(PACKAGES, []))
        return make(node, kind, packages)
    except PartError as error:
        error.args = (f"{path}: {one_line(error)}",)
        raise
    except (ValueError, ArithmeticError, yaml.YAMLError) as error:
        raise PartError(f"{path}: {one_line(error)}") from error


def plain(value: Any) -> Any:
    """`value` in YAML's own types; ValueError for what has no name to be found by, such as a lambda."""
    if is_dataclass(value) and not isclass(value):
        return {TARGET: _name(type(value))} | {
            field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init
        }
    if isinstance(value, partial) and not value.args:
        bound = {key: plain(argument) for key, argument in value.keywords.items()}
        return {TARGET: _name(value.func), PARTIAL: True} | bound
    if isfunction(value):
        return {TARGET: _name(value), PARTIAL: True}
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
    if value.__module__ == "__main__" or "." in value.__qualname__:
        raise ValueError(f"{name} cannot be saved: define it at the top level of an importable module")
    return name


def _content(path: Path) -> str:
    """The file's text. Raises PartError for what is no regular file (a pipe would be waited for), or a long one."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise PartError("is not a regular file")
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise PartError(f"is longer than {MOST_BYTES} bytes, as no pruner's file is")
    return content.decode("utf-8")


class _Loader(yaml.SafeLoader):
    """YAML's plain values only, each written once, and no more of them than a pruner has."""

    depth = n_nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One value, refused by its first mark: before what it holds is looked at."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise PartError(f"line {line}: anchors and aliases (& and *) are not read: write the value out")
        if event.tag is not None:
            raise PartError(f"line {line}: the tag {event.tag} is not read: write plain values")
        self.n_nodes, self.depth = self.n_nodes + 1, self.depth + 1
        check_bounds(self.n_nodes, self.depth)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping; the same key twice is refused, which YAML would answer with the last."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise PartError(f"line {key.start_mark.line + 1}: {key.value} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_EXPONENT = ("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"))
_Loader.yaml_implicit_resolvers = {  # no dates, no `<<`; and 1e-5 is a number, as it is in every config
    first: [_EXPONENT, *(rule for rule in rules if rule[0].rpartition(":")[2] in ("bool", "int", "float", "null"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parsed(content: str) -> Any:
    return yaml.load(content, Loader=_Loader)


def _check_packages(says: Any) -> None:
    """What a file says that it needs is for people; `parts.make` sees for itself."""
    if not (isinstance(says, list) and all(isinstance(name, str) and name.isidentifier() for name in says)):
        raise PartError(f"{PACKAGES}: {says!r} is not a list of packages")
