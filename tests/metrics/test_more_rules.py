"""Official rules of scoring, with cases worked out by hand from the code that each docstring cites."""

import pytest

from autoprune_lab.metrics.boxes import box_of, overlap
from autoprune_lab.metrics.mmmu import chosen_letter, earliest_letter, open_is_right
from autoprune_lab.metrics.options import before_bracket, first_capital, lone_letter
from autoprune_lab.metrics.short_answers import anls, contains_answer, edit_distance, relaxed_accuracy
from autoprune_lab.metrics.yes_no import hallusion_answer


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("21", "20", 1), ("19", "20", 1), ("21.1", "20", 0), ("-20", "20", 0), ("20%", "0.2", 1), ("20%", "20", 0),
        ("0.0", "0", 0), ("0", "0", 1), ("Yes", "yes", 1), ("yes.", "yes", 0), ("1,000", "1000", 0),
        ("1,000", "1,000", 1), ("nan", "3", 0), ("", "3", 0),
    ],
)  # fmt: skip
def test_relaxed_accuracy(said, answer, right):
    assert relaxed_accuracy(said, answer) == right


@pytest.mark.parametrize(
    ("said", "answers", "score"),
    [
        ("1979", ["1979"], 1), ("1978", ["1979"], 0.75), ("19", ["1979"], 0.5), ("1", ["1979"], 0),
        ("THE  year", ["the year"], 1), ("b", ["a", "B"], 1), ("abx", ["abc"], 2 / 3),
    ],
)  # fmt: skip
def test_anls(said, answers, score):
    assert anls(said, answers) == pytest.approx(score)


def test_edit_distance():
    assert [edit_distance(*pair) for pair in (("kitten", "sitting"), ("", "ab"), ("ab", "ba"))] == [3, 2, 2]


@pytest.mark.parametrize(
    ("said", "answer", "formula", "right"),
    [
        ("It says STOP.", "stop", False, 1), ("st\nop", "st op", False, 1), ("s t o p", "stop", False, 0),
        (r"\frac { a } { b }", r"\frac{a}{b}", True, 1), ("A + b", "a + b", True, 0), ("x = A\n+ b", "A+b", True, 1),
    ],
)  # fmt: skip
def test_ocrbench(said, answer, formula, right):
    assert contains_answer(said, [answer], formula) == right


OPTIONS = {"A": "a red car", "B": "a blue bus", "C": "a boat"}


@pytest.mark.parametrize(
    ("said", "last", "earliest"),
    [
        ("B", "B", "B"), ("B.", "B", "B"), ("(A) or (C)", "C", "A"), ("A. red", "A", "A"), ("It is B. A bus", "A", "B"),
        ("I think that it is a blue bus there", "B", "B"), ("first a red car and then a boat", "C", "A"),
        ("a blue bus", None, None), ("none", None, None), ("", None, None), ("B A", "A", "B"),
    ],
)  # fmt: skip
def test_letters_of_mmmu_and_egoschema(said, last, earliest):
    assert (chosen_letter(said, OPTIONS), earliest_letter(said, OPTIONS)) == (last, earliest)


@pytest.mark.parametrize(
    ("said", "answers", "right"),
    [
        ("3.43", ["3.429"], True), ("about 1,234 people", ["1234"], True), ("x = 2\ny = 5", ["5"], True),
        ("x = 2\ny = 5", ["2"], False), ("The answer is blue.", ["Blue"], True), ("It is 2e3", ["2000"], True),
        ("so it is seven\nthus eight", ["seven"], True), ("apple", ["a"], False), ("a", ["a"], True),
        ("the a b", ["a"], True), ("", ["x"], False), ("5 apples", ["apple"], True), ("34", ["3"], False),
    ],
)  # fmt: skip
def test_open_answers_of_mmmu(said, answers, right):
    assert open_is_right(said, answers) is right


def test_letters_of_the_video_benchmarks():
    prefixes = ("The best answer is", "Best option:")
    said = ("The best answer is C", "Best option: D", "d", "Definitely B", "xyz")
    assert [first_capital(text, "ABCD", prefixes) for text in said] == ["C", "D", None, "D", None]
    assert [before_bracket(text) for text in ("B) x", "(C) x", "B", "B. x", ") x", "")] == [
        "B",
        "C",
        "B",
        "B. x",
        "",
        "",
    ]
    said = ("(B) two", "b", "C. it", "It is a dog", "B,C", "none", "", "e.\nx", "can't say")
    assert [lone_letter(text) for text in said] == ["B", "B", "C", "A", "B", None, None, "E", None]


def test_hallusion_answers():
    assert [hallusion_answer(text) for text in ("Yes.", "no", "", "Eyes", "I do not know")] == [
        "yes",
        "no",
        "no",
        "yes",
        "no",
    ]


def test_boxes():
    assert box_of("at [0.1, 0.2,0.3, 1] or [0, 0, 1, 1]") == (0.1, 0.2, 0.3, 1)
    assert [box_of(text) for text in ("(0, 0, 1, 1)", "[0, 0, 1]", "[.1, 0, 1, 1]", "")] == [None] * 4
    one = (0.0, 0.0, 0.5, 1.0)
    boxes = [(0.0, 0.0, 1.0, 1.0), (0.25, 0.0, 0.75, 1.0), (0.5, 0.0, 1.0, 1.0), (0.5, 1.0, 0.0, 0.0)]
    found = [overlap(box, one) for box in (one, *boxes, None)]
    assert found == pytest.approx([1, 0.5, 1 / 3, 0, 0, 0])
