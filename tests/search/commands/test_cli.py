"""The command line, from help to a whole study on a narrow model."""

import errno
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import time

import pandas as pd
import pytest
import sqlalchemy
from fake_evaluator import quick, refused
from hydra.errors import InstantiationException
from mlflow.exceptions import MlflowException

from search import commands
from search.cli import main
from search.command_line import parser_of, read, search_here_last
from search.commands import export
from search.config.compose import compose
from search.config.experiment import Experiment
from search.config.overrides import changed_keys
from search.study import model_evaluator


@pytest.mark.parametrize("verb", ["", "study", "evaluate", "compare", "export", "train", "new-policy"])
def test_help_says_how_to_begin(verb, capsys):
    assert main([*([verb] if verb else []), "--help"]) == 0
    shown = capsys.readouterr()
    assert f"autoprune {verb or 'study'} " in shown.out
    assert shown.err == ""


def test_help_is_quick():
    code = (
        "import sys; from search.cli import main; main(['--help']); main(['study', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'optuna', 'mlflow', 'hydra', 'pandas')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


LOUD = {"": 2, "-q": 1, "--quiet": 1, "-v": 3, "--verbose": 3, "-v -q": 2}


@pytest.mark.parametrize("words", LOUD)
@pytest.mark.parametrize("line", ["{} export x", "export x {}"], ids=["before", "behind"])
def test_every_command_is_as_loud_as_it_is_told(words, line, monkeypatch, capsys):
    def speak(given):
        for level in (logging.WARNING, logging.INFO, logging.DEBUG):
            logging.getLogger("search.commands.export").log(level, "said at %s", level)
        return 0

    monkeypatch.setattr(export, "run", speak)
    assert main(line.format(words).split()) == 0
    told = [text.partition(" said at ")[2] for text in capsys.readouterr().err.splitlines()]
    assert told == ["30", "20", "10"][: LOUD[words]]
    assert not logging.getLogger("search").handlers  # for whoever comes next it is as before
    assert logging.getLogger("search").level == logging.NOTSET


@pytest.mark.parametrize("verb", commands.find())
def test_help_tells_how_loud(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--quiet" in shown
    assert "--verbose" in shown


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("autoprune ")


@pytest.mark.parametrize(
    "line",
    [
        "task.per_kind=5 --tokens 192 64 --methods fastv pdrop --out a=b ~report.arms.random",
        "--tokens 192 64 task.per_kind=5 --methods fastv pdrop ~report.arms.random --out a=b",
        "--methods fastv pdrop --out a=b --tok 192 64 task.per_kind=5 ~report.arms.random",
        "--out=a=b --methods fastv pdrop task.per_kind=5 --tokens 192 64 ~report.arms.random",
    ],
)
def test_words_may_stand_anywhere(line):
    given = read(parser_of("table", commands.find()["table"]), line.split())
    assert given.overrides == ["task.per_kind=5", "~report.arms.random"]
    assert (given.tokens, given.methods, str(given.out)) == ([192.0, 64.0], ["fastv", "pdrop"], "a=b")


def test_words_may_stand_before_the_command(here, capsys):
    refused(["policy=fixd", "study"], ["unknown policy 'fixd'"], capsys, here)


@pytest.mark.parametrize(
    ("words", "tune", "report"),
    [
        ([], 50, 100),
        (["task.per_kind=3"], 3, 3),
        (["report.task.per_kind=4"], 50, 4),
        (["task.per_kind=3", "report.task.per_kind=4"], 3, 4),
        (["experiment=quick"], 6, 6),
    ],
)
def test_what_is_typed_for_the_task_counts_in_a_table(words, tune, report):
    experiment = Experiment.compose(words)
    measured = experiment.report_settings(changed_keys(words))
    assert (experiment.task.per_kind, measured["per_kind"], measured["split"]) == (tune, report, "report")


def caused(error, cause):
    error.__cause__ = cause
    return error


TOLD = {
    "disk full": (OSError(errno.ENOSPC, "No space left on device", "runs/x"), "No space left on device: runs/x"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "runs/x"), "Read-only file system: runs/x"),
    "sqlite": (sqlite3.OperationalError("database is locked"), "database is locked"),
    "sqlalchemy": (
        sqlalchemy.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("disk I/O error")),
        "OperationalError: disk I/O error",
    ),
    "password": (
        sqlalchemy.exc.ArgumentError("no dialect for postgresql://me:secret@host/db"),
        "no dialect for postgresql://me:***@host/db",
    ),
    "hydra": (
        caused(InstantiationException("Error in call to target 'a.b':\nRuntimeError"), RuntimeError("no such\nthing")),
        "RuntimeError: no such thing",
    ),
    "json": (json.JSONDecodeError("Expecting value", "x", 0), "Expecting value: line 1 column 1 (char 0)"),
    "mlflow": (MlflowException("API request failed"), "API request failed"),
    "table": (pd.errors.EmptyDataError("No columns to parse from file"), "No columns to parse from file"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_failure_of_disk_database_or_file_is_one_line(name, monkeypatch, capsys):
    error, told = TOLD[name]

    def fail(given):
        raise error

    monkeypatch.setattr(export, "run", fail)
    assert main(["export", "x"]) == 2
    assert capsys.readouterr().err == f"autoprune: {told}\n"
    assert main(["--debug", "export", "x"]) == main(["export", "x", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("Traceback (most recent call last)") >= 2
    assert shown.endswith(f"\nautoprune: {told}\n")


def test_what_nobody_foresaw_keeps_its_traceback_and_says_so(monkeypatch):
    def fail(given):
        raise AttributeError("'NoneType' object has no attribute 'x'")

    monkeypatch.setattr(export, "run", fail)
    with pytest.raises(AttributeError) as raised:
        main(["export", "x"])
    assert "not foreseen" in raised.value.__notes__[0]


@pytest.mark.parametrize("first", ["", "cwd"])
def test_the_current_folder_is_searched_last(first, here, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(here) if first == "cwd" else "", "/a", str(here), "/b"])
    search_here_last()
    search_here_last()
    assert sys.path == ["/a", str(here), "/b", ""]


def test_a_folder_policies_of_the_user_s_does_not_hide_ours(here):
    (here / "policies").mkdir()
    (here / "policies" / "__init__.py").write_text("raise SystemExit('hidden')")
    (here / "my_package.py").write_text("from policies.fixed import FixedPolicy as Mine\n")
    words = ["policy=fixed", "pruner.policy._target_=my_package.Mine", "task=files", "task.path=/nowhere"]
    code = "import sys; from search.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "evaluate", *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "autoprune: task.path /nowhere does not exist\n")


def test_what_cannot_be_printed_is_told():
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "search.cli", "--help"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "autoprune: No space left on device\n")


def test_cfg_prints_the_config_and_runs_nothing(here, capsys, no_model):
    assert main(["study", "policy=fixed", "--cfg", "job", "budget.flops_ratio=0.4"]) == 0
    shown = capsys.readouterr().out
    assert "policies.fixed.FixedPolicy" in shown
    assert "high: 0.4" in shown
    assert list(here.iterdir()) == []


@pytest.fixture(scope="module")
def studied(tmp_path_factory, checkpoint):
    """A study of four trials, stopped as by Ctrl-C in its third and then gone on with."""
    folder = tmp_path_factory.mktemp("studied")
    argv = ["study", *quick(checkpoint, f"folder={folder}")]
    ran = []
    run = model_evaluator.ModelEvaluator.run

    def stop_in_third(self, pruner, after_block=None):
        ran.append(pruner)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return run(self, pruner, after_block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_evaluator.ModelEvaluator, "run", stop_in_third)
        stopped = main(argv)
        n_before = len(ran)
        went_on = main(argv)
    return folder, argv, (stopped, n_before, went_on, len(ran))


def test_ctrl_c_keeps_finished_trials_and_the_same_command_goes_on(studied):
    folder, _, (stopped, n_before, went_on, n_ran) = studied
    assert (stopped, n_before, went_on) == (130, 3, 0)
    trials = (folder / "logistic_adaptive" / "trials.csv").read_text().splitlines()
    assert len(trials) == 1 + 4
    ran = pd.read_csv(folder / "logistic_adaptive" / "trials.csv").query("state == 'complete'")
    report = pd.read_csv(folder / "logistic_adaptive" / "report.csv")
    assert n_ran == len(ran) + 1 + len(report)  # the third trial twice; the arm out of reach is tried


def test_a_finished_study_prints_its_result_without_the_model(studied, capsys, no_model):
    _, argv, _ = studied
    assert main(argv) == 0
    shown = capsys.readouterr().out
    for words in ("on the front?", "95 % interval", "unpruned", "layerwise", "front.png", "tuned"):
        assert words in shown


def test_the_study_leaves_its_files(studied):
    place = studied[0] / "logistic_adaptive"
    names = {"config.yaml", "trials.csv", "front.csv", "front.json", "front.png", "report.csv", "report.json"}
    assert names <= {file.name for file in place.iterdir()}
    assert list((place / "tuned").glob("trial-*.yaml"))


def test_other_settings_under_the_same_name_are_refused(studied, capsys, no_model):
    folder, argv, _ = studied
    refused(
        [*argv, "pruner.probe_layer=2"], ["pruner.probe_layer was 1, now 2", "study=NAME", "--fresh"], capsys, folder
    )


def test_a_tuned_pruner_can_be_evaluated(studied, checkpoint, capsys):
    tuned = sorted((studied[0] / "logistic_adaptive" / "tuned").glob("*.yaml"))[0]
    assert main(["evaluate", f"model.path={checkpoint}", "task.per_kind=1", "--pruner", str(tuned)]) == 0
    shown = capsys.readouterr().out
    for words in ("chain", "mean of kinds", "FLOPs ratio", "mean tokens", "samples/s", "unpruned"):
        assert words in shown
    assert "LogisticAdaptivePolicy" in shown


def test_compare_overlays_studies(studied, here, capsys):
    place = str(studied[0] / "logistic_adaptive")
    assert main(["compare", place, place, "--at", "0.5", "--split", "report", "--out", "a/b.png"]) == 0
    shown = capsys.readouterr().out
    assert "hypervolume" in shown
    assert "score@0.5" in shown
    assert (here / "a" / "b.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("undrawn")
def test_fresh_keeps_the_old_study(checkpoint, here):
    none = ("~report.arms.fixed", "~report.arms.layerwise", "report.ratios=[]", "report.points=1")
    first = ["study", *quick(checkpoint, "search.n_trials=1", *none)]
    assert main(first) == 0
    assert main([*first, "pruner.probe_layer=2", "--fresh"]) == 0
    kept = sorted(place.name for place in (here / "runs").glob("logistic_adaptive*"))
    assert kept == ["logistic_adaptive", "logistic_adaptive.old-1"]


def test_a_real_interrupt_ends_cleanly(checkpoint, tmp_path):
    listen = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # in the background it is ignored
    )
    code = f"{listen}; import sys; from search.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "study", *quick(checkpoint, "search.n_trials=100000", f"folder={tmp_path}")]
    journal = tmp_path / "logistic_adaptive" / "journal.log"
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 500
    while not (journal.is_file() and '"state":1' in journal.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "finished trials are kept" in errors
    assert "To go on: autoprune study experiment=quick" in errors


@pytest.mark.parametrize("options", [(), ("--adaptive",)], ids=["plain", "adaptive"])
def test_a_new_policy_passes_the_contract_and_is_measured_and_searched(options, here, checkpoint, capsys):
    name, package = ("my_curve", "own_curves") if options else ("my_stairs", "own_stairs")  # each imported once
    assert main(["new-policy", name, "--package", package, *options]) == 0
    assert f"autoprune check {package}\n" in capsys.readouterr().out
    assert {p.relative_to(here / package).as_posix() for p in here.rglob("*.*")} == {
        "__init__.py", f"{name}.py", f"conf/policy/{name}.yaml", f"conf/space/{name}.yaml",
    }  # fmt: skip
    assert main(["check", package]) == 0
    assert "\n1 plug-in: 11 ok\n" in capsys.readouterr().out
    own = [f"policy={name}", "--config-dir", f"{package}/conf"]
    assert main(["evaluate", *own, f"model.path={checkpoint}", "task.per_kind=1", "--no-baseline"]) == 0
    assert "Policy(start=0.25" in capsys.readouterr().out
    config = compose(own[:1], [here / package / "conf"]).config
    space, (first,) = config["space"]["pruner"]["policy"], config["search"]["baselines"]
    assert {f"pruner.policy.{field}" for field in space} == first.keys()
    for field, dimension in space.items():
        now = config["pruner"]["policy"][field]
        assert dimension["low"] <= now == first[f"pruner.policy.{field}"] <= dimension["high"]
    refused(["new-policy", name, "--package", package], [f"{name}.py exists"], capsys, here)
