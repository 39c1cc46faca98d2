"""Official scores against cases worked out by hand."""

import pytest

from autoprune_lab.metrics.options import circular_accuracy, option_letter, rotations, with_letters
from autoprune_lab.metrics.vqa import CONTRACTIONS, normalise, vqa_accuracy
from autoprune_lab.metrics.yes_no import Confusion, mme_answer, mme_scores, pope_answer


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("The Cat.", "cat"),
        ("two dogs", "2 dogs"),
        ("None", "0"),
        ("an apple, a pear", "apple pear"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),  # only one apostrophe is ever put back
        ("couldn'tve", "couldn't've"),
        ("Bob's", "bob 's"),
        ("1,000", "1000"),
        ("black-and-white", "black and white"),
        ("black -and- white", "black and white"),
        ("t -shirt by e-mail", "t shirt by email"),  # one mark beside a space, and none of its kind leaves one
        ("t- shirt by e-mail", "t shirt by email"),
        ("3.5 m.", "3.5 m"),
        ("yes!", "yes"),
        ("  10:30  ", "10:30"),
        ("a.b", "ab"),
        ("what?\nno", "what no"),
        ("", ""),
    ],
)
def test_answers_are_spelled_as_vqa_spells_them(given, expected):
    assert normalise(given) == expected


def test_contractions_are_those_of_the_official_table():
    assert len(CONTRACTIONS) == 114  # 120, less two that change nothing and four in capitals that never match
    assert CONTRACTIONS["yall'll"] == CONTRACTIONS["y'allll"] == "y'all'll"
    assert CONTRACTIONS["somebody'd"] == "somebodyd"  # the table's own slip


@pytest.mark.parametrize(("people", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_an_answer_counts_as_far_as_people_gave_it(people, score):
    answers = ["Two"] * people + [f"other {i}" for i in range(10 - people)]
    assert vqa_accuracy("the 2", answers) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Yes", "yes"), ("No", "no"), ("no, it is not", "no"), ("There is not. Yes", "no"), ("Yes. No", "yes"),
     ("NO", "yes"), ("nothing", "yes"), ("", "yes")],
)  # fmt: skip
def test_pope_takes_everything_for_yes_that_has_no_no_in_its_first_sentence(text, answer):
    assert pope_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Yes.", "yes"), ("y", "yes"), ("N", "no"), ("No, it", "no"), ("Oh yes", "other"), ("x", "other"), ("", "other"),
     ("know", "no")],
)  # fmt: skip
def test_mme_looks_at_four_letters(text, answer):
    assert mme_answer(text) == answer


def test_pope_figures():
    pairs = [("yes", "yes")] * 3 + [("yes", "no")] + [("no", "no")] * 4 + [("no", "yes")] * 2
    figures = Confusion.of(pairs).figures()
    assert figures == pytest.approx(
        {"accuracy": 0.7, "precision": 3 / 4, "recall": 3 / 5, "F1": 2 * 0.75 * 0.6 / 1.35, "yes ratio": 0.4}
    )
    assert Confusion.of([("no", "no")]).figures()["F1"] == 0


def test_mme_adds_accuracy_and_accuracy_plus():
    rows = [("count", "a", 1.0), ("count", "a", 1.0), ("count", "b", 1.0), ("count", "b", 0.0)]
    rows += [("OCR", "a", 0.0), ("OCR", "a", 0.0), ("code_reasoning", "c", 1.0), ("code_reasoning", "c", 1.0)]
    rows += [("OCR", "lonely", 1.0)]  # its other question is not there
    assert mme_scores(rows) == {
        "perception": 75 + 50 + 0,
        "cognition": 200,
        "OCR": 0,
        "code_reasoning": 200,
        "count": 75 + 50,
    }


@pytest.mark.parametrize(
    ("text", "letter"),
    [("A", "A"), (" B. a dog", "B"), ("(C) x", "C"), ("The answer is D.", "D"), ("so the answer is (A)", "A"),
     ("Apple", None), ("a", None), ("", None), ("I think B", None)],
)  # fmt: skip
def test_the_letter_of_an_answer(text, letter):
    assert option_letter(text) == letter


def test_options_turn_with_their_answer():
    assert with_letters(["x", "y"]) == "A. x\nB. y"
    turned = rotations(["x", "y", "z"], "B")
    assert turned == [(["x", "y", "z"], "B"), (["y", "z", "x"], "A"), (["z", "x", "y"], "C")]


def test_circular_accuracy_wants_every_rotation():
    rows = [(7, 1.0), (1_000_007, 1.0), (2_000_007, 0.0), (8, 1.0), (1_000_008, 1.0), (9, 0.0)]
    assert circular_accuracy(rows) == pytest.approx({"circular accuracy": 1 / 3, "first-pass accuracy": 2 / 3})
    assert circular_accuracy([(1_000_007, 1.0)]) == {"circular accuracy": 1.0}  # its first rotation was not asked
