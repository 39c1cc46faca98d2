"""Finds plug-ins by where they are: a policy is on a shelf because its file is there; no list names it."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from autoprune_lab.plugins.renamed import RENAMED
from autoprune_lab.schedule.policy import Policy

TARGET = "_target_"
OURS = ("autoprune_lab", "policies")
"""The packages of parts that come with the project."""


def find_policies(package: str) -> list[type[Policy]]:
    """Every concrete, public `Policy` defined in the importable `package` (or module), in order of its full name."""
    classes = {
        member
        for module in modules_of(package)
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Policy) and not inspect.isabstract(member) and member.__module__ == module.__name__
        if not name.startswith("_")
    }
    return sorted(classes, key=lambda policy: (policy.__module__, policy.__qualname__))


def find_policy(name: str, package: str = "policies") -> type[Policy]:
    """The policy in the file of that name, as `policy=NAME` says it; by default one that comes with the project.

    Raises ValueError, which names those that there are.
    """
    found = {policy.__module__.rpartition(".")[2]: policy for policy in find_policies(package)}
    if name not in found:
        near = f"; did you mean {word}?" if (word := closest(name, found)) else ""
        raise ValueError(f"{package} has no policy '{name}'{near}; there are: {', '.join(found)}")
    return found[name]


def modules_of(package: str) -> list[ModuleType]:
    """The importable `package` (or module) and every module below it, imported."""
    root = importlib.import_module(package)
    names = [found.name for found in pkgutil.walk_packages(getattr(root, "__path__", []), prefix=f"{package}.")]
    return [root, *map(importlib.import_module, names)]


def targets(node: Any) -> Iterator[str]:
    """Every name that a node has for a `_target_`, or among the choices for one."""
    if isinstance(node, Mapping):
        for key, item in node.items():
            yield from _names(item) if str(key).endswith(TARGET) else targets(item)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from targets(item)


def packages_of(node: Any) -> set[str]:
    """The top-level packages whose code a node names."""
    return {package_of(name) for name in targets(node)}


def package_of(name: str) -> str:
    """The top-level package of a dotted name."""
    return name.partition(".")[0]


def near_miss(name: str) -> str | None:
    """The class or function whose full name, or a former one, is most like one that does not exist; None: none is."""
    top, *words = name.split(".")
    found = top if _members(top) else closest(top, OURS)
    for word in words:
        if found is None:
            return None
        known = _members(found)
        near = word if word in known else closest(word, known)
        found = f"{found}.{near}" if near else None
    if found is None or not (inside := _members(found)):
        return RENAMED.get(str(found), found)
    near = closest(words[-1] if words else top, inside)  # package.Name may stand for package.module.Name
    return RENAMED.get(f"{found}.{near}", f"{found}.{near}") if near else None


def _members(module: str) -> list[str]:
    """Public modules, classes and functions in a module, those that were there formerly too; none where none can be."""
    former = [name.removeprefix(f"{module}.").partition(".")[0] for name in RENAMED if name.startswith(f"{module}.")]
    try:
        found = importlib.import_module(module)
    except Exception:  # of any type: a user's own module may fail as it likes
        return former
    own = [name for name, member in vars(found).items() if inspect.isclass(member) or inspect.isfunction(member)]
    below = [each.name for each in pkgutil.iter_modules(getattr(found, "__path__", []))]
    return [name for name in (*own, *below, *former) if not name.startswith("_")]


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None; capitals count for nothing."""
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def _names(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping | list | tuple):
        for each in item.values() if isinstance(item, Mapping) else item:
            yield from (name for name in _names(each) if "." in name)
