"""From config to objects: every part is named by `_target_` and checked against the target's own signature.

Only `search.config.experiment` calls it: what runs afterwards is given objects.
"""

import inspect
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from autoprune_lab.errors import one_line
from autoprune_lab.plugins.discovery import TARGET, near_miss
from search.config.errors import ConfigError, close
from search.config.paths import select

if TYPE_CHECKING:
    from autoprune_lab.pruner import Pruner


def build(node: Any, key: str) -> Any:
    """The object that a config node describes, its targets checked; `key` is the node's path, for the message.

    Raises ConfigError as `check_targets` does, and with a part's own reason where it refuses its arguments.
    """
    check_targets(node, key)
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            raise ConfigError(f"{key}: {one_line(error.__cause__)}") from error
        raise


def build_pruner(node: Any, packages: Collection[str], key: str) -> "Pruner":
    """The pruner that plain data describe, which may name code of `packages`; raises ConfigError.

    Anybody may have written them (a study's storage, say), so Hydra does not see them: `autoprune_lab.plugins.parts`.
    """
    from autoprune_lab.plugins.parts import PackagesError, PartError, make
    from autoprune_lab.pruner import Pruner

    try:
        pruner: Pruner = make(node, Pruner, packages, key)
        return pruner
    except PackagesError as error:
        raise ConfigError(f"{key}: {error.needs}: no `{TARGET}` of this config names that package") from error
    except PartError as error:
        raise ConfigError(one_line(error)) from error


def check_targets(node: Any, key: str) -> None:
    """Raise ConfigError for a `_target_` that is not found, or a field that it does not take; creates nothing."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            check_targets(item, f"{key}.{i}")
    if not isinstance(node, dict):
        return
    for name, item in node.items():
        check_targets(item, f"{key}.{name}")
    if TARGET not in node:
        return
    try:
        signature = inspect.signature(get_object(node[TARGET]))
    except Exception as error:
        name = str(node[TARGET])
        near = f"did you mean {near}?" if (near := near_miss(name)) not in (None, name) else one_line(error)
        raise ConfigError(f"{key}.{TARGET} '{name}' was not found: {near}") from error
    given = [name for name in node if not name.startswith("_")]
    takes = list(signature.parameters)
    for name in given:
        if name not in takes:
            owner = node[TARGET].rpartition(".")[2]
            raise ConfigError(f"unknown field '{key}.{name}'{close(name, takes)}; {owner} takes: {', '.join(takes)}")
        _check_plain(f"{key}.{name}", node[name], signature.parameters[name].annotation)


def _check_plain(path: str, value: Any, declared: Any) -> None:
    """ConfigError for null where a text must stand, and for what is not true or false: `no` would count as true."""
    if declared in (str, "str") and value is None:
        raise ConfigError(f"{path} has no value: add {path}=VALUE to the command")
    if declared in (bool, "bool") and not isinstance(value, bool):
        raise ConfigError(f"{path}={value} must be true or false")


def wants_whole_number(config: Mapping[str, Any], path: str) -> bool:
    """Is the field at `path` declared as int by the class or function that takes it?"""
    parent, _, name = path.rpartition(".")
    owner = select(config, parent)
    if not isinstance(owner, Mapping) or TARGET not in owner:
        return False
    parameter = inspect.signature(get_object(owner[TARGET])).parameters.get(name)
    return parameter is not None and parameter.annotation in (int, "int")
