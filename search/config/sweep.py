"""Several experiments in one line of words: which they are, and what the study of each is called."""

import os
import re
from collections.abc import Sequence
from itertools import product
from pathlib import PurePath
from typing import NamedTuple

from search.config.errors import ConfigError
from search.config.overrides import key_of, values_of
from search.config.ranges import check_name

SEED = "seed"
NAME, FOLDER = "sweep", "runs"  # where a sweep is kept, unless study= and folder= say otherwise


class Point(NamedTuple):
    """One study of a sweep: its name, and the words that describe it."""

    name: str
    words: list[str]


def place_of(words: Sequence[str]) -> PurePath:
    """The folder in which the sweep's studies are. Raises ConfigError for a name that is none."""
    told = _told(words)
    check_name(name := told.get("study", NAME))
    return PurePath(os.path.expanduser(told.get("folder", FOLDER)), name)


def points(words: Sequence[str]) -> list[Point]:
    """One study for each combination of the values that words name, the last word's values changing fastest.

    A study is called by its values, joined by hyphens, its seed last: fixed-s0, which makes seeds of it. Of seeds alone
    it is the policy that was typed, so that a second policy may come later. Raises ConfigError where no word names
    several values, and where two studies would have one name.
    """
    swept = {word: values for word in words if (values := values_of(word))}
    if not swept:
        raise ConfigError("nothing is swept: give a word several values, such as seed=0,1,2, or run autoprune study")
    place, told = place_of(words), _told(words)
    fixed = [word for word in words if word not in swept and key_of(word) not in ("study", "folder")]
    found = []
    for chosen in product(*swept.values()):
        one = dict(zip(map(_key, swept), chosen, strict=True))
        name = _name(one, told.get("policy", place.name))
        own = [f"{key}={value}" for key, value in one.items()]
        found.append(Point(name, [*fixed, *own, f"folder={place}", f"study={name}"]))
    names = [point.name for point in found]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two studies of the sweep would be called {doubled[0]}: name each value once")
    return found


def _told(words: Sequence[str]) -> dict[str, str]:
    return {key_of(word): word.partition("=")[2] for word in words}


def _key(word: str) -> str:
    """What stands before the equals sign, a plus included."""
    return word.partition("=")[0]


def _name(values: dict[str, str], without: str) -> str:
    others = [re.sub(r"[^\w.+-]+", "_", value) for key, value in values.items() if key != SEED]
    return "-".join([*(others or [without]), *([f"s{values[SEED]}"] if SEED in values else [])])
