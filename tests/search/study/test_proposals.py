"""Ask and tell: settings that another program proposes, under the rules of a study."""

import importlib.util
import io
import json
import math
import random
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from fake_evaluator import FakeEvaluator, objective, quick, refused, run, settings
from optuna.trial import TrialState

import search
from search.cli import main
from search.config.errors import ConfigError
from search.results import study_result
from search.results.study_result import StudyResult
from search.results.trial_table import trials_frame
from search.study import loop
from search.study.front import from_study
from search.study.storage import StudyStorage
from search.study.trials import n_ended

optuna.logging.set_verbosity(optuna.logging.ERROR)
EXAMPLE = Path(__file__).parents[3] / "examples" / "hill_climbing.py"
FIXED = ("policy=fixed", "budget=none", "budget.flops_ratio=0.7", "search.n_trials=6", "scorer=uniform")
LAYER = "pruner.policy.layer"


@contextmanager
def opened(given, evaluator, observers=()):
    storage = StudyStorage.of(given.typed)
    study = loop.open_study(storage, given.made_of())
    loop.enqueue(study, given.baselines)
    with storage.liveness.enter() as worker:
        one = search.OpenStudy(study, given, worker, lambda: objective(given, evaluator), observers)
        try:
            yield one
        finally:
            one.put_back()


def points(study):
    return [(t.params, t.values, t.state) for t in study.trials if t.state != TrialState.FAIL]


@pytest.mark.parametrize("words", [("policy=logistic_adaptive",), ("space=policies", "policy=fixed")])
def test_what_is_asked_and_measured_is_the_study_bit_for_bit(tmp_path, words):
    words = (*words, "search.n_trials=14")
    whole = run(settings(tmp_path / "whole", *words), FakeEvaluator())
    with opened(settings(tmp_path / "asked", *words), FakeEvaluator()) as study:
        told = [search.tell(study, search.ask(study)) for _ in range(14)]
    assert points(study.study) == points(whole)
    assert [(one.cost, one.score) for one in told] == [tuple(t.values or (None, None)) for t in whole.trials]
    assert [one.state for one in told] == [t.state.name.lower() for t in whole.trials]


def test_what_is_told_is_in_the_tables_and_asks_nothing_of_the_model(tmp_path):
    evaluator, seen, given = FakeEvaluator(), [], settings(tmp_path, *FIXED)
    with opened(given, evaluator, [lambda study, trial: seen.append(trial.number)]) as study:
        low = search.tell(study, {LAYER: 3}, score=0.5, cost=0.3)
        high = search.tell(study, {LAYER: 4}, score=0.7, cost=0.4)
        search.tell(study, {LAYER: 3}, 0.4, 0.41)
        over = search.tell(study, {LAYER: 5}, 0.9, 0.71)  # by what was told: within the bound by arithmetic
    assert evaluator.runs == []
    assert (low.state, low.feasible, low.score, low.cost) == ("complete", True, 0.5, 0.3)
    assert (over.state, over.feasible) == ("complete", False)
    assert study.study.trials[over.trial].constraints["bound"] == pytest.approx(0.01)
    front = study_result.write(study.study, given.settings)
    assert (front.costs, front.scores) == ((0.3, 0.4), (0.5, 0.7))
    frame = trials_frame(study.study).set_index("trial")
    assert frame.loc[[low.trial, high.trial], ["cost", "flops_ratio", "score"]].values.tolist() == [
        [0.3, 0.3, 0.5], [0.4, 0.4, 0.7],
    ]  # fmt: skip
    assert frame.loc[high.trial, "told"]
    assert seen == [low.trial, high.trial, low.trial + 2, over.trial]
    assert study.study.trials[high.trial].user_attrs["pruner"]["policy"]["layer"] == 4


def test_settings_over_the_bound_are_refused_whatever_is_told(tmp_path):
    with opened(settings(tmp_path, *FIXED), FakeEvaluator()) as study:
        told = search.tell(study, {LAYER: 8}, score=1.0, cost=0.1)
    assert (told.state, told.feasible, told.score) == ("pruned", False, None)
    assert "over the bound" in told.reason
    assert from_study(study.study).labels == ()
    assert n_ended(study.study) == 1


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (({LAYER: 99}, 0.5, 0.5), "99 is outside its search space"),
        (({LAYER: 3, "pruner.policy.keep": 0.5}, 0.5, 0.5), "pruner.policy.keep is not in the search space"),
        (({}, 0.5, 0.5), "pruner.policy.layer is missing: give all of pruner.policy.layer"),
        (({LAYER: 3}, math.nan, 0.5), "score=nan is no finite number"),
        (({LAYER: 3}, 0.5, math.inf), "cost=inf is no finite number"),
        (({LAYER: 3}, "0.5", 0.5), "score='0.5' is no finite number"),
        (({LAYER: 3}, 0.5), "score and cost are told together"),
    ],
)
def test_what_cannot_be_told_is_one_line_and_leaves_nothing(tmp_path, told, said):
    with opened(settings(tmp_path, *FIXED), FakeEvaluator()) as study:
        before = len(study.study.trials)
        with pytest.raises(ConfigError, match=said):
            search.tell(study, *told)
        assert len(study.study.trials) == before


