"""What the checks of every kind of plug-in share: how a broken point is told, and the YAML file beside the code."""

import inspect
import sys
from pathlib import Path
from typing import Any

import yaml

from autoprune_lab.plugins.discovery import TARGET, package_of
from autoprune_lab.plugins.parts import PARTIAL, make


class ContractError(Exception):
    """A plug-in does not keep a point of its contract: one line with the value and the bound."""


class NoConfigError(Exception):
    """A plug-in has no YAML file: it keeps its contract, but cannot be named on the command line."""


def require(kept: bool, otherwise: str) -> None:
    """Raise ContractError, with `otherwise`, unless it is kept."""
    if not kept:
        raise ContractError(otherwise)


def module_file(plugin: Any) -> Path:
    """The file of the module that defines a class or a function."""
    return Path(str(sys.modules[plugin.__module__].__file__))


def check_config(plugin: Any, group: str, name: str, kind: Any) -> None:
    """Every conf/`group`/`name`.yaml inside or beside the package lists the plug-in's settings with their defaults.

    Listed they must be: a field that a configuration does not have cannot be set on the command line. `kind` is what
    a pruner's field of that group is annotated with. Raises ContractError, PartError, and NoConfigError without a file.
    """
    target, depth = f"{plugin.__module__}.{plugin.__qualname__}", plugin.__module__.count(".")
    places = [folder / "conf" / group / f"{name}.yaml" for folder in module_file(plugin).parents[: depth + 1]]
    found = [place for place in places if place.exists()]
    if not found:
        raise NoConfigError(f"there is no conf/{group}/{name}.yaml inside or beside {package_of(target)}")
    settings = {p.name: p.default for p in inspect.signature(plugin).parameters.values() if p.default is not p.empty}
    for file in found:
        text = file.read_text(encoding="utf-8")
        first, header = text.partition("\n")[0], f"# @package pruner.{group}"
        require(first == header, f"{file} begins with '{first}', expected '{header}'")
        node = yaml.safe_load(text)
        named = node.get(TARGET) if isinstance(node, dict) else None
        require(named == target, f"{file} has {named} for its `{TARGET}`, expected {target}")
        listed = node.keys() - {TARGET, PARTIAL}
        require(listed == settings.keys(), f"{file} lists {sorted(listed)}, expected {sorted(settings)}")
        made = make(node, kind, [package_of(target)])
        is_default = made == plugin() if inspect.isclass(plugin) else getattr(made, "keywords", {}) == settings
        require(is_default, f"{file} makes {made}, expected the defaults of the code: {settings}")
