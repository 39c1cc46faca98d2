"""What a search says where there is no terminal, by a clock of its own."""

import logging

import pytest
from fake_evaluator import FakeEvaluator, objective, settings

from search.study import loop, progress
from search.study.progress import watching
from search.study.storage import StudyStorage


@pytest.fixture
def studied(tmp_path, caplog):
    """A study of no trial, and a function that adds some."""
    caplog.set_level(logging.DEBUG, logger="search")
    given = settings(tmp_path, "policy=fixed", "study=wide", "search.n_trials=9")
    study = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    own = objective(given, FakeEvaluator())

    def add(n):
        study.sampler = given.sampler(len(study.trials), own.space)
        study.optimize(own, n_trials=n)

    return study, add


def lines(caplog, level=logging.INFO):
    ours = [record for record in caplog.records if record.name.startswith("search")]
    return [record.message for record in ours if record.levelno == level]


def test_a_line_at_the_beginning_every_so_often_and_at_the_end(studied, caplog):
    study, add = studied
    now = [100.0]
    with watching(study, 9, clock=lambda: now[0]) as look:
        assert lines(caplog) == ["wide: trial 0/9, nothing within the bound yet"]
        now[0] += progress.EVERY - 1
        add(2)
        look()
        assert len(lines(caplog)) == 1  # not yet
        now[0] += 1
        look()
        assert len(lines(caplog)) == 1  # nothing has ended since
        add(1)
        look()
        assert lines(caplog)[-1].startswith("wide: trial 3/9, best score 0.")
        assert "hypervolume 0." in lines(caplog)[-1]
        assert lines(caplog)[-1].endswith("6 trials/min, 01:00 left")
        add(6)
        look()
    assert len(lines(caplog)) == 3
    assert lines(caplog)[-1].startswith("wide: trial 9/9, ")


def test_every_trial_is_a_line_for_who_wants_them(studied, caplog):
    study, add = studied
    with watching(study, 9) as look:
        add(4)
        look()
    told = lines(caplog, logging.DEBUG)
    assert len(told) == 4
    ran = next(trial for trial in study.trials if trial.values)
    score = f"trial {ran.number}: score {ran.values[1]:.3f} at {ran.values[0]:.3f}"
    assert any(line.startswith(f"wide: {score}") and "pruner.policy.layer=" in line for line in told)


def test_a_finished_study_says_one_line(studied, caplog):
    study, add = studied
    add(9)
    with watching(study, 9) as look:
        look()
    assert len(lines(caplog)) == 1