def test_no_more_than_n_trials_begin(tmp_path):
    with opened(settings(tmp_path, *FIXED, "search.n_trials=2"), FakeEvaluator()) as study:
        asked = [search.ask(study) for _ in range(2)]
        for begin in (lambda: search.ask(study), lambda: search.tell(study, {LAYER: 7}, 0.5, 0.3)):
            with pytest.raises(ConfigError, match=r"has begun all of its 2 trials: raise search\.n_trials"):
                begin()
        for one in asked:
            search.tell(study, one, 0.5, 0.3)
        assert n_ended(study.study) == len(study.study.trials) == 2


def test_a_limit_cannot_be_told(tmp_path):
    with (
        opened(settings(tmp_path, *FIXED, "search.limits={collision_rate: 0.9}"), FakeEvaluator()) as study,
        pytest.raises(ConfigError, match=r"search\.limits needs figures of the task"),
    ):
        search.tell(study, {LAYER: 3}, 0.5, 0.3)


def test_what_was_asked_and_never_told_waits(tmp_path):
    given = settings(tmp_path, *FIXED, "search=random")
    with opened(given, FakeEvaluator()) as study:
        asked = [search.ask(study) for _ in range(3)]
        told = search.tell(study, asked[1], 0.5, 0.3)
    with opened(given, FakeEvaluator()) as study:
        late = search.tell(study, asked[2], 0.6, 0.4)  # by another process
        assert [search.ask(study)] == asked[:1]
    loop.run(study.study, objective(given, FakeEvaluator()), given)  # autoprune study goes on
    ended = [t for t in study.study.trials if t.state.is_finished() and t.state != TrialState.FAIL]
    assert len(ended) == given.typed.search.n_trials
    assert sum(t.params == asked[0] for t in ended) >= 1
    assert {told.trial, late.trial} <= {t.number for t in ended}


def test_a_stopped_measurement_waits_too(tmp_path):
    given = settings(tmp_path, *FIXED)
    with opened(given, FakeEvaluator(stop_at=0)) as study:
        with pytest.raises(KeyboardInterrupt):
            search.tell(study, {LAYER: 3})
        assert search.tell(study, {LAYER: 3}).state == "complete"
        assert n_ended(study.study) == 1


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("hill_climbing", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_climbs(tmp_path, example):
    with opened(settings(tmp_path, "search.n_trials=12"), FakeEvaluator()) as study:
        _, best = example.climb(study, 12)
    values = [trial.values for trial in study.study.trials if trial.values and max(trial.constraints.values()) <= 0]
    assert best.score == max(score for _, score in values)
    assert best.score > values[0][1]
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def test_the_example_changes_one_operator_of_a_stage_at_a_time(example):
    given = search.Experiment.compose(["experiment=operators"])
    (settings,), rng = given.baselines, random.Random(0)
    steps = [set((settings | example.neighbour(settings, given.space, rng)).items()) for _ in range(400)]
    changed = [step - set(settings.items()) for step in steps]
    assert all(len(change) == 1 for change in changed)
    operators = {one for change in changed for one in change if "operators" in one[0]}
    assert operators == {(f"pruner.recovery.operators.{i}", to) for i in range(3) for to in ("merge", "pool")}


def test_on_the_command_line_lines_go_out_and_in(here, checkpoint, capsys, monkeypatch):
    words = quick(checkpoint, "policy=fixed", "study=p", "search=random")
    assert main(["propose", *words, "--count", "2"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    lines = [json.dumps(first | {"score": 0.5, "cost": 0.4}), "", json.dumps(second)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert main(["tell", *words]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (told[0]["score"], told[0]["cost"], told[0]["state"]) == (0.5, 0.4, "complete")
    study = StudyResult.read(here / "runs" / "p")
    assert study.trials["trial"].tolist() == [one["trial"] for one in told]
    assert study.trials["told"].notna().tolist() == [True, False]
    assert study.front.scores[-1] >= 0.5
    monkeypatch.setattr("sys.stdin", io.StringIO('{"settings": {}, "score": NaN, "cost": 1}\n'))
    assert main(["tell", *words]) == 2
    assert "line 1: score=nan is no finite number" in capsys.readouterr().err
    assert len(StudyResult.read(here / "runs" / "p").trials) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ["line 1", "is no JSON"]),
        ("[]", ["line 1", "has no settings"]),
        ('{"settings": {}, "scroe": 1}', ["line 1", "unknown key 'scroe'", "did you mean score"]),
    ],
)
def test_a_wrong_line_is_told(line, said):
    from search.commands import tell

    with pytest.raises(ConfigError) as error:
        tell._read(line)
    assert all(word in f"line 1: {error.value}" for word in said)


def test_a_count_below_one_is_refused(here, capsys):
    refused(["propose", "--count", "0"], ["--count 0", "at least 1"], capsys, here)
