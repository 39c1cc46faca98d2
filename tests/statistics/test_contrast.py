"""Arms compared on the same samples, and whether adaptivity helps."""

from dataclasses import replace

import numpy as np
import pytest

from autoprune_lab.pruner import Pruner
from autoprune_lab.statistics.adaptivity import adaptivity_report, shufflings
from autoprune_lab.statistics.contrast import Arms, Estimate
from autoprune_lab.statistics.records import Record, Records
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

ROW = Record("", "a", "", (), 0.0, None, 10, 4, 5.0, 50, 100, 0, 25, 50, 4.5, (5, 5))


def records(scores, kinds=None):
    kinds = kinds or ["a"] * len(scores)
    rows = [replace(ROW, id=str(i), kind=k, score=float(s)) for i, (s, k) in enumerate(zip(scores, kinds, strict=True))]
    return Records(tuple(rows), 1.0)


HALF = np.tile([0.0, 1.0], 100)
BETTER = np.where(np.arange(200) < 10, 1.0, HALF)  # five more are right
ARMS = Arms({"half": records(HALF), "better": records(BETTER), "all": records(np.ones(200))})


def test_a_difference_is_paired():
    gain = ARMS.difference("better", ["half"])
    assert gain.value == pytest.approx(0.025)
    assert 0 < gain.low < 0.025 < gain.high < 0.06  # unpaired, its interval would be +- 0.1
    assert gain.clear
    assert not ARMS.difference("half", ["half"]).clear


def test_a_difference_is_clear_where_its_interval_leaves_out_0():
    ends = [(0.1, 0.2), (-0.2, -0.1), (0.0, 0.1), (-0.1, 0.0), (-0.1, 0.1)]
    assert [Estimate(0.0, *interval).clear for interval in ends] == [True, True, False, False, False]


def test_a_difference_from_the_mean_of_several():
    assert ARMS.difference("all", ["half", "better"]).value == pytest.approx(1 - (0.5 + 0.525) / 2)


def test_a_share_of_another_arm():
    share = ARMS.relative("half", "all")
    assert share.value == 0.5
    assert 0.42 < share.low < 0.5 < share.high < 0.58
    assert ARMS.relative("half", "half").low == 1.0
    assert np.isnan(Arms({"x": records([0.0, 0.0])}).relative("x", "x").value)
    assert np.isnan(Arms({"x": records([1.0, 0.0])}).relative("x", "x").value)  # some resamples hold no right answer


def test_groups_are_what_was_right_and_is_wrong_or_right_with_smaller_pictures():
    scores = {"whole": [1, 1, 0.5, 0, 0.4], "small": [0, 1, 0.4, 1, 0], "method": [1, 0, 0.5, 1, 1]}
    arms = Arms({name: records(values, list("aabbb")) for name, values in scores.items()})
    hard, easy = arms.groups("whole", "small")
    assert [hard.tolist(), easy.tolist()] == [[True, False, True, False, False], [False, True, False, False, False]]
    within = arms.score_within("method", hard)
    assert within.value == 0.75
    assert 0.5 <= within.low <= 0.75 <= within.high <= 1
    assert str(arms.score_within("method", easy)) == "0.000 [0.000, 0.000]"
    assert np.isnan(arms.score_within("method", hard & easy).value)


def test_scores_by_kind():
    arms = Arms({"x": records([1, 1, 0, 0, 0, 0], ["a", "a", "b", "b", "b", "b"])})
    assert arms.score("x").value == 0.5
    assert arms.score("x", "a").value == 1.0
    assert str(arms.score("x", "b")) == "0.000 [0.000, 0.000]"


def test_other_samples_cannot_be_paired():
    with pytest.raises(ValueError, match="'y' answered other samples than 'x'"):
        Arms({"x": records([1, 0]), "y": records([1])})


def test_shufflings_are_permutations_by_seed():
    bits = np.arange(50.0)
    first, second = shufflings(bits, 2, seed=3)
    assert sorted(first) == sorted(second) == bits.tolist()
    assert (first != second).any()
    assert (shufflings(bits, 1, seed=3)[0] == first).all()


def world(helps):
    """A sample is right if it is told its own complexity, or, where adaptivity does not help, always."""
    bits = np.linspace(0.1, 3, 60)

    def run(pruner, told):
        right = [True] * 60 if not helps else [False] * 60 if told is None else np.abs(told - bits) < 0.05
        return records(np.where(np.arange(60) % 10 == 0, False, right))

    return adaptivity_report(run, Pruner(LogisticAdaptivePolicy()), Pruner(FixedPolicy()), bits)


def test_every_arm_is_told_its_complexities():
    adaptive, fixed, bits, asked = Pruner(LogisticAdaptivePolicy()), Pruner(FixedPolicy()), np.arange(4.0), []

    def run(pruner, told):
        asked.append((pruner, None if told is None else told.tolist()))
        return records([1, 0, 1, 0])

    adaptivity_report(run, adaptive, fixed, bits, n_shuffles=2, seed=5)
    shuffled = [(adaptive, told.tolist()) for told in shufflings(bits, 2, seed=5)]
    assert asked == [(adaptive, [0, 1, 2, 3]), (fixed, None), (adaptive, [1.5] * 4), *shuffled]
    adaptivity_report(run, adaptive, fixed, bits)
    assert asked[5 + 3 :] == [(adaptive, told.tolist()) for told in shufflings(bits, 3, seed=0)]


def test_adaptivity_that_helps_is_seen():
    report = world(helps=True)
    assert report.shuffled.clear
    assert report.mean.clear
    assert report.fixed.value == pytest.approx(0.9)
    assert "better than the best fixed curve (+90.0 points" in report.answer


def test_adaptivity_that_does_not_help_is_not():
    report = world(helps=False)
    assert not any(gain.clear for gain in (report.fixed, report.shuffled, report.mean))
    assert "not clearly other than itself with shuffled complexities" in report.answer


def answered(words, scores=None, confidences=None):
    scores, confidences = scores or [0.0] * len(words), confidences or [None] * len(words)
    known = enumerate(zip(words, scores, confidences, strict=True))
    return Records(tuple(replace(ROW, id=str(i), prediction=w, score=s, confidence=c) for i, (w, s, c) in known), 1.0)


def test_loyalty_is_the_share_of_the_same_answers():
    arms = Arms({"whole": answered(["yes"] * 100), "own": answered(["yes"] * 90 + ["no"] * 10)})
    loyalty = arms.loyalty("own", "whole")
    assert loyalty.value == 0.9
    assert 0.8 < loyalty.low < 0.9 < loyalty.high < 0.97
    assert arms.loyalty("whole", "whole") == Estimate(1.0, 1.0, 1.0)


def test_an_arm_is_a_no_op_where_no_output_tells_it_from_another():
    whole = answered(["yes", "no"], None, [0.9, 0.8])
    others = {
        "same": answered(["yes", "no"], None, [0.9, 0.8 + 1e-8]),
        "less sure": answered(["yes", "no"], None, [0.9, 0.7]),
        "another answer": answered(["yes", "yes"], None, [0.9, 0.8]),
        "from before": answered(["yes", "no"]),
    }
    arms = Arms({"whole": whole} | others)
    assert [name for name in others if arms.is_no_op(name, "whole")] == ["same", "from before"]
