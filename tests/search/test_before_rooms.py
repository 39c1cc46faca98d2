"""Studies, evaluations and words of before the code moved into rooms go on as if nothing had moved."""

import re
import shutil
from pathlib import Path

import optuna
import pandas as pd
import pytest
from fake_evaluator import FakeEvaluator, finished, objective, refused, settings
from mlflow_places import held
from optuna.trial import TrialState

from autoprune_lab.plugins.renamed import former, renamed
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from search.cli import main
from search.config.compose import compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.paths import select
from search.results import study_result
from search.results.folder import read_json
from search.results.seeds import contenders
from search.results.study_result import StudyResult
from search.study import loop, workers
from search.study.launchers import LocalLauncher
from search.study.objective import PRUNER
from search.study.storage import StudyStorage

BEFORE = Path(__file__).parents[1] / "data" / "before_rooms"
WEIGHTS = "cb04d71dcac4"  # mark of the model that answered
SCORER = "pruner.scorer._target_"
LAST, TEXT = "autoprune_lab.scoring.last_token_attention", "autoprune_lab.scoring.text_attention"
FEW = ("report.ratios=[0.5]", "report.points=2", "report.task.per_kind=4")
OLD = ("study=old", "search=tpe", "policy=logistic_adaptive", "task.per_kind=4", "search.baselines=[]", *FEW)
GRID = (
    "study=grid",
    "policy=fixed",
    "search=grid",
    "search.sampler.points=2",
    "search.baselines=[]",
    "task.per_kind=1",
)
GROUPS = ("study=groups", "search=tpe", "space=policies", "task.per_kind=2", "search.sampler.n_startup_trials=2")
SHELF = "space.policy.choices=[autoprune_official,complexity_spend,fixed,layerwise,logistic_adaptive]"  # of then
PRUNERS = {
    "autoprune_official": ["method=autoprune_official"],
    "mean_budget": ["method=autoprune_spend", "pruner.budget.scale=1.25"],
    "contextual_merge": ["method=visionzip", "pruner.recovery={compare: hidden, added: false}"],
    "keep_distinct": ["method=vispruner"],
    "per_view": ["policy=fixed", "scorer=per_view", "complexity=constant"],
    "non_duplication": ["method=fastv", "scorer=non_duplication", "pruner.policy.keep=0.2223"],
    "max_min_diversity": ["method=divprune"],
    "rater_attention": ["method=sparsevlm"],
    "feature_norm": ["scorer=feature_norm", "complexity=attention_entropy"],
    "random": ["method=random"],
    "uniform": ["method=none"],
    "own_curve": ["policy=fixed", "budget=none", "pruner.budget={_target_: autoprune_lab.budget.OwnCurve}"],
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def studies(here):
    """The folder of the old studies, in a copy."""
    return shutil.copytree(BEFORE / "studies", here / "runs")


def resumed(folder, words, n):
    """The old study, open, and run by the evaluator without a model until it has `n` trials."""
    given = settings(folder, *words, f"search.n_trials={n}")
    study = loop.open_study(StudyStorage.of(given.typed), given.made_of(WEIGHTS))
    loop.enqueue(study, given.baselines)
    loop.run(study, objective(given, FakeEvaluator()), given)
    return study, given


@pytest.mark.parametrize(("name", "words"), PRUNERS.items())
def test_a_pruner_s_file_is_the_pruner_that_its_words_give_now(name, words):
    now = Experiment.compose(words).pruner()
    assert plain(Pruner.load(BEFORE / "pruners" / f"{name}.yaml")) == plain(now)


def test_a_finished_study_is_read_and_exported(studies, capsys):
    result = StudyResult.read(studies / "old")
    assert result.front.labels == ("5", "1", "0")
    assert set(result.arms) == {"fixed", "layerwise", "random", "uniform"}
    assert former(result.config) == former(result.pruners) == {}
    for number in (5, 1, 0):
        assert main(["export", str(result.folder), "--pick", str(number)]) == 0
        tuned = Pruner.load(result.folder / "tuned" / f"trial-{number}.yaml")
        assert plain(Pruner.load("tuned.yaml")) == plain(tuned)
        assert plain(tuned) == plain(Experiment.compose().stored_pruner(result.pruners[number], "here"))


def test_a_finished_study_is_printed_again_without_a_model(studies, no_model, capsys):
    assert main(["study", *OLD, "search.n_trials=6", "tracking=none"]) == 0
    assert "6 trials, 3 on the front" in capsys.readouterr().out


def test_a_study_is_compared_with_one_of_now_that_differs_in_the_seed(here):
    shutil.copytree(BEFORE / "studies" / "old", here / "old-s0")
    finished(here, "old-s1", *OLD[1:], "seed=1", "search.n_trials=6")
    (one,) = contenders(StudyResult.find(here))
    assert (one.name, one.seeds) == ("old", (0, 1))
    assert main(["compare", "old-s0", "old-s1"]) == 0


@pytest.mark.usefixtures("undrawn")
def test_a_study_goes_on_as_it_would_have_gone_on(studies):
    """With the real model: the two new trials are those that the code of before made."""
    log = (studies / "old" / "journal.log").read_bytes()
    few = ("report.points=1", *(f"~report.arms.{name}" for name in ("fixed", "layerwise", "random", "uniform")))
    assert main(["study", *OLD, *few, "search.n_trials=8", "cache=null", "tracking=none"]) == 0
    assert (studies / "old" / "journal.log").read_bytes().startswith(log)
    now, then = (
        pd.read_csv(studies / name).drop(columns="seconds") for name in ("old/trials.csv", "old_at_8_trials.csv")
    )
    summed = ["complexity_mean", "complexity_sd"]  # over other batches than then: float32's last digits
    pd.testing.assert_frame_equal(now.drop(columns=summed), then.drop(columns=summed), check_exact=True)
    pd.testing.assert_frame_equal(now[summed], then[summed], rtol=1e-5)
    assert StudyResult.read(studies / "old").front.labels == ("7", "5", "1", "0")


def test_a_grid_goes_on_with_what_it_has_not_tried(studies):
    study, _ = resumed(studies, GRID, 8)
    tried = [tuple(trial.params.values()) for trial in study.trials]
    assert len(tried) == len(set(tried)) == 8
    assert {trial.params[SCORER] for trial in study.trials} == {LAST, TEXT}


def test_a_study_in_a_database_goes_on_with_its_waiting_trial_and_its_own_choices(here):
    database = shutil.copy(BEFORE / "studies.sqlite", here)
    words = (*GROUPS, f"search.storage=sqlite:///{database}")
    before = optuna.load_study(study_name="groups", storage=f"sqlite:///{database}").trials
    assert [trial.state for trial in before[2:]] == [TrialState.COMPLETE, TrialState.WAITING]
    with pytest.raises(ConfigError, match=re.escape(f"go on with {SHELF}, ")):
        resumed(here, words, 9)
    study, given = resumed(here, (*words, SHELF), 9)
    assert [(t.params, t.values, t.user_attrs) for t in study.trials[:3]] == [
        (t.params, t.values, t.user_attrs) for t in before[:3]
    ]
    assert study.trials[3].params == before[3].system_attrs["fixed_params"]
    assert len(study.trials) == 9
    assert {trial.distributions[SCORER].choices for trial in study.trials} == {(LAST, TEXT)}
    assert {trial.params[SCORER] for trial in study.trials[4:]} == {LAST, TEXT}
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        ran = given.stored_pruner(trial.user_attrs[PRUNER], "here")
        assert plain(ran.scorer)["_target_"] == renamed(trial.params[SCORER])


def test_baselines_that_nobody_had_asked_for_yet_are_asked_for_by_the_study_s_own_names(here):
    """The code of before died when it had only written down what the study is made of."""
    given = settings(here, "policy=fixed")
    made_of = given.made_of(WEIGHTS)
    study = loop.open_study(StudyStorage.of(given.typed), made_of)
    made_of["space"]["pruner"]["scorer"]["_target_"]["choices"] = [LAST, TEXT]
    study.set_user_attr(loop.SETTINGS, made_of)
    study, _ = resumed(here, ("policy=fixed",), 1)
    assert study.trials[0].user_attrs["baseline"] == 0
    assert study.trials[0].params[SCORER] == LAST


def test_a_setting_that_differs_is_still_refused(studies):
    with pytest.raises(ConfigError, match=rf"other settings: {SCORER} was '.*last_token_attention', now '.*uniform'"):
        resumed(studies, (*OLD, "scorer=uniform"), 8)


def test_a_worker_joins_a_study_that_was_begun_before(here):
    database = shutil.copy(BEFORE / "studies.sqlite", here)
    url = f"sqlite:///{database}"
    study = optuna.load_study(study_name="groups", storage=url)
    own = settings(here, "study=groups", f"search.storage={url}", "space=policies", SHELF)
    joined = workers.as_begun(own)
    loop.check_same(study, joined.made_of(WEIGHTS))
    study.set_user_attr(loop.WORDS, ["search=grid", "search.sampler._target_=search.samplers.grid", f"{SCORER}={TEXT}"])
    config = workers.as_begun(own).settings.config
    assert renamed([TEXT, "search.samplers.grid"]) == [select(config, at) for at in (SCORER, "search.sampler._target_")]
    study.set_user_attr(loop.WORDS, ["search.sampler._target_=search.launchers.LocalLauncher"])
    with pytest.raises(ConfigError, match=r"search: the study's storage names search.study.launchers.LocalLauncher"):
        workers.as_begun(own)


def test_mlflow_holds_the_study_in_one_run_before_and_after_it_went_on(studies, here, capsys):
    uri = f"sqlite:///{here}/mlflow.db"
    assert main(["sync", str(studies / "old"), "--uri", uri, "--experiment", "tests"]) == 0
    study, given = resumed(studies, OLD, 8)
    first = held(uri, study)
    study_result.write(study, given.settings)
    assert main(["sync", str(studies / "old"), "--uri", uri, "--experiment", "tests"]) == 0
    again = held(uri, study)
    assert (first.numbers, again.numbers) == ([*range(6)], [*range(8)])
    then, now = first.parent.data.params, again.parent.data.params
    newer = {name: now[name] for name in now.keys() - then.keys()}  # fields of since, which an old study leaves unset
    assert {**then, **newer} == now
    assert newer.pop("threads") == "auto"  # about the host, not about the study
    assert newer.pop("search.pictures") == "True"  # about what is shown of it
    assert set(newer.values()) <= {"None"}


def test_an_evaluation_goes_on_without_answering_again(here, no_model, capsys):
    out = shutil.copytree(BEFORE / "evaluation", here / "e")
    words = ["--no-baseline", "--out", "e", "policy=fixed", "budget.flops_ratio=0.35", "task.per_kind=2"]
    assert main(["evaluate", *words]) == 0
    assert "mean of kinds" in capsys.readouterr().out
    again, before = (pd.read_parquet(at / "pruned.parquet") for at in (out, BEFORE / "evaluation"))
    assert again["confidence"].isna().all()  # kept since; unknown of answers from before
    pd.testing.assert_frame_equal(again.drop(columns="confidence"), before)
    refused(["evaluate", *words, "scorer=random"], [f"{SCORER} was '{renamed(LAST)}', now"], capsys, out / "pruned")


def test_a_file_nested_too_deep_is_told_in_one_line_by_whoever_finds_it_too_deep(here):
    for depth in (700, 100_000):
        (here / "deep.json").write_text('{"a":' * depth + "1" + "}" * depth)
        with pytest.raises(ConfigError, match=r"deep.json cannot be read \(.*recursion"):
            read_json(here / "deep.json")


def test_old_names_in_words_and_in_a_user_s_own_files_are_those_of_now(here):
    for word in (f"{SCORER}={TEXT}", f"space.{SCORER}.choices=[{TEXT}]"):
        assert compose([word]).config == compose([word.replace(TEXT, renamed(TEXT))]).config
    (here / "conf" / "launcher").mkdir(parents=True)
    (here / "conf" / "launcher" / "mine.yaml").write_text("_target_: search.launchers.LocalLauncher\n")
    assert isinstance(Experiment.compose(["launcher=mine"], [here / "conf"]).launcher, LocalLauncher)


def test_a_mistyped_old_name_is_answered_with_the_new_one(here, capsys):
    said = ["text_atention", f"did you mean {renamed(TEXT)}?"]
    refused(["evaluate", f"{SCORER}=autoprune_lab.scoring.text_atention"], said, capsys, here)
