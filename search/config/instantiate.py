"""From config to objects: every part is named by `_target_` and checked against the target's own signature."""

import inspect
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from autoprune_lab.plugins.discovery import near_miss, packages_of
from search.config.compose import ConfigError, close

if TYPE_CHECKING:
    from autoprune_lab.pruner import Pruner


def build(node: DictConfig, key: str) -> Any:
    """The object that a config node describes, its targets checked; `key` is the node's path, for the message.

    Raises ConfigError as `check_targets` and `make` do.
    """
    check_targets(OmegaConf.to_container(node, resolve=True), key)
    return make(node, key)


def make(node: Any, key: str) -> Any:
    """The object that a config node describes; ConfigError with its own reason where it refuses its arguments."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            raise ConfigError(f"{key}: {_one_line(error.__cause__)}") from error
        raise


def build_pruner(config: DictConfig) -> "Pruner":
    """The arm that `config.pruner` describes; raises ConfigError where a part refuses its settings."""
    node = OmegaConf.to_container(config.pruner, resolve=True)
    return _pruner(node, packages_of(node), "pruner")


def stored_pruner(node: Any, config: DictConfig, where: str) -> "Pruner":
    """A pruner that a study's storage holds; it may name code of the packages that the config's own pruners do.

    Raises ConfigError, which begins with `where`.
    """
    return _pruner(node, pruner_packages(config), where)


def load_pruner(path: Path, packages: Sequence[str] = ()) -> "Pruner":
    """A saved pruner; it may name code of autoprune_lab, policies and `packages`. Raises ConfigError."""
    from autoprune_lab.plugins.parts import PackagesError
    from autoprune_lab.pruner import Pruner

    try:
        return Pruner.load(path, packages)
    except PackagesError as error:
        options = " ".join(f"--package {name}" for name in error.missing)
        raise ConfigError(f"the pruner {path} {error.needs}: add {options} if you trust that code") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the pruner {path}: {_one_line(error)}") from error


def pruner_packages(config: DictConfig) -> set[str]:
    """The packages whose code the config's pruner, or any pruner in its space, is made of."""
    return packages_of([OmegaConf.to_container(node, resolve=True) for node in (config.pruner, config.space)])


def _pruner(node: Any, packages: Collection[str], where: str) -> "Pruner":
    from autoprune_lab.plugins.parts import PackagesError, PartError
    from autoprune_lab.plugins.parts import make as made
    from autoprune_lab.pruner import Pruner

    try:
        pruner: Pruner = made(node, Pruner, packages, where)
        return pruner
    except PackagesError as error:
        raise ConfigError(f"{where}: {error.needs}: no `_target_` of this config names that package") from error
    except PartError as error:
        raise ConfigError(_one_line(error)) from error


def check_targets(node: Any, key: str) -> None:
    """Raise ConfigError for a `_target_` that is not found, or a field that it does not take; creates nothing."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            check_targets(item, f"{key}.{i}")
    if not isinstance(node, dict):
        return
    for name, item in node.items():
        check_targets(item, f"{key}.{name}")
    if "_target_" not in node:
        return
    try:
        signature = inspect.signature(get_object(node["_target_"]))
    except Exception as error:
        name = str(node["_target_"])
        near = f"did you mean {near}?" if (near := near_miss(name)) not in (None, name) else _one_line(error)
        raise ConfigError(f"{key}._target_ '{name}' was not found: {near}") from error
    given = [name for name in node if not name.startswith("_")]
    takes = list(signature.parameters)
    for name in given:
        if name not in takes:
            owner = node["_target_"].rpartition(".")[2]
            raise ConfigError(f"unknown field '{key}.{name}'{close(name, takes)}; {owner} takes: {', '.join(takes)}")
        _check_plain(f"{key}.{name}", node[name], signature.parameters[name].annotation)


def _check_plain(path: str, value: Any, declared: Any) -> None:
    """ConfigError for null where a text must stand, and for what is not true or false: `no` would count as true."""
    if declared in (str, "str") and value is None:
        raise ConfigError(f"{path} has no value: add {path}=VALUE to the command")
    if declared in (bool, "bool") and not isinstance(value, bool):
        raise ConfigError(f"{path}={value} must be true or false")


def wants_whole_number(config: DictConfig, path: str) -> bool:
    """Is the field at `path` declared as int by the class or function that takes it?"""
    parent, _, name = path.rpartition(".")
    owner = OmegaConf.select(config, parent)
    if not OmegaConf.is_dict(owner) or "_target_" not in owner:
        return False
    parameter = inspect.signature(get_object(owner["_target_"])).parameters.get(name)
    return parameter is not None and parameter.annotation in (int, "int")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
