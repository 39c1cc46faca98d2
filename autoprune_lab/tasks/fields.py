"""One row of a benchmark's files, and what its fields must be: the one rule for all benchmarks.

A field fits or its row is left out with the reason. Nothing is repaired, and nothing but text becomes text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autoprune_lab.tasks.pictures import Picture
from autoprune_lab.tasks.selection import Row, UnfitRow, Where

BLANK = ("nan", "NaN")  # what tables write for an empty cell; "None" is a word like any other
KINDS = {
    type(None): "null", bool: "true or false", int: "a number", float: "a floating-point number", str: "text",
    dict: "an object", list: "a list",
}  # fmt: skip


class UnfitError(ValueError):
    """Why a row cannot be asked or scored; a few words."""


@dataclass(frozen=True)
class Given:
    """A row as a file has it; `order` counts the rows of all files from 0. A field is null where it is not there."""

    where: Where
    order: int
    values: Mapping[str, Any] = field(repr=False)
    pictures: tuple[Picture, ...] = ()

    def text(self, name: str) -> str:
        """Text that is not blank. Raises UnfitError."""
        return text(self.values.get(name), name)

    def label(self, name: str) -> str:
        """Text or a whole number, as ids and kinds may be. Raises UnfitError."""
        value = self.values.get(name)
        return str(value) if type(value) is int else text(value, name)

    def label_of(self, *names: str, default: str) -> str:
        """The first of these that holds anything; else the default. Raises UnfitError."""
        return next((self.label(name) for name in names if not is_empty(self.values.get(name))), default)

    def number(self, name: str) -> int:
        """A whole number. Raises UnfitError."""
        value = self.values.get(name)
        if type(value) is not int:
            raise UnfitError(f"{_what(value)} as {name}")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts, empty ones allowed. Raises UnfitError."""
        value = self.values.get(name)
        if not isinstance(value, list):
            raise UnfitError(f"{_what(value)} as {name}")
        if strange := [item for item in value if not isinstance(item, str)]:
            raise UnfitError(f"{_what(strange[0])} among its {name}")
        return [unicode(item, name) for item in value]

    def answers(self, name: str = "answers") -> tuple[str, ...]:
        """From text, or a list of text or of {"answer": text}; none where all are empty. Raises UnfitError."""
        value = _answer(self.values.get(name))
        items = [_answer(item) for item in (value if isinstance(value, list) else [value])]
        if all(map(is_empty, items)):
            return ()
        if any(map(is_empty, items)):
            raise UnfitError(f"an empty one among its {name}")
        return tuple(text(item, name) for item in items)

    def yes_no(self, name: str) -> tuple[str, ...]:
        """yes or no as the one answer; none where it is empty. Raises UnfitError."""
        if is_empty(self.values.get(name)):
            return ()
        word = self.text(name).strip().lower()
        if word not in ("yes", "no"):
            raise UnfitError(f"{name} that is neither yes nor no")
        return (word,)


def each(
    given: Iterable[Given], make: Callable[[Given], Iterable[Row]], group: Callable[[Given], str] | None = None
) -> Iterator[Row | UnfitRow]:
    """The rows that `make` makes of each given one; where it raises UnfitError, all of them are left out.

    `group` names what a row belongs to, and may raise UnfitError too.
    """
    for one in given:
        try:
            yield from [replace(row, where=one.where) for row in make(one)]
        except UnfitError as error:
            yield UnfitRow(one.where, str(error), _group(one, group))


def by_key(given: Iterable[Given], key: Callable[[Given], Any]) -> dict[Any, Given]:
    """Notes on rows, to be found by a key; one whose key does not fit belongs to no row. Of equal keys the last counts.

    Raises nothing: a row without its note has no answer.
    """
    known = {}
    for one in given:
        try:
            known[key(one)] = one
        except UnfitError:
            continue
    return known


def options(values: Sequence[Any], letters: str) -> list[str | None]:
    """The text of each lettered option, None for an empty place: the others keep their letters. Raises UnfitError."""
    if len(values) > len(letters):
        raise UnfitError(f"more than {len(letters)} options")
    found = [None if is_blank(value) else text(value, "option") for value in values]
    if not any(found):
        raise UnfitError("no options")
    return found


def text(value: object, name: str) -> str:
    """The value, if it is text and not blank. Raises UnfitError."""
    if not isinstance(value, str) or not value.strip():
        raise UnfitError(f"{_what(value)} as {name}")
    return unicode(value, name)


def unicode(value: str, name: str) -> str:
    """The value. Raises UnfitError where JSON's escapes left half a letter in it, which nothing can write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnfitError(f"{name} that is no valid Unicode") from None
    return value


def is_empty(value: object) -> bool:
    """null, NaN or blank text?"""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def is_blank(value: object) -> bool:
    """Empty, or the word that tables write for it?"""
    return is_empty(value) or value in BLANK


def _answer(item: object) -> object:
    return item["answer"] if isinstance(item, dict) and "answer" in item else item


def _group(one: Given, group: Callable[[Given], str] | None) -> str:
    try:
        return "" if group is None else group(one)
    except UnfitError:
        return ""


def _what(value: object) -> str:
    """What kind of thing stands there."""
    if isinstance(value, str):
        return "text" if value.strip() else "nothing"
    return KINDS.get(type(value), type(value).__name__) if value == value else "NaN"
