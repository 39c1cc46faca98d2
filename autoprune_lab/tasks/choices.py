"""Questions with lettered options: which letter a row's answer means."""

from collections.abc import Sequence

from autoprune_lab.metrics.options import LETTERS
from autoprune_lab.tasks.fields import Given, UnfitError, is_empty, options, text

Lettered = Sequence[str | None]  # by place; None is an empty place


def listed(given: Given, name: str) -> list[str | None]:
    """The options of a list, which are lettered by their place. Raises UnfitError."""
    values = given.values.get(name)
    if not isinstance(values, list):
        raise UnfitError(f"no list of {name}")
    return options(values, LETTERS)


def numbered(given: Given, name: str, lettered: Lettered) -> tuple[str, ...]:
    """The letter of the option that a number counts to, from 0; none where it is empty. Raises UnfitError."""
    return () if is_empty(given.values.get(name)) else _letter(given.number(name), lettered)


def named(given: Given, name: str, lettered: Lettered) -> tuple[str, ...]:
    """The letter that stands there; none where it is empty. Raises UnfitError where it is no option's."""
    if is_empty(given.values.get(name)):
        return ()
    letter = given.text(name).strip()
    return _letter(LETTERS.find(letter) if len(letter) == 1 else -1, lettered)


def quoted(given: Given, name: str, lettered: Lettered) -> tuple[str, ...]:
    """The letter of the option with that text, the first of several; none where it is empty. Raises UnfitError."""
    if is_empty(given.values.get(name)):
        return ()
    option = given.text(name)
    return _letter(lettered.index(option) if option in lettered else -1, lettered)


def worded(given: Given, name: str) -> list[str]:
    """Options that come with their letters, "A. red", in order. Raises UnfitError."""
    lines = [text(line, "option") for line in listed(given, name)]
    if [line.strip()[:1] for line in lines] != [*LETTERS[: len(lines)]]:
        raise UnfitError(f"{name} that are not lettered A, B, ...")
    return lines


def _letter(place: int, lettered: Lettered) -> tuple[str, ...]:
    if not 0 <= place < len(lettered) or lettered[place] is None:
        raise UnfitError("an answer that names no option")
    return (LETTERS[place],)
