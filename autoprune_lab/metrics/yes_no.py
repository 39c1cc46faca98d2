"""Scores of yes/no questions: POPE's, MME's and HallusionBench's."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip


def pope_answer(text: str) -> str:
    """yes or no: no when the first sentence has the word no, No or not.

    Source: LLaVA's eval_pope.py, after POPE's own evaluation.
    """
    words = text.split(".")[0].replace(",", "").split()
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def mme_answer(text: str) -> str:
    """yes, no or other. Source: MME's calculation.py, which looks for either in the first four letters."""
    cleaned = text.lower().strip().replace(".", "")
    if len(cleaned) == 1:
        return {"y": "yes", "n": "no"}.get(cleaned, "other")
    start = cleaned[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def hallusion_answer(text: str) -> str:
    """yes where the text has those letters anywhere, in any case; else no. Source: lmms-eval's evaluate_hb.py."""
    return "yes" if "yes" in text.lower() else "no"


@dataclass(frozen=True)
class Confusion:
    """Counts with yes as the positive answer."""

    true_yes: int
    false_yes: int
    true_no: int
    false_no: int

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> "Confusion":
        """From (predicted, expected) answers; anything but yes counts as no."""
        counts = [(predicted == "yes", expected == "yes") for predicted, expected in pairs]
        order = ((True, True), (True, False), (False, False), (False, True))
        return cls(*(counts.count(cell) for cell in order))

    @property
    def n(self) -> int:
        """All questions."""
        return self.true_yes + self.false_yes + self.true_no + self.false_no

    def figures(self) -> dict[str, float]:
        """POPE's five: accuracy, precision, recall, F1 and the share of predicted yes; 0 where undefined."""
        said_yes, are_yes = self.true_yes + self.false_yes, self.true_yes + self.false_no
        return {
            "accuracy": (self.true_yes + self.true_no) / self.n,
            "precision": self.true_yes / said_yes if said_yes else 0.0,
            "recall": self.true_yes / are_yes if are_yes else 0.0,
            "F1": 2 * self.true_yes / (said_yes + are_yes) if said_yes + are_yes else 0.0,
            "yes ratio": said_yes / self.n,
        }


def mme_scores(rows: Sequence[tuple[str, str, float]]) -> dict[str, float]:
    """MME's figures from (category, image, score 0 or 1): per category and summed over perception and cognition.

    A category's score is accuracy + accuracy+ in percent, at most 200; accuracy+ counts an image when both of its
    questions are right. Images without both of their questions are left out. Source: arXiv 2306.13394, sec. 2.3.
    """
    images: dict[tuple[str, str], list[float]] = defaultdict(list)
    for category, image, score in rows:
        images[category, image].append(score)
    pairs: dict[str, list[list[float]]] = defaultdict(list)
    for (category, _), scores in images.items():
        if len(scores) == 2:
            pairs[category].append(scores)
    found = {
        category: 100 * (sum(map(sum, both)) / 2 + sum(min(scores) == 1 for scores in both)) / len(both)
        for category, both in sorted(pairs.items())
    }
    perception = [score for category, score in found.items() if category in PERCEPTION]
    cognition = [score for category, score in found.items() if category not in PERCEPTION]
    sums = ({"perception": sum(perception)} if perception else {}) | (
        {"cognition": sum(cognition)} if cognition else {}
    )
    return sums | found


def hallusion_figures(rows: Sequence[tuple[str, str, float]]) -> dict[str, float]:
    """From (figure, question, score 0 or 1): the shares of answers, figures and questions that are right, in [0, 1].

    A figure is right when all questions about it are, a question when it is answered right of all its figures.

    Source: HallusionBench, arXiv 2310.14566, sec. 4, on yes/no as lmms-eval's evaluate_hb.py does without GPT-4.
    """

    def share(keys: Sequence[str]) -> float:
        groups: dict[str, list[float]] = defaultdict(list)
        for key, (_, _, score) in zip(keys, rows, strict=True):
            groups[key].append(score)
        return sum(map(min, groups.values())) / len(groups)

    return {
        "aAcc": sum(score for _, _, score in rows) / len(rows),
        "fAcc": share([figure for figure, _, _ in rows]),
        "qAcc": share([question for _, question, _ in rows]),
    }
