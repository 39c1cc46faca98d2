"""Studies that read no label: agreement, KL and cosine with the unpruned model."""

from dataclasses import replace

import optuna
import pandas as pd
import pytest
from answering import answering
from fake_evaluator import FakeEvaluator, finished, quick, refused, run, settings

from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.tasks.base import Sample, Task
from autoprune_lab.tasks.shapes import ShapesTask
from search.cli import main
from search.config.errors import ConfigError
from search.config.goal import SCORES
from search.results.seeds import contenders
from search.results.study_result import StudyResult
from search.study.complexity_cache import ComplexityCache
from search.study.label_free import label_free, unlabelled
from search.study.model_evaluator import ModelEvaluator
from search.study.objective import Objective

optuna.logging.set_verbosity(optuna.logging.ERROR)
FREE = [name for name in SCORES if name != "task"]
FIXED = ("policy=fixed", "scorer=uniform", "budget=none", "budget.flops_ratio=1", "pruner.probe_layer=-1")
FIXED = (*FIXED, "pruner.policy.layer=0")
KEEP = "+space.pruner.policy.keep={type: float, low: 0, high: 1}"


class Sealed(Sample):
    """A sample whose answers nobody may read."""

    def __getattribute__(self, name):
        assert name != "answers", "a label was read"
        return super().__getattribute__(name)


class SealedTask(Task):
    name, max_new_tokens = "sealed", 4

    def samples(self):
        return tuple(Sealed(**vars(sample)) for sample in ShapesTask("tune", 3).samples())

    def score(self, prediction, sample):
        raise AssertionError("an answer was scored with its label")


@pytest.fixture(scope="module")
def sealed():
    vlm = answering(6)
    return ModelEvaluator(vlm, prepare(vlm, SealedTask(), batch_size=12, blocks=2))


@pytest.mark.parametrize("score", FREE)
def test_no_label_is_read(sealed, score, tmp_path):
    given = settings(tmp_path, *FIXED, KEEP, f"search.score={score}", "search=random")
    study = optuna.create_study(directions=given.goal.directions)
    for keep in (1.0, 0.0):
        study.enqueue_trial({"pruner.policy.keep": keep})
    study.optimize(Objective.of(given, sealed), n_trials=2)
    values = [trial.values[1] for trial in study.trials]
    assert values[0] == pytest.approx(1.0)
    assert 0 <= values[1] < 1
    assert study.trials[1].user_attrs["score/chain"] <= 1


def test_a_calibrated_estimator_reads_none_either(sealed, tmp_path):
    words = ["policy=staircase_table", "complexity=needed_depth", "calibration.depths=3"]
    words += ["calibration.fractions=[0.25]", "pruner.complexity.figures=[mutual_information]"]
    given = settings(tmp_path, *words, "search.score=agreement")
    objective, study = Objective.of(given, sealed), optuna.create_study(directions=given.goal.directions)
    assert objective.calibrate(study, given.pruner()).complexity.ready
    assert any(key.startswith("calibrated/") for key in study.user_attrs)


def test_agreement_is_the_share_of_equal_answers_of_each_kind(sealed, tmp_path):
    pruner = settings(tmp_path, *FIXED, "pruner.policy.keep=0.0").pruner()
    whole, some = (unlabelled(sealed).run(one).rows for one in (None, pruner))
    same = pd.DataFrame([(a.kind, a.prediction == b.prediction) for a, b in zip(whole, some, strict=True)])
    found = label_free(sealed, "agreement").run(pruner)
    assert found.score == same.groupby(0)[1].mean().mean()
    assert found.score < 1


def test_the_unpruned_model_is_asked_once_also_by_another_process(sealed, tmp_path, monkeypatch):
    from search.study import label_free as module

    asked, read = [], module.read_reference
    monkeypatch.setattr(module, "read_reference", lambda *given: asked.append(1) or read(*given))
    pruner = settings(tmp_path, *FIXED, "pruner.policy.keep=0.1").pruner()
    cache = ComplexityCache(tmp_path, sealed.vlm, sealed.prepared)
    first, second = (label_free(replace(sealed, cache=cache), "kl") for _ in range(2))
    assert first.run(pruner).score == first.run(pruner).score == second.run(pruner).score
    assert len(asked) == 1
    assert [file.name[:9] for file in tmp_path.iterdir()] == ["unpruned-"]


