"""Dimension: one field of the config that a study may change, and between which ends."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from search.config.errors import ConfigError, close

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str | None
Values = dict[str, Value]

TYPES = ("float", "int", "categorical")
GROUP = "group"


@dataclass(frozen=True)
class Dimension:
    """One field of the config by its dotted path; both ends of a range belong to it.

    `owner` is the option that brings the field, where only one option of a group does.
    """

    path: str
    type: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()
    owner: str | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError naming the path and what is wrong."""
        if self.type not in TYPES:
            raise self._error(f"type {self.type!r} is unknown{close(str(self.type), TYPES)}; use {TYPES}")
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()

    @property
    def name(self) -> str:
        """The parameter's name in a trial: fields of two options may share a path, but never a name."""
        return self.path if self.owner is None else f"{self.owner}/{self.path}"

    def suggest(self, trial: "optuna.Trial") -> Value:
        """Ask the sampler for a value."""
        if self.type == "categorical":
            return trial.suggest_categorical(self.name, self.choices)
        low, high = self._range()
        if self.type == "int":
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.name, int(low), int(high), log=self.log, step=step)
        return trial.suggest_float(self.name, low, high, log=self.log, step=self.step)

    def check(self, value: Value, owner: str) -> None:
        """Raise ConfigError, with `owner` to say whose value it is, unless the sampler could suggest it."""
        if self.type == "categorical":
            if not any(value == choice and type(value) is type(choice) for choice in self.choices):
                raise ConfigError(f"{owner}: {self.path}={value!r} is not among {list(self.choices)}")
            return
        low, high = self._range()
        if not is_number(value) or (self.type == "int" and not isinstance(value, int)):
            raise ConfigError(f"{owner}: {self.path}={value!r} is not of type {self.type}")
        if not low <= float(value or 0) <= high:
            raise ConfigError(f"{owner}: {self.path}={value} is outside its search space [{low}, {high}]")
        if self.step is not None and not _divides(self.step, float(value or 0) - low):
            raise ConfigError(f"{owner}: {self.path}={value} is no step of {self.step} from {low}")

    def ends(self) -> tuple[Value, Value]:
        """The first and the last value, in the field's own type."""
        if self.type == "categorical":
            return self.choices[0], self.choices[-1]
        low, high = self._range()
        return (int(low), int(high)) if self.type == "int" else (float(low), float(high))

    def grid(self, points: int) -> list[Value]:
        """All choices or steps, or where there are none `points` values from low to high; whole ones once each."""
        if self.type == "categorical":
            return list(self.choices)
        import numpy as np

        low, high = self._range()
        if self.step is not None:
            values = low + self.step * np.arange(round((high - low) / self.step) + 1)
        else:
            values = np.geomspace(low, high, points) if self.log else np.linspace(low, high, points)
        if self.type == "int":
            return [int(value) for value in np.unique(values.round())]
        return [float(value) for value in np.unique(np.clip(values, low, high))]

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
            finite = is_number(end) and math.isfinite(float(end or 0))
            if not finite or (self.type == "int" and end != int(end or 0)):
                raise self._error(f"{name}={end!r} must be a {'whole ' if self.type == 'int' else ''}number")
        low, high = self._range()
        if low > high:
            raise self._error(f"low={low} is above high={high}")
        if not isinstance(self.log, bool) or (self.log and (low <= 0 or self.step is not None)):
            raise self._error(f"log={self.log} needs low > 0 and no step")
        self._check_step(high - low)

    def _check_step(self, width: float) -> None:
        if self.step is None:
            return
        whole = self.type != "int" or self.step == int(self.step)
        if not (is_number(self.step) and self.step > 0 and whole):
            raise self._error(f"step={self.step!r} must be a {'whole ' if self.type == 'int' else ''}number above 0")
        if not _divides(self.step, width):
            raise self._error(f"step={self.step} does not lead from low={self.low} to high={self.high}")

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(f"space.{self.path}: {reason}")


def entries(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every path of a space and what is said of it; a node that says its `type` is one, and keys may hold dots."""
    for key, value in node.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if not isinstance(value, dict):
            raise ConfigError(f"space.{path}={value!r} must be a mapping such as {{type: float, low: 0, high: 1}}")
        if is_entry(value):
            yield path, value
        elif value and not any(isinstance(child, dict) for child in value.values()):
            raise ConfigError(f"space.{path} has no type: add one of {', '.join((*TYPES, GROUP))}")
        else:
            yield from entries(value, path)


def is_entry(node: Mapping[Any, Any]) -> bool:
    """Does it say a `type`, so that it is a dimension or a group, and no part of a path?"""
    return not isinstance(node.get("type", {}), dict)


def read_dimension(path: str, entry: Mapping[str, Any], owner: str | None = None) -> Dimension:
    """The dimension that a config entry describes; raises ConfigError."""
    known = [field.name for field in fields(Dimension) if field.name not in ("path", "owner")]
    for key in entry:
        if key not in known:
            raise ConfigError(f"space.{path}: unknown key '{key}'{close(str(key), known)}; keys: {known}")
    choices = entry.get("choices", ())
    given = {**entry, "choices": tuple(choices) if isinstance(choices, list) else ()}
    return Dimension(**given, path=path, owner=owner)


def is_number(value: object) -> bool:
    """A number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _divides(step: float, width: float) -> bool:
    return abs(width / step - round(width / step)) < 1e-9
