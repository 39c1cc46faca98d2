"""MMMU's reading of answers: a letter or an option's text out of a sentence, numbers and words out of another.

Source: MMMU, arXiv 2311.16502, eval/eval_utils.py (51ce7f3), which lmms-eval uses too. Its quirks are kept, each noted
where it is. Differs: where no option is found it draws one at random; here there is none, and the answer is wrong.
"""

import re
from collections.abc import Mapping, Sequence

MARKS = ",.!?;:'"  # stripped one after the other
FEW_WORDS = 5  # an answer of no more words is not searched for options' texts
KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
TRIVIAL = (":", ",", ".", "!", "?", ";", "'")
NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def chosen_letter(response: str, lettered: Mapping[str, str]) -> str | None:
    """The last of (A), else of "A ", else of "A.", else in more than five words of the options' texts, by letter.

    Which is last is asked of (A) and of " A " only; where none stands so, the first of the options counts.
    """
    said = _spaced(response)
    if bracketed := [letter for letter in lettered if f"({letter})" in said]:
        return max(bracketed, key=lambda letter: said.rfind(f"({letter})"))
    for form in ("{} ", "{}."):
        if named := [letter for letter in lettered if form.format(letter) in said]:
            return max(named, key=lambda letter: said.rfind(f" {letter} "))
    return _by_text(said, lettered, last=True)


def earliest_letter(response: str, lettered: Mapping[str, str]) -> str | None:
    """The first of (A), "A " and "A." of any option, else in more than five words of the options' texts.

    Each counts where it stands last. Source: lmms-eval (tasks/egoschema/utils.py), which changed MMMU's rule.
    """
    said = _spaced(response)
    forms = [(form.format(letter), letter) for form in ("({})", "{} ", "{}.") for letter in lettered]
    if named := [(said.rfind(form), letter) for form, letter in forms if form in said]:
        return min(named, key=lambda place: place[0])[1]
    return _by_text(said, lettered, last=False)


def open_is_right(response: str, answers: Sequence[str]) -> bool:
    """Does a key phrase of the response have an answer in it, or is one of its numbers an answer, at two decimals?"""
    right = [form for answer in answers for form in _forms(answer)]
    numbers = {form for form in right if isinstance(form, float)}
    words = [form for form in right if isinstance(form, str)]
    phrases = _key_phrases(response)
    found = [number for phrase in phrases for pattern in NUMBERS for number in pattern.findall(phrase)]
    given = [form for text in (*phrases, *found) for form in _forms(text)]
    return any(form in numbers if isinstance(form, float) else any(word in form for word in words) for form in given)


def _spaced(response: str) -> str:
    for mark in MARKS:
        response = response.strip(mark)
    return f" {response} "


def _by_text(said: str, lettered: Mapping[str, str], last: bool) -> str | None:
    if len(said.split()) <= FEW_WORDS:
        return None
    places = {letter: said.lower().rfind(option.lower()) for letter, option in lettered.items()}
    named = [letter for letter, place in places.items() if place >= 0]
    pick = max if last else min
    return pick(named, key=places.__getitem__) if named else None


def _key_phrases(response: str) -> list[str]:
    """Of each line what follows its last key word, the shortest such end; the whole text where no line has one.

    Sentences were to be split too, at a period before a capital, but the text is in lower case by then.
    """
    text = response.strip().strip(".").lower()
    *lines, final = text.split("\n")
    ends = [*(_end(line, KEYS) for line in lines), _end(final, (*KEYS, "="))]
    return [end for end in ends if end and end not in TRIVIAL] or [text]


def _end(line: str, keys: Sequence[str]) -> str:
    shortest = ""
    for key in keys:
        if key in line:
            end = line.split(key)[-1].strip()
            if not shortest or len(end) < len(shortest):  # an empty end is the shortest, and then no end
                shortest = end
    return shortest


def _forms(text: str) -> list[str | float]:
    """A number at two decimals, or lower-case text; one letter stands beside a space, lest it be found in any word."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lowered = text.lower()
        return [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]