@pytest.mark.parametrize("score", FREE)
def test_blocks_are_scored_alike(sealed, score, tmp_path):
    pruner = settings(tmp_path, *FIXED, "pruner.policy.keep=0.1").pruner()
    blocks, evaluator = [], label_free(sealed, score)
    whole = evaluator.run(pruner, blocks.append)
    assert [(block.number, block.is_last) for block in blocks] == [(0, False), (1, True)]
    assert blocks[1].so_far.score == whole.score == evaluator.run(pruner).score
    assert blocks[0].so_far.score == blocks[0].outcome.score


def test_a_study_of_before_is_the_same_study_and_another_score_another(tmp_path):
    assert "search.score" not in settings(tmp_path).made_of()
    assert settings(tmp_path, "search.score=task").made_of() == settings(tmp_path).made_of()
    assert settings(tmp_path, "search.score=kl").made_of()["search.score"] == "kl"
    run(settings(tmp_path, "search.n_trials=1"), FakeEvaluator())
    with pytest.raises(ConfigError, match=r"search.score was None, now 'kl'"):
        run(settings(tmp_path, "search.n_trials=1", "search.score=kl"), FakeEvaluator())


def test_a_seed_of_before_is_a_seed_of_the_same_study(tmp_path):
    studies = [finished(tmp_path, f"mine-s{seed}", f"seed={seed}", "policy=fixed") for seed in (0, 1)]
    file = studies[0].folder / "config.yaml"
    before = file.read_text()
    file.write_text(before.replace("  score: null\n", ""))
    assert file.read_text() != before
    (both,) = contenders([StudyResult.read(study.folder) for study in studies])
    assert both.seeds == (0, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search.score=klo"], ["search.score=klo", "did you mean kl", "task, agreement, kl, cosine"]),
        (["search.score=kl", "calibration.labels=true"], ["calibration.labels", "search.score=kl", "task"]),
        (["search.score=kl", "search.limits={x: 1}"], ["search.limits", "needs labels", "task"]),
    ],
)
def test_what_needs_labels_is_refused(words, said, capsys, here):
    refused(["study", *words], said, capsys, here)


def test_the_report_scores_with_labels_and_says_what_trials_were_chosen_by(here, checkpoint, capsys):
    assert main(["study", *quick(checkpoint, "policy=fixed", "study=free", "search.score=kl")]) == 0
    shown = capsys.readouterr().out
    assert "tune split, score: exp(-KL), along the unpruned model's answers" in shown
    assert "kl, tune" in shown
    assert main(["study", *quick(checkpoint, "policy=fixed", "study=labelled")]) == 0
    free, labelled = (StudyResult.read(here / "runs" / name) for name in ("free", "labelled"))
    assert "search_score" not in labelled.report
    rows = free.report[free.report["arm"] == "front"]
    assert set(free.report["search"]) == {"kl"}
    own = free.trials.set_index("trial")["score"]
    assert rows["search_score"].tolist() == own.loc[rows["trial"]].tolist()
    both = [study.report.set_index(["arm", "bound"])["score"] for study in (free, labelled)]
    others = [("unpruned", 1.0), ("fixed", 0.5), ("layerwise", 0.5)]
    assert both[0].loc[others].tolist() == both[1].loc[others].tolist()  # labels, as ever
    capsys.readouterr()
    assert main(["compare", "runs/free", "runs/labelled", "--split", "tune"]) == 2
    assert "different scores" in capsys.readouterr().err
    assert main(["compare", "runs/free", "runs/labelled"]) == 0
    shown = capsys.readouterr()
    assert "different scores (free by kl, labelled by task): only the report split is compared" in shown.err
    assert "tune split" not in shown.out


@pytest.mark.usefixtures("undrawn")
def test_where_nobody_has_labels_the_report_scores_by_agreement(here, checkpoint, monkeypatch, capsys):
    samples = ShapesTask.samples
    monkeypatch.setattr(ShapesTask, "samples", lambda task: tuple(replace(s, answers=()) for s in samples(task)))
    monkeypatch.setattr(ShapesTask, "score", SealedTask.score)
    assert main(["study", *quick(checkpoint, "policy=fixed", "study=bare", "search.score=agreement")]) == 0
    assert "the report split has no labels: its score is the agreement of answers" in capsys.readouterr().err
    report = StudyResult.read(here / "runs" / "bare").report
    assert report.loc[report["arm"] == "unpruned", "score"].tolist() == [1.0]
    assert report["score"].dropna().between(0, 1).all()  # an arm may be out of reach
