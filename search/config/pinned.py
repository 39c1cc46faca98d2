"""What is typed is not searched: a value on the command line takes its field out of the space of this study.

Only words that the user typed pin. A value from a file (experiment=, method=, policy=) is where a study starts from: a
file may set a field and search it. What is pinned stands in `search.pinned`, and so in what a resumed study is compared
with.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from search.config.dimension import GROUP, is_entry, is_number
from search.config.errors import ConfigError
from search.config.overrides import changed_keys, is_below


def pin(config: DictConfig, words: Sequence[str], chosen: Mapping[str, str | None]) -> None:
    """Take what `words` give a value to out of `config.space` and of the baselines that no word gave.

    `chosen`: the option of each config group. Raises ConfigError for a value that the field cannot have, and where the
    words both search a field and give it a value.
    """
    typed = changed_keys(words)
    pins = _Pins(config, typed, chosen)
    space = pins.without(OmegaConf.to_container(config.space, resolve=False))
    if not pins.values:
        return
    with open_dict(config):
        config.space = space
        config.search.pinned = [f"{name}={value}" for name, value in pins.values.items()]
        if "search.baselines" not in typed:
            config.search.baselines = pins.baselines(OmegaConf.to_container(config.search.baselines, resolve=True))


@dataclass
class _Pins:
    """`values`: what was pinned so far, by the name of its parameter."""

    config: DictConfig
    typed: set[str]
    chosen: Mapping[str, str | None]
    values: dict[str, Any] = field(default_factory=dict)

    def without(self, node: Any, prefix: str = "") -> dict[str, Any]:
        """The space, or a part of it, without what was typed; what is no entry stays, and is refused later."""
        left: dict[str, Any] = {}
        for key, value in node.items():
            path = f"{prefix}.{key}" if prefix else str(key)
            if not isinstance(value, dict):
                left[key] = value
            elif not is_entry(value):
                if (rest := self.without(value, path)) or not value:
                    left[key] = rest
            elif value["type"] == GROUP and "options" in value:
                left |= self._group(path, value)
            elif not self._pin(path, value):
                left[key] = value
        return left

    def baselines(self, given: Any) -> list[dict[str, Any]]:
        """Those of the options that are left, without what is pinned; equal ones once."""
        groups = {path: self.chosen.get(path) for path in self.chosen if path in self.values}
        pinned = {name.rpartition("/")[2]: name.rpartition("/")[0] for name in self.values}
        left = []
        for baseline in given:
            if any(baseline.get(path, option) != option for path, option in groups.items()):
                continue
            owners = {"", *map(str, baseline.values())}
            rest = {path: value for path, value in baseline.items() if pinned.get(path) not in owners}
            if rest not in left:
                left.append(rest)
        return left

    def _group(self, path: str, entry: dict[str, Any]) -> dict[str, Any]:
        """The group, with what was typed out of the space of the option that the config names; or only that option."""
        now = str(self.chosen.get(path))
        options = entry["options"]
        if path in self.typed and now in options and not self._searched(path):
            self.values[path] = now
            return self.without(options[now]["space"])
        if now in options:
            own = {p: e for p, e in options[now]["space"].items() if not self._pin(p, e, f"{now}/")}
            options = {**options, now: {**options[now], "space": own}}
        return {path: {**entry, "options": options}}

    def _pin(self, path: str, entry: Mapping[str, Any], owner: str = "") -> bool:
        """Was a value of the field typed? Then it is noted."""
        if not any(is_below(path, key) for key in self.typed):
            return False
        if self._searched(path):
            raise ConfigError(f"{path} is given a value and searched by space.{path}: leave one of the two out")
        value = OmegaConf.select(self.config, path)
        _check(path, value, entry["type"])
        self.values[owner + path] = value
        return True

    def _searched(self, path: str) -> bool:
        """Was the space's own entry typed as well?"""
        return any(is_below(key, f"space.{path}") for key in self.typed)


def _check(path: str, value: Any, kind: str) -> None:
    """Raise ConfigError for a value that is not of the dimension's type; it may lie outside its range."""
    wanted = {"int": "a whole number", "float": "a finite number"}.get(kind)
    suits = is_number(value) and math.isfinite(value) and (kind != "int" or value == int(value))
    if wanted is not None and not suits:
        raise ConfigError(f"{path}={value} must be {wanted}")
