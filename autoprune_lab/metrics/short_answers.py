"""Scores of short free answers: ChartQA's, DocVQA's and OCRBench's."""

from collections.abc import Sequence

TOLERANCE = 0.05  # of a number, relative
ANLS_THRESHOLD = 0.5


def relaxed_accuracy(prediction: str, answer: str) -> float:
    """1 when a number lies within 5 % of the answer, or the text is the answer in any case; else 0.

    "12%" is 0.12, on both sides; thousands separators make text of a number, and so does an answer of 0.

    Source: ChartQA, arXiv 2203.10244, sec. 5.1, as coded in lmms-eval (tasks/chartqa/utils.py), after Qwen-VL.
    """
    given, target = _number(prediction), _number(answer)
    if given is not None and target:
        return float(abs(given - target) / abs(target) <= TOLERANCE)
    return float(prediction.lower() == answer.lower())


def anls(prediction: str, answers: Sequence[str]) -> float:
    """1 - edit distance / longer length, of the nearest answer, in [0.5, 1]; below 0.5 it is 0.

    Distances ignore case and spaces beside spaces; lengths are those of the texts as they stand.

    Source: DocVQA, arXiv 2007.00398, sec. 5 (Average Normalised Levenshtein Similarity), as coded by its server and
    lmms-eval (api/metrics.py).
    """
    nearest = max(_similarity(prediction, answer) for answer in answers)
    return nearest if nearest >= ANLS_THRESHOLD else 0.0


def contains_answer(prediction: str, answers: Sequence[str], formula: bool = False) -> float:
    """1 when any answer stands in the text, in any case; of a `formula` spaces do not count, but case does.

    Source: OCRBench, arXiv 2305.07895, its example.py. Differs: lmms-eval lowers the predicted formula, not the answer.
    """
    plain = _formula if formula else _line
    return float(any(plain(answer) in plain(prediction) for answer in answers))


def edit_distance(one: str, other: str) -> int:
    """Fewest insertions, deletions and replacements of a letter (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        above, row = row, [i]
        for j, opposite in enumerate(other, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != opposite)))
    return row[-1]


def _similarity(prediction: str, answer: str) -> float:
    longer = max(len(prediction.upper()), len(answer.upper()))
    distance = edit_distance(" ".join(prediction.lower().split()), " ".join(answer.lower().split()))
    return 1 - distance / longer if longer else 1.0


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _line(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
