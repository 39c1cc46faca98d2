"""The search space: which fields of the pruner a study may change, and between which ends."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from search.arm import wants_whole_number
from search.config import ConfigError, close, fields_of

Value = bool | int | float | str | None
Values = dict[str, Value]

TYPES = ("float", "int", "categorical")


@dataclass(frozen=True)
class Dimension:
    """One field of the config by its dotted path; both ends of a range belong to it."""

    path: str
    type: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError naming the path and what is wrong."""
        if self.type not in TYPES:
            raise self._error(f"type {self.type!r} is unknown{close(str(self.type), TYPES)}; use {TYPES}")
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()

    def suggest(self, trial: optuna.Trial) -> Value:
        """Ask the sampler for a value."""
        if self.type == "categorical":
            return trial.suggest_categorical(self.path, self.choices)
        low, high = self._range()
        if self.type == "int":
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.path, int(low), int(high), log=self.log, step=step)
        return trial.suggest_float(self.path, low, high, log=self.log, step=self.step)

    def check(self, value: Value, owner: str) -> None:
        """Raise ConfigError, with `owner` to say whose value it is, unless the sampler could suggest it."""
        if self.type == "categorical":
            if not any(value == choice and type(value) is type(choice) for choice in self.choices):
                raise ConfigError(f"{owner}: {self.path}={value!r} is not among {list(self.choices)}")
            return
        low, high = self._range()
        if not _is_number(value) or (self.type == "int" and not isinstance(value, int)):
            raise ConfigError(f"{owner}: {self.path}={value!r} is not of type {self.type}")
        if not low <= float(value or 0) <= high:
            raise ConfigError(f"{owner}: {self.path}={value} is outside its search space [{low}, {high}]")

    def ends(self) -> tuple[Value, Value]:
        """The first and the last value, in the field's own type."""
        if self.type == "categorical":
            return self.choices[0], self.choices[-1]
        low, high = self._range()
        return (int(low), int(high)) if self.type == "int" else (float(low), float(high))

    def _range(self) -> tuple[float, float]:
        """Both ends of a checked range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def _check_choices(self) -> None:
        if not self.choices or not all(isinstance(c, Value) for c in self.choices):
            raise self._error("choices must be a list of numbers, words or truth values, at least one")
        if self.low is not None or self.high is not None or self.log or self.step is not None:
            raise self._error("a categorical has choices only, no low, high, log or step")

    def _check_range(self) -> None:
        if self.choices:
            raise self._error("choices belong to type categorical")
        for name, end in (("low", self.low), ("high", self.high)):
            finite = _is_number(end) and math.isfinite(float(end or 0))
            if not finite or (self.type == "int" and end != int(end or 0)):
                raise self._error(f"{name}={end!r} must be a {'whole ' if self.type == 'int' else ''}number")
        low, high = self._range()
        if low > high:
            raise self._error(f"low={low} is above high={high}")
        if not isinstance(self.log, bool) or (self.log and (low <= 0 or self.step is not None)):
            raise self._error(f"log={self.log} needs low > 0 and no step")
        if self.step is not None and not (_is_number(self.step) and self.step > 0):
            raise self._error(f"step={self.step!r} must be a number above 0")

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(f"space.{self.path}: {reason}")


@dataclass(frozen=True)
class Space:
    """All dimensions of a study, in the order of the config."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def from_config(cls, config: DictConfig) -> "Space":
        """Read `config.space`; raise ConfigError for a path the config does not have or a wrong type."""
        plain = OmegaConf.to_container(config.space, resolve=True)
        assert isinstance(plain, dict)
        space = cls(tuple(_dimension(path, entry) for path, entry in _entries(plain)))
        seen: set[str] = set()
        for dimension in space.dimensions:
            if dimension.path in seen:
                raise ConfigError(f"space.{dimension.path} is given twice")
            seen.add(dimension.path)
            _check_path(dimension, config)
        if not seen:
            raise ConfigError("the space is empty: add a dimension, for example conf/space/<policy>.yaml")
        return space

    def suggest(self, trial: optuna.Trial) -> Values:
        """One value per dimension."""
        return {dimension.path: dimension.suggest(trial) for dimension in self.dimensions}

    def complete(self, baseline: Mapping[str, Value], config: DictConfig, name: str) -> Values:
        """A baseline with what it leaves open taken from the config, where that lies in the space.

        Raises ConfigError for a path that is not searched or a value outside the space.
        """
        known = {dimension.path: dimension for dimension in self.dimensions}
        for path, value in baseline.items():
            if path not in known:
                raise ConfigError(f"{name}: {path} is not in the search space{close(path, known)}")
            known[path].check(value, name)
        values: Values = {}
        for path, dimension in known.items():
            values[path] = baseline[path] if path in baseline else OmegaConf.select(config, path)
            try:
                dimension.check(values[path], name)
            except ConfigError:
                del values[path]  # left to the sampler
                continue
            if dimension.type == "float":
                values[path] = float(values[path] or 0)
        return values


def apply(config: DictConfig, values: Mapping[str, Value]) -> DictConfig:
    """A copy of `config` with the values at their paths."""
    changed = config.copy()
    for path, value in values.items():
        OmegaConf.update(changed, path, value)
    return changed


def _entries(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A node that says its `type` is a dimension; keys may hold dots."""
    for key, value in node.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if not isinstance(value, dict):
            raise ConfigError(f"space.{path}={value!r} must be a mapping such as {{type: float, low: 0, high: 1}}")
        if not isinstance(value.get("type", {}), dict):
            yield path, value
        elif value and not any(isinstance(child, dict) for child in value.values()):
            raise ConfigError(f"space.{path} has no type: add one of {', '.join(TYPES)}")
        else:
            yield from _entries(value, path)


def _dimension(path: str, entry: Mapping[str, Any]) -> Dimension:
    known = [field.name for field in fields(Dimension) if field.name != "path"]
    for key in entry:
        if key not in known:
            raise ConfigError(f"space.{path}: unknown key '{key}'{close(str(key), known)}; keys: {known}")
    choices = entry.get("choices", ())
    return Dimension(**{**entry, "path": path, "choices": tuple(choices) if isinstance(choices, list) else ()})


def _check_path(dimension: Dimension, config: DictConfig) -> None:
    known = [path for path in fields_of(config) if path.startswith("pruner.")]
    if dimension.path not in known:
        raise ConfigError(
            f"space: unknown path '{dimension.path}'{close(dimension.path, known)}: "
            "a study can change fields of the pruner that exist in the config"
        )
    now = OmegaConf.select(config, dimension.path)
    values = dimension.choices if dimension.type == "categorical" else (dimension.low,)
    suits = now is None or all(_is_number(value) == _is_number(now) for value in values)
    if not suits or (dimension.type == "float" and wants_whole_number(config, dimension.path)):
        raise ConfigError(
            f"space.{dimension.path}: type {dimension.type} does not suit the field, "
            f"whose value is {now!r} ({type(now).__name__})"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
