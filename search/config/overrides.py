"""KEY=VALUE words as a user types them: what they change, and how Hydra's grammar has to see them.

A value that the grammar cannot read is the text that it is: a path with blanks, brackets or accents needs no quotes of
its own. Where a field holds text anyway, what looks like a number, a list or several values is text as well.
"""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NoReturn, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from search.config.errors import ConfigError
from search.config.schema import Schema, SearchSettings

TEXTS = {"path", "images", "annotations", "revision", "split", "language", "uri", "experiment", "artifacts"}
SEVERAL = "task"  # the group of which several options are one: task=several
PLACES = ("folder", "cache", "out", "model.path", "task.images", "task.annotations")  # task.path: where it is read


def key_of(word: str) -> str:
    """The field or the group that a word is about."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def changed_keys(words: Iterable[str]) -> set[str]:
    """The fields and groups to which the words give a value."""
    return {key_of(word) for word in words if not word.startswith("~")}


def is_below(key: str, place: str) -> bool:
    """Is `key` the place itself, or in it?"""
    return f"{key}.".startswith(f"{place}.")


def check_used(words: Iterable[str], unused: Mapping[str, str]) -> None:
    """Raise ConfigError for a word about a field that the command does not read; `unused` says what to type instead.

    Words that change no result, such as folder=, study=, seed= or tracking=, are shared by the commands of one script:
    no command refuses them.
    """
    for word in words:
        for place, remedy in unused.items():
            if is_below(key_of(word), place):
                raise ConfigError(f"{word} has no place in this command: {remedy}")


def spelled(word: str) -> str:
    """The word as Hydra reads it; raises ConfigError for one that is no KEY=VALUE, or that names several values."""
    key, equals, value = word.partition("=")
    if equals and not key_of(word):
        _unreadable(word)
    if value.startswith("~/") and key in PLACES:  # the shell leaves it as it is behind `=`
        return f"{key}={quoted(os.path.expanduser(value))}"
    try:
        override = parsed(word)
    except HydraException as error:
        if not equals:
            _unreadable(word, error)
        return _as_text(key, value, word, error)
    if re.match(r"hydra\b", key_of(word)):
        raise ConfigError(f"{word}: there is nothing to set in hydra; configs of your own: --config-dir DIR")
    if override.is_delete():
        return word
    if _is_text(key_of(word)):
        plain = override.is_sweep_override() or not isinstance(override.value(), str | QuotedString | None)
        return f"{key}={quoted(value)}" if plain else word
    if key == SEVERAL and names_several(word):
        return word  # compose makes one task of them
    is_list = isinstance(override.value(), list) and word.partition(".")[0].partition("=")[1]
    if override.is_sweep_override() or is_list:
        raise ConfigError(_several(key, value))
    return word


def names_several(word: str) -> list[str]:
    """The options of GROUP=A,B; none for any other word."""
    key, equals, value = word.partition("=")
    names = [name.strip() for name in value.split(",")]
    listed = equals and key.isidentifier() and len(names) > 1 and all(name.isidentifier() for name in names)
    return names if listed else []


def values_of(word: str) -> list[str]:
    """The values of KEY=A,B or KEY=range(0,3), each as a word has it; none for any other word, nor where they are one.

    They are one in a text, and in task=A,B, which is one task.
    """
    try:
        override = parsed(word)
    except HydraException:
        return []
    key = key_of(word)
    if not override.is_sweep_override() or key == SEVERAL or _is_text(key):
        return []
    return [str(value) for value in override.sweep_string_iterator()]


def quoted(text: str) -> str:
    """The text as Hydra's grammar takes it, whatever signs are in it."""
    return str(QuotedString(text=text, quote=Quote.single).with_quotes())


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def parsed(word: str) -> Override:
    """What Hydra's grammar makes of a word, just as it stands. Raises HydraException."""
    return _parser().parse_override(word)


def _as_text(key: str, value: str, word: str, error: Exception) -> str:
    if value[:1] in ("[", "{") and not _is_text(key_of(key)):
        raise ConfigError(
            f"cannot read '{word}': {value} is no list or mapping; a text that begins so is quoted: {key}='\"...\"'"
        ) from error
    try:
        parsed(f"{key}={quoted(value)}")
    except HydraException:
        _unreadable(word, error)
    return f"{key}={quoted(value)}"


def _unreadable(word: str, error: Exception | None = None) -> NoReturn:
    raise ConfigError(f"cannot read '{word}': write KEY=VALUE, for example policy=fixed") from error


def _several(key: str, value: str) -> str:
    search = {"policy": ", or let one study choose: space=policies"}.get(key, "")
    return (
        f"{key}={value} names several values: run the command once for each (studies: autoprune sweep){search}; "
        f"a text with such signs is quoted: {key}='\"{value}\"'"
    )


def _is_text(key: str) -> bool:
    """Does the field hold a text? Of parts that the config names by `_target_`, the usual names are known."""
    parent, _, name = key.rpartition(".")
    of_part = parent in ("model", "task", "report.task", "tracking") or parent.startswith("task.tasks.")
    return key in _texts_of_schema() or (of_part and name in TEXTS)


@cache
def _texts_of_schema() -> frozenset[str]:
    types = get_type_hints(Schema) | {f"search.{name}": kind for name, kind in get_type_hints(SearchSettings).items()}
    return frozenset(name for name, kind in types.items() if kind in (str, str | None))
