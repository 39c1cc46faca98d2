"""Trials of a front that are ended early: what is foretold of them, what they keep, and what is refused."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import optuna
import pytest
from answering import answering
from fake_evaluator import FakeEvaluator, run, settings
from optuna.trial import TrialState

from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import GIB, prepare
from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.tasks.shapes import ShapesTask
from search.results.trial_table import left_out, trials_frame
from search.study.front import from_study
from search.study.futility import (
    ANSWERED,
    DOUBT,
    FIRST,
    Futility,
    blocks_of,
    highest_score,
    packed,
    separations,
    unpacked,
)
from search.study.model_evaluator import ModelEvaluator

N = 120
KINDS = tuple("easy" if i % 3 else "hard" for i in range(N))
WORDS = ("search=random", "search.n_trials=40")
ON = ("search.least_gain=0.0", "search.blocks=12")

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Answers:
    by_sample: np.ndarray
    kinds: np.ndarray
    flops_ratio: float

    def by_kind(self):
        return {kind: float(self.by_sample[self.kinds == kind].mean()) for kind in dict.fromkeys(self.kinds)}

    @property
    def score(self):
        return float(np.mean(list(self.by_kind().values())))


@dataclass(frozen=True)
class Part:
    number: int
    is_last: bool
    outcome: Answers
    so_far: Answers


@dataclass
class Answering(FakeEvaluator):
    """A sample is answered where the score of the whole plan reaches what the sample needs; some answers are luck."""

    dealt: list = field(default_factory=list)
    n_answered: list = field(default_factory=list)
    kinds: tuple = KINDS

    def deal(self, blocks):
        self.dealt.append(tuple(blocks))

    def run(self, pruner, after_block=None):
        whole = super().run(pruner)
        draws = np.random.default_rng(round(whole.score * 1e9))
        needs = np.random.default_rng(0).permutation(N) / N
        right = (needs < whole.score + draws.normal(0, 0.02, N)).astype(float)
        labels = np.array(self.kinds)
        blocks = np.array(self.dealt[-1]) if after_block else np.zeros(N, dtype=int)
        self.n_answered.append(0)
        for number in range(blocks.max() + 1):
            now, so_far = blocks == number, blocks <= number
            self.n_answered[-1] = int(so_far.sum())
            if after_block:
                parts = (Answers(right[at], labels[at], whole.flops_ratio) for at in (now, so_far))
                after_block(Part(number, number == blocks.max(), *parts))
        return Answers(right, labels, whole.flops_ratio)


def stopped(study):
    return [trial for trial in study.trials if "stopped" in trial.user_attrs]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The same random settings, answered whole and not."""
    found = {}
    for name, words in {"whole": (), "ended": ON}.items():
        evaluator = Answering()
        found[name] = run(settings(tmp_path_factory.mktemp(name), *WORDS, *words), evaluator), evaluator
    return found


def test_dominated_trials_end_early_and_the_front_is_the_same(studies):
    (whole, _), (ended, evaluator) = studies["whole"], studies["ended"]
    assert [trial.params for trial in ended.trials] == [trial.params for trial in whole.trials]
    early = stopped(ended)
    assert len(early) >= 5
    assert min(trial.number for trial in early) >= FIRST
    assert sum(evaluator.n_answered) < 0.85 * N * len(evaluator.n_answered)
    values = {trial.number: trial.values for trial in whole.trials}
    assert all(trial.values == values[trial.number] for trial in ended.trials if trial.state == TrialState.COMPLETE)
    assert from_study(ended).hypervolume() >= 0.99 * from_study(whole).hypervolume()
    wrongly = {str(trial.number) for trial in early} & set(from_study(whole).labels)
    assert len(wrongly) <= 2 * DOUBT * len(early)
    assert from_study(ended).left_out.no_result == len(early) == left_out(trials_frame(ended)).no_result


def test_a_stopped_trial_says_why_and_keeps_its_constraint_but_no_score(studies):
    ended, _ = studies["ended"]
    for trial in stopped(ended):
        assert trial.state == TrialState.PRUNED
        assert set(trial.constraints) == {"bound"}
        assert trial.constraints["bound"] <= 0
        assert f"of {N} samples: beside trial " in trial.user_attrs["stopped"]
        assert "score/hard" not in trial.user_attrs  # of the samples that separate alone: no score of the kind
    frame = trials_frame(ended)
    assert ANSWERED not in frame
    assert frame.loc[frame["stopped"].notna(), "score"].isna().all()


def test_the_order_is_fixed_by_the_first_trials_and_those_that_separate_come_first(studies):
    ended, evaluator = studies["ended"]
    assert len(set(evaluator.dealt)) == 1
    whole = [t for t in ended.trials if t.state == TrialState.COMPLETE][:FIRST]
    answers = np.array([unpacked(trial.user_attrs[ANSWERED]) for trial in whole])
    blocks = np.array(evaluator.dealt[0])
    assert np.bincount(blocks).tolist() == [N // 12] * 12
    differ = answers.std(0) > 0
    assert blocks[differ].max() <= blocks[~differ].min()


def test_an_interrupted_study_goes_on_as_if_it_had_not_stopped(tmp_path, studies):
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path, *WORDS, *ON), Answering(stop_at=15))
    resumed = run(settings(tmp_path, *WORDS, *ON), Answering())
    done = [(t.params, t.values, t.state) for t in resumed.trials if t.state != TrialState.FAIL]
    assert done == [(t.params, t.values, t.state) for t in studies["ended"][0].trials]


