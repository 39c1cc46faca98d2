"""Scores of multiple-choice questions."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from autoprune_lab.metrics.vqa import PUNCTUATION, without_punctuation

LETTERS = "ABCDEFGH"
AT_START = re.compile(r"\(?([A-H])\)?(?:$|[.,:)\s])")
IN_SENTENCE = re.compile(r"[Tt]he answer is \(?([A-H])\b")
LINE_OF_OPTION = re.compile(r"([A-E])\.\s*.+$", re.IGNORECASE)
WORD = re.compile(r"\b([A-E])\b", re.IGNORECASE)
TURN = 1_000_000  # MMBench numbers the k-th rotation of question i with i + k * TURN


def option_letter(text: str) -> str | None:
    """The letter that an answer begins with (A, A., (A)), or names (The answer is A); None where there is none.

    Source: LLaVA's eval_science_qa.py, which takes exactly "A", "A. ..." and "The answer is A".
    """
    stripped = text.strip()
    found = AT_START.match(stripped) or IN_SENTENCE.search(stripped)
    return found.group(1) if found else None


def first_capital(text: str, letters: str, prefixes: Sequence[str]) -> str | None:
    """The first of the letters in a text without the prefixes, wherever it stands; None where there is none.

    Source: Video-MME's eval_your_results.py, and what MLVU, LongVideoBench and lmms-eval took from it.
    """
    for prefix in prefixes:
        text = text.replace(prefix, "")
    return next((letter for letter in text if letter in letters), None)


def before_bracket(text: str) -> str:
    """The letter before the first closing bracket; the whole text where there is none.

    Source: lmms-eval (tasks/mlvu/utils.py): its prompt ends with an opening bracket.
    """
    said, bracket, _ = text.strip().partition(")")
    return said[-1:] if bracket else said


def lone_letter(text: str) -> str | None:
    """The letter of "A. ...", or the first of a to e that is a word, in any case; None where there is none.

    The article a counts as A. Source: lmms-eval (tasks/mvbench/utils.py), with VQA's rules for punctuation.
    """
    said = text.strip()
    found = LINE_OF_OPTION.match(said) or WORD.search(_plain(said))
    return found.group(1).upper() if found else None


def with_letters(options: Sequence[str | None], form: str = "{}. {}") -> str:
    """The options, a line each, lettered by their place; None is an empty place."""
    lettered = zip(LETTERS, options, strict=False)
    return "\n".join(form.format(letter, option) for letter, option in lettered if option is not None)


def rotations(options: Sequence[str | None], answer: str) -> list[tuple[list[str | None], str]]:
    """The options turned by 0, 1, ... of their places, each with the letter that the answer then has.

    Empty places (None) stay empty. Raises ValueError for an answer that names no option.
    """
    places = [place for place, option in enumerate(options) if option is not None]
    if LETTERS.find(answer) not in places:
        raise ValueError(f"answer {answer!r} names none of {len(places)} options")
    right, n = places.index(LETTERS.index(answer)), len(places)
    turned = []
    for k in range(n):
        here: list[str | None] = [None] * len(options)
        for i, place in enumerate(places):
            here[place] = options[places[(i + k) % n]]
        turned.append((here, LETTERS[places[(right - k) % n]]))
    return turned


def circular_accuracy(rows: Iterable[tuple[int, float]]) -> dict[str, float]:
    """From (index, score 0 or 1): right in all rotations, and right in the first one, in [0, 1].

    Source: MMBench, arXiv 2307.06281, sec. 4.1 (CircularEval).
    """
    questions: dict[int, dict[int, float]] = defaultdict(dict)
    for index, score in rows:
        questions[index % TURN][index // TURN] = score
    first = [turns[0] for turns in questions.values() if 0 in turns]
    every = [min(turns.values()) for turns in questions.values()]
    figures = {"circular accuracy": sum(every) / len(every)}
    return figures | ({"first-pass accuracy": sum(first) / len(first)} if first else {})


def _plain(text: str) -> str:
    return without_punctuation(text.replace("\n", " ").replace("\t", " ").strip(), f"{PUNCTUATION},?")
