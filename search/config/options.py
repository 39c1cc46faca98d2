"""Groups in the search space: what each option of a config group changes, and what a study may change in it.

`space.policy: {type: group}` lets a study choose the policy. The composed config then holds, for every option, the
fields that it sets, the dimensions of conf/space/<option>.yaml and its baselines: all that a trial needs, in plain
sight of `--cfg job`, and part of what a resumed study is compared with.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from search.config.dimension import GROUP, entries
from search.config.errors import ConfigError, close
from search.config.overrides import key_of

Compose = Callable[[Sequence[str]], DictConfig]
FREE = ("pruner", "space", "search", "study")  # what an option may bring, and what follows from it


def expand(
    config: DictConfig,
    overrides: Sequence[str],
    chosen: Mapping[str, str | None],
    options_of: Callable[[str], Sequence[str]],
    compose: Compose,
) -> None:
    """Fill in the `options` of every group in `config.space`; baselines too, where the config names none.

    `options_of` lists a group's options, `compose` makes a config of override words. Raises ConfigError.
    """
    groups = [(path, node) for path, node in config.space.items() if _is_group(node)]
    for path, node in groups:
        names = _names(str(path), OmegaConf.to_container(node), options_of(str(path)))
        found = _options(str(path), names, _neutral(overrides, str(path)), chosen.get(str(path)), config, compose)
        baselines = [{path: name, **own} for name, option in found.items() for own in option.pop("baselines")]
        config.space[path] = {"type": GROUP, "choices": names, "now": chosen.get(str(path)), "options": found}
        if not config.search.baselines:
            config.search.baselines = baselines


def _is_group(node: Any) -> bool:
    return OmegaConf.is_dict(node) and "type" in node and node["type"] == GROUP


def _names(group: str, entry: Any, known: Sequence[str]) -> list[str]:
    """The options to choose from: `choices`, or all that the group has."""
    for key in entry:
        if key not in ("type", "choices"):
            raise ConfigError(f"space.{group}: unknown key '{key}'; a group has type and choices")
    if not known:
        raise ConfigError(f"space.{group}: there is no config group '{group}'")
    names = entry.get("choices") or list(known)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"space.{group}.choices: unknown {group} '{name}'{close(str(name), known)}; "
                f"available: {', '.join(known)}"
            )
    return [str(name) for name in dict.fromkeys(names)]


def _neutral(overrides: Sequence[str], group: str) -> list[str]:
    """The words that hold for every option: not the choice itself, the space, nor single fields of a pruner."""
    keys = [key_of(word) for word in overrides]
    return [
        word
        for word, key in zip(overrides, keys, strict=True)
        if key not in (group, "space") and not key.startswith(("pruner.", "space.", "search."))
    ]


def _options(
    group: str, names: Sequence[str], words: list[str], now: str | None, config: DictConfig, compose: Compose
) -> dict[str, dict[str, Any]]:
    """What each option sets, what may be searched below that, and its baselines."""

    def made(name: str) -> DictConfig:
        try:
            return compose([*words, f"{group}={name}"])
        except ConfigError as error:
            raise ConfigError(f"space.{group}: option '{name}': {error}") from error

    configs = {name: made(name) for name in names}
    neutral = compose(words)
    for name, option in configs.items():
        _check_only_pruner(group, name, option, neutral)
    pruners = {name: _plain(option.pruner) for name, option in configs.items()}
    others = [_plain(neutral.pruner), *pruners.values()]
    changing = [key for key in others[0] if any(other.get(key) != others[0][key] for other in others)]
    if now in pruners:
        pruners[now] = _plain(config.pruner)  # with the command line's own changes
    return {
        name: {
            "sets": {f"pruner.{key}": pruners[name].get(key) for key in map(str, changing)},
            "space": _below(option, changing),
            "baselines": _plain(option.search.baselines),
        }
        for name, option in configs.items()
    }


def _check_only_pruner(group: str, name: str, option: DictConfig, other: DictConfig) -> None:
    mine, theirs = (OmegaConf.to_container(config, resolve=False) for config in (option, other))
    assert isinstance(mine, dict)
    assert isinstance(theirs, dict)
    for key in mine:
        if key not in FREE and mine[key] != theirs.get(key):
            raise ConfigError(
                f"space.{group}: option '{name}' changes {key!s}, which a study prepares once: "
                "only groups that change the pruner can be searched"
            )


def _below(option: DictConfig, changing: Sequence[str]) -> dict[str, Any]:
    """What the option's config says of a search in the fields that the group changes."""
    prefixes = tuple(f"pruner.{key}." for key in changing)
    return {path: dict(entry) for path, entry in entries(_plain(option.space)) if f"{path}.".startswith(prefixes)}


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)
