"""VQA accuracy: an answer counts as far as people gave it, after the official spelling rules.

Source: VQA evaluation, https://visualqa.org/evaluation.html, in the form that its server, TextVQA and VizWiz use
(EvalAI's answer processor). Its quirks are kept, each noted where it is.
"""

import re
from collections.abc import Sequence

COUNTING = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(i) for i, word in enumerate(COUNTING)} | {"none": "0"}
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`!'  # commas and question marks are gone before; colons and apostrophes stay
THOUSANDS = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")  # not before a digit; the official pattern's other half never applies
MOST_PERIODS = 32  # the official code passes a flag where the count goes

CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _misspelt(word: str) -> list[str]:
    """The word with any one of its apostrophes left out."""
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


# somebody'd goes the other way in the official table
CONTRACTIONS = {wrong: word for word in CONTRACTED.split() for wrong in _misspelt(word)} | {"somebody'd": "somebodyd"}


def normalise(answer: str) -> str:
    """Lower case, number words as digits, no articles, no punctuation, contractions with their apostrophe."""
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = [NUMBERS.get(word, word) for word in text.split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """min(people who gave this answer / 3, 1), averaged over leaving each person out; in [0, 1].

    With ten people: 0, 0.3, 0.6, 0.9, 1 for 0, 1, 2, 3 and more of them. Differs from VQA's own script: both sides are
    always normalised, also where all people agree.
    """
    given = normalise(prediction)
    same = [normalise(answer) == given for answer in answers]
    others = [sum(same) - own for own in same]
    return sum(min(count / 3, 1.0) for count in others) / len(answers)


def without_punctuation(text: str, marks: str = PUNCTUATION) -> str:
    """A mark that stands beside a space anywhere goes, one that nowhere does becomes a space; most periods go.

    In a text with a thousands separator all marks go.
    """
    out, thousands = text, THOUSANDS.search(text) is not None
    for mark in marks:
        goes = thousands or f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if goes else " ")
    return PERIOD.sub("", out, count=MOST_PERIODS)
