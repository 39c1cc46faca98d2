"""Scores of multiple-choice questions."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

LETTERS = "ABCDEFGH"
AT_START = re.compile(r"\(?([A-H])\)?(?:$|[.,:)\s])")
IN_SENTENCE = re.compile(r"[Tt]he answer is \(?([A-H])\b")
TURN = 1_000_000  # MMBench numbers the k-th rotation of question i with i + k * TURN


def option_letter(text: str) -> str | None:
    """The letter that an answer begins with (A, A., (A)), or names (The answer is A); None where there is none.

    Source: LLaVA's eval_science_qa.py, which takes exactly "A", "A. ..." and "The answer is A".
    """
    stripped = text.strip()
    found = AT_START.match(stripped) or IN_SENTENCE.search(stripped)
    return found.group(1) if found else None


def with_letters(options: Sequence[str]) -> str:
    """The options, a line each, lettered."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def rotations(options: Sequence[str], answer: str) -> list[tuple[list[str], str]]:
    """The options turned by 0, 1, ... places, each with the letter that the answer then has."""
    right = LETTERS.index(answer)
    n = len(options)
    return [([*options[k:], *options[:k]], LETTERS[(right - k) % n]) for k in range(n)]


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
