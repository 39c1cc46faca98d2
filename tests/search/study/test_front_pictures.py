"""A trial that enters the front keeps a picture of what it keeps, as an artifact of optuna's; no study dies of one."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from answering import answering
from fake_evaluator import FakeEvaluator, objective, run, settings
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from PIL import Image

from autoprune_lab.evaluation import kept_patches
from autoprune_lab.tasks.shapes import ShapesTask
from autoprune_lab.trace.contact_sheet import PANEL
from search.config.errors import ConfigError
from search.study import front_pictures, loop
from search.study.front_pictures import ARTIFACTS, FrontPictures
from search.study.storage import StudyStorage

WORDS = ("policy=fixed", "scorer=random", "search.n_trials=8")


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """However busy the machine is."""
    monkeypatch.setattr(front_pictures, "BESIDE", math.inf)


@pytest.fixture(scope="module")
def evaluator():
    """A model of as many layers as the arithmetic, whose answers nobody reads."""
    evaluator = SimpleNamespace(vlm=answering(16), prepared=SimpleNamespace(samples=ShapesTask("tune", 1).samples()))
    evaluator.geometries = FakeEvaluator().geometries
    return evaluator


def illustrated(given, pictures, stop_at=None):
    opened = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    loop.enqueue(opened, given.baselines)
    loop.run(opened, replace(objective(given, FakeEvaluator(stop_at)), illustrate=pictures), given)
    return opened


def artifacts(study):
    """Of each trial, by its number."""
    return {t.number: get_all_artifact_meta(t, storage=study._storage) for t in study.trials}


def entered(study):
    """The trials that no earlier one was as good as, in both."""
    front, numbers = [], []
    for trial in (t for t in study.trials if t.values):
        cost, score = trial.values
        if all(cost < other or score > best for other, best in front):
            numbers.append(trial.number)
        front.append((cost, score))
    return numbers


def test_those_that_enter_the_front_have_one_picture_each_also_where_the_study_went_on(tmp_path, evaluator):
    whole = settings(tmp_path / "whole", *WORDS)
    cut = settings(tmp_path / "cut", *WORDS)
    study = illustrated(whole, FrontPictures(whole.out, evaluator))
    with pytest.raises(KeyboardInterrupt):
        illustrated(cut, FrontPictures(cut.out, evaluator), stop_at=3)
    resumed = illustrated(cut, FrontPictures(cut.out, evaluator))
    for given, found in ((whole, study), (cut, resumed)):
        told = artifacts(found)
        assert [number for number, some in told.items() if some] == entered(found)
        assert 2 <= len(entered(found)) < len(found.trials)
        store = FileSystemArtifactStore(given.out / ARTIFACTS)
        for (kept,) in filter(None, told.values()):
            assert (kept.filename, kept.mimetype) == ("kept-patches.jpg", "image/jpeg")
            with store.open_reader(kept.artifact_id) as file, Image.open(file) as picture:
                assert picture.width > PANEL
                assert picture.height > 4 * PANEL
    ran = [t for t in resumed.trials if t.values]
    assert [(t.params, t.values) for t in ran] == [(t.params, t.values) for t in study.trials if t.values]


def test_results_are_those_of_a_study_without_pictures_and_a_picture_that_fails_is_told_once(
    tmp_path, evaluator, monkeypatch, capsys
):
    plain = run(settings(tmp_path / "plain", *WORDS), FakeEvaluator())

    def broken(*_):
        raise kept_patches.UnknownPlacesError("patches are where nobody knows")

    monkeypatch.setattr(front_pictures, "show", broken)
    given = settings(tmp_path, *WORDS)
    study = illustrated(given, FrontPictures(given.out, evaluator))
    assert [(t.params, t.values) for t in study.trials] == [(t.params, t.values) for t in plain.trials]
    assert not any(artifacts(study).values())
    assert capsys.readouterr().err.count("no pictures of what trials keep: patches are where nobody knows") == 1


def test_pictures_rest_where_they_have_had_their_share_of_the_time(tmp_path, evaluator, monkeypatch):
    monkeypatch.setattr(front_pictures, "BESIDE", 0.0)
    monkeypatch.setattr(front_pictures, "SHARE", 0.0)
    given = settings(tmp_path, *WORDS)
    study = illustrated(given, FrontPictures(given.out, evaluator))
    assert [number for number, some in artifacts(study).items() if some] == entered(study)[:1]


def test_a_storage_that_is_away_is_not_taken_for_a_picture_that_failed(tmp_path, evaluator, monkeypatch):
    def away(**_):
        raise front_pictures.StorageError("search.storage does not answer")

    monkeypatch.setattr(front_pictures, "upload_artifact", away)
    given = settings(tmp_path, *WORDS)
    with pytest.raises(ConfigError, match="does not answer"):
        illustrated(given, FrontPictures(given.out, evaluator))


def test_pictures_are_switched_by_a_word_that_makes_no_other_study(tmp_path):
    on, off = settings(tmp_path), settings(tmp_path, "search.pictures=false")
    assert (on.typed.search.pictures, off.typed.search.pictures) == (True, False)
    assert on.made_of() == off.made_of()