def test_the_order_waits_for_trials_under_way():
    study = optuna.create_study(directions=["minimize", "maximize"])
    futility = Futility(0.0, 4, ("a", "a", "b", "b"))

    def ended(score):
        trial = study.ask()
        trial.set_user_attr(ANSWERED, packed(np.array([1.0, score, 0.0, 0.0])))
        trial.set_constraint("bound", 0.0)
        study.tell(trial, [0.3, score])

    slow = study.ask()
    for _ in range(FIRST):
        ended(1.0)
    assert futility.watch(study, 0.4) is None
    study.tell(slow, state=TrialState.FAIL)
    watch = futility.watch(study, 0.4)
    assert watch is not None
    assert watch.blocks[1] == 1  # of four that never differed
    assert watch.weights.tolist() == [0.25] * 4


def test_a_trial_ends_only_where_it_cannot_add_enough():
    front = ParetoFront((0.2, 0.4), (0.5, 0.6), ("0", "1"))
    study = optuna.create_study(directions=["minimize", "maximize"])
    rng = np.random.default_rng(1)
    for cost, score in zip([*front.costs, 0.45, 0.46, 0.47], [*front.scores, 0.4, 0.3, 0.2], strict=True):
        trial = study.ask()
        trial.set_user_attr(ANSWERED, packed((rng.permutation(1000) < 1000 * score).astype(float)))
        trial.set_constraint("bound", 0.0)
        study.tell(trial, [cost, score])
    watch = Futility(0.01, 10, ("a",) * 1000).watch(study, 0.41)
    assert watch is not None
    assert watch.rival == "1"
    half = np.array(watch.blocks) <= 4
    assert watch.is_futile(4, np.zeros(500))
    assert watch.is_futile(4, watch.said[half])  # as good, but not better
    assert not watch.is_futile(4, np.ones(500))
    strict = dataclasses.replace(watch, least_gain=0.0)
    assert not strict.is_futile(4, watch.said[half])  # may yet be a little better


def test_the_highest_score_is_reached_as_seldom_as_it_says():
    rng = np.random.default_rng(0)
    n, weights = 400, np.full(400, 1 / 400)
    chance = rng.beta(1, 4, n)  # of being answered otherwise than by the rival
    spread = weights**2 * chance
    order = np.argsort(-chance)
    done = np.zeros(n, dtype=bool)
    done[order[:120]] = True
    over = 0
    for _ in range(2000):
        rival = (rng.random(n) < 0.5).astype(float)
        scores = np.where(rng.random(n) < chance, 1 - rival, rival)
        over += scores.mean() > highest_score(scores[done], rival, weights, spread, done)
    assert 0.8 * DOUBT < over / 2000 < 1.2 * DOUBT


def test_the_highest_score_narrows_to_the_score():
    scores, rival = np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0])
    weights, spread = np.full(4, 0.25), np.full(4, 0.01)
    done = np.array([True, True, True, False])
    assert highest_score(scores[:3], rival, weights, spread, done) <= 0.75
    tiny = np.array([0.01, 0.01, 0.01, 1e-12])
    assert highest_score(scores[:3], rival, weights, tiny, done) == pytest.approx(0.75, abs=1e-3)


def test_a_model_answers_the_same_in_the_blocks_that_are_dealt(tmp_path):
    vlm, task, pruner = answering(6), ShapesTask("tune", 3), settings(tmp_path, "policy=fixed").pruner()

    def prepared(blocks):
        return prepare(vlm, task, batch_size=5, blocks=blocks)

    evaluator = ModelEvaluator(vlm, prepared(1), prefixes=Prefixes(vlm, prepared(1), GIB), prepare=prepared)
    before, parts = evaluator.run(pruner), []
    blocks = tuple(int(place % 7 == 0) for place in range(len(evaluator.kinds)))
    evaluator.deal(blocks)
    dealt = evaluator.prepared
    evaluator.deal(blocks)
    assert evaluator.prepared is dealt
    after = evaluator.run(pruner, parts.append)
    assert [row.prediction for row in after.rows] == [row.prediction for row in before.rows]
    assert [part.so_far.by_sample.tolist() for part in parts] == [
        [row.score for row, block in zip(after.rows, blocks, strict=True) if block <= last] for last in (0, 1)
    ]


def test_scores_come_back_as_they_were_packed():
    scores = np.array([0.0, 1.0, 0.3, -2.5, 1 / 3])
    assert unpacked(packed(scores)).tolist() == scores.tolist()
    assert len(packed((np.random.default_rng(0).random(1000) < 0.8).astype(float))) < 500


def test_every_sample_may_separate():
    found = separations(np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    assert found[2] > found[0] == pytest.approx(found[1])
    assert found[0] > 0
    assert blocks_of(found, 3) == (1, 2, 0)
