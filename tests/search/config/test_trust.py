"""A worker takes what a study's storage says as a stranger's words: they run no code that nobody here has named."""

import sys
from types import SimpleNamespace

import pytest
from fake_evaluator import refused, settings

from autoprune_lab.plugins.parts import PackagesError
from autoprune_lab.pruner_file import plain
from search.config import trust
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.paths import select
from search.results import report
from search.study import loop, workers
from search.study.objective import PRUNER
from search.study.storage import StudyStorage

EVIL = "from pathlib import Path\nPath('ran').touch()\n"


@pytest.fixture
def own(here):
    """What the worker's own command gives; a module that leaves a mark when it is imported lies beside it."""
    (here / "alien.py").write_text(EVIL)
    return settings(here, "policy=fixed")


def joined(own, words, monkeypatch, packages=()):
    monkeypatch.setattr(loop, "existing", lambda storage: SimpleNamespace(user_attrs={loop.WORDS: words}))
    return workers.as_begun(own, packages)


def at(experiment, path):
    return select(experiment.settings.config, path)


@pytest.mark.parametrize(
    "word",
    [
        "out=/elsewhere",
        "++folder=/elsewhere",
        "cache=/elsewhere",
        "tracking.uri=http://elsewhere",
        "launcher._target_=alien.Part",
        "+launcher={_target_: alien.Part}",
        "task@launcher=shapes",
        "search={storage: 'sqlite:////elsewhere'}",
        "++search.storage=sqlite:////elsewhere",
        "hydra.searchpath=[pkg://alien]",
        "+hydra.job.chdir=true",
        "report.arms.fixed=[policy=alien]",
        "pruner.policy.layer=${oc.env:HOME}",
        "task.split=[",
        3,
    ],
)
def test_what_only_a_host_s_own_command_says_is_not_taken(word, own, here, monkeypatch):
    said = "which only their own commands may say" if isinstance(word, str) else "no list of words"
    with pytest.raises(ConfigError, match=said):
        joined(own, ["search.n_trials=7", word], monkeypatch)
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task._target_=alien.Part"], "task: the study's storage names alien.Part"),
        (["+task.more={_target_: alien.Part}"], "task: the study's storage names alien.Part"),
        (
            ["task._target_=autoprune_lab.models.checkpoint.load_model"],
            "task: .* names autoprune_lab.models.checkpoint",
        ),
        (["model._target_=autoprune_lab.pruner_file.write"], "model: the study's storage names autoprune_lab.pruner_f"),
        (["search.sampler._target_=optuna.samplers.CmaEsSampler"], "search: the study's storage names optuna.samplers"),
        (["search.pruner._target_=builtins.eval"], "search: the study's storage names builtins.eval"),
        (["pruner.policy._target_=alien.Part"], "need code of alien: add --package alien"),
        (["+space.pruner.scorer._target_.choices=[alien.Part]"], "need code of alien: add --package alien"),
        (["model=path", "model.path=here", "model.trust_remote_code=true"], "runs the code of its checkpoint"),
    ],
)
def test_code_that_nobody_here_has_named_is_not_run(words, said, own, here, monkeypatch):
    with pytest.raises(ConfigError, match=said):
        joined(own, words, monkeypatch)
    assert not (here / "ran").exists()


def test_a_storage_s_pruner_is_read_by_the_one_reader(own, here, monkeypatch):
    words = ["pruner.scorer._target_=autoprune_lab.pruner_file.write", "+pruner.scorer.path=x"]
    given = joined(own, words, monkeypatch)
    with pytest.raises(ConfigError, match=r"^pruner.scorer: got autoprune_lab.pruner_file.write, expected a scorer,"):
        given.pruner()


def test_what_the_worker_itself_names_is_taken(here, monkeypatch):
    (here / "conf" / "policy").mkdir(parents=True)
    (here / "conf" / "policy" / "mine.yaml").write_text("# @package pruner.policy\n_target_: alien.Part\n")
    word = "task._target_=alien.Part"
    assert at(joined(settings(here, word), [word], monkeypatch), "task._target_") == "alien.Part"
    own = Experiment.compose(["tracking=none"], [here / "conf"])
    assert at(joined(own, ["policy=mine"], monkeypatch), "pruner.policy._target_") == "alien.Part"
    policy = "pruner.policy._target_=alien.Part"
    assert at(joined(settings(here), [policy], monkeypatch, ["alien"]), "pruner.policy._target_") == "alien.Part"
    own = settings(here, "model=path", "model.path=here", "model.trust_remote_code=true")
    told_words = ["model=path", "model.path=there", "model.trust_remote_code=true"]
    assert at(joined(own, told_words, monkeypatch), "model.path") == "here"


def test_what_a_study_tells_is_taken(here, monkeypatch):
    words = [
        "policy=fixed",
        "search.n_trials=7",
        "pruner.policy.keep=0.3",
        "~report.arms.fixed",
        "seed=2",
        "search=qmc",
    ]
    given = Experiment.compose(words)
    assert trust.check_words(trust.words_for_others(given.settings), Experiment.compose()) == [
        w for w in words if w[0] != "~"
    ]
    found = joined(settings(here), trust.words_for_others(given.settings), monkeypatch)
    assert (at(found, "pruner.policy.keep"), found.typed.seed, found.typed.search.n_trials) == (0.3, 2, 7)


def test_a_text_with_signs_reaches_the_others(here, monkeypatch):
    given = Experiment.compose(["task=files", "task.path=/data/My Data (v2)/a,b.jsonl"])
    found = joined(settings(here), trust.words_for_others(given.settings), monkeypatch)
    assert at(found, "task.path") == "/data/My Data (v2)/a,b.jsonl"


def test_the_command_refuses_in_one_line(own, here, capsys, no_model):
    study = loop.open_study(StudyStorage.of(own.typed), own.made_of())
    study.set_user_attr(loop.WORDS, ["pruner.policy._target_=alien.Part"])
    loop.existing(StudyStorage.of(own.typed))
    refused(["worker", "study=s", f"folder={here}"], ["need code of alien", "--package alien"], capsys, here)
    assert "alien" not in sys.modules


def test_a_trial_s_pruner_that_is_none_is_refused_by_its_number(own, here):
    study = SimpleNamespace(
        study_name="s",
        get_trials=lambda **_: [SimpleNamespace(number=4, user_attrs={PRUNER: {"_target_": "os.system"}})],
    )
    own.out.mkdir()
    with pytest.raises(ConfigError, match=r"^study s, trial 4: needs code of os, such as os.system"):
        report.tuned_pruners(study, own, SimpleNamespace(labels=["4"]))
    with pytest.raises(ConfigError, match=r"^study s, trial 5: got None, expected a Pruner"):
        report.tuned_pruners(study, own, SimpleNamespace(labels=["5"]))


def test_a_stored_pruner_may_use_the_packages_of_the_study_s_own_config(here, monkeypatch):
    (here / "own_shelf.py").write_text(
        "from policies.fixed import FixedPolicy\n\n\nclass MinePolicy(FixedPolicy):\n    pass\n"
    )
    monkeypatch.syspath_prepend(here)
    mine = Experiment.compose(["policy=fixed", "pruner.policy._target_=own_shelf.MinePolicy"])
    node = plain(mine.pruner())
    assert mine.stored_pruner(node, "here") == mine.pruner()
    with pytest.raises(ConfigError, match=r"here: needs code of own_shelf") as error:
        Experiment.compose(["policy=fixed"]).stored_pruner(node, "here")
    assert isinstance(error.value.__cause__, PackagesError)
