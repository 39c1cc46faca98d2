"""Workers: started by a launcher or joined by hand, watched in one line, and what is said when one dies."""

import io
import os
import signal
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import fake_workers
import pytest
import torch
from fake_evaluator import quick, settings
from fake_workers import FORK, launched, meet, until, work
from light_work import dies_or_sleeps

from search import pipeline
from search.cli import main
from search.config.compose import compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.trust import words_for_others
from search.study import loop, model_evaluator, trials, workers
from search.study.launchers import LocalLauncher, SubmititLauncher
from search.study.storage import StudyStorage


def launch_and_wait(folder):
    """A launcher, to be killed; in the background, as nohup would have it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with LocalLauncher().start(partial(dies_or_sleeps, folder), 2, folder / "logs"):
        time.sleep(600)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_local_workers_share_the_threads_and_are_stopped_on_the_way_out(tmp_path):
    with LocalLauncher().start(partial(dies_or_sleeps, tmp_path), 2, tmp_path / "logs") as jobs:
        until(lambda: not jobs[0].running() and (tmp_path / "1").is_file())
        assert jobs[1].running()
        assert jobs[1].trouble() is None
        assert f"exit code 1, see {tmp_path / 'logs' / 'worker-0.log'}" in jobs[0].trouble()
    assert "out of memory" in (tmp_path / "logs" / "worker-0.log").read_text()
    assert not jobs[1].running()
    assert (tmp_path / "stopped-1").exists()
    assert int((tmp_path / "1").read_text().split()[1]) == max(1, torch.get_num_threads() // 2)


def test_local_workers_die_with_their_launcher(tmp_path):
    launcher = FORK.Process(target=launch_and_wait, args=(tmp_path,))
    launcher.start()
    until(lambda: (tmp_path / "1").is_file())
    pid = int((tmp_path / "1").read_text().split()[0])
    os.kill(launcher.pid, signal.SIGKILL)
    until(lambda: gone(pid))
    assert (tmp_path / "stopped-1").exists()


def test_submitit_starts_workers_that_share_a_study(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(fake_workers.__file__).parent), os.environ.get("PYTHONPATH", "")])
    )
    words = ("search.n_trials=12", "search=random")
    launcher = SubmititLauncher("local", {"timeout_min": 5, "slurm_partition": None})
    with launcher.start(partial(launched, tmp_path, words), 2, tmp_path / "jobs") as jobs:
        until(lambda: not any(job.running() for job in jobs))
        assert [job.trouble() for job in jobs] == [None, None]
    study = loop.existing(StudyStorage(tmp_path / "s", "s"))
    alone = work(tmp_path / "alone", words)
    assert {str(sorted(t.params.items())) for t in study.trials} == {
        str(sorted(t.params.items())) for t in alone.trials
    }
    assert len(study.trials) == 12


def test_submitit_says_who_failed(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(fake_workers.__file__).parent), os.environ.get("PYTHONPATH", "")])
    )
    with SubmititLauncher("local").start(partial(dies_or_sleeps, tmp_path), 1, tmp_path / "jobs") as jobs:
        until(lambda: not jobs[0].running())
        trouble = jobs[0].trouble()
    assert "out of memory" in Path(trouble.rpartition("see ")[2]).read_text()


class FakeJob:
    """Ends after so many looks."""

    def __init__(self, looks, trouble=None):
        self.looks, self.said = looks, trouble

    def running(self):
        self.looks -= 1
        return self.looks >= 0

    def trouble(self):
        return self.said


def test_the_launcher_goes_on_when_one_dies_and_says_so_once(capsys, monkeypatch):
    monkeypatch.setattr(workers, "LOOK", 0)
    looks = []
    workers.watch([FakeJob(1, "ended with exit code -9"), FakeJob(4)], lambda: looks.append(1))
    assert len(looks) == 5
    assert capsys.readouterr().err.count("worker 0 ended with exit code -9") == 1


class NobodyLauncher:
    """Its workers have ended already."""

    def start(self, work, n, folder):
        return nullcontext([FakeJob(0) for _ in range(n)])


def test_no_worker_left_is_an_error_that_names_what_is_missing(tmp_path, monkeypatch):
    given = settings(tmp_path, "search.n_trials=3", "search.workers=2")
    study = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    monkeypatch.setattr(Experiment, "launcher", NobodyLauncher())
    with pytest.raises(workers.WorkersDiedError, match="3 trials are missing"):
        workers.launch(study, given, print)


def test_workers_on_other_hosts_need_a_server():
    with pytest.raises(ConfigError, match=r"search.storage=null.*postgresql://"):
        workers.check_launcher(Experiment.compose(["launcher=submitit_slurm"]))
    for words in (["launcher=submitit_slurm", "search.storage=postgresql://me@host/x"], ["launcher=submitit_local"]):
        elsewhere = Experiment.compose(words)
        workers.check_launcher(elsewhere)
        assert isinstance(elsewhere.launcher, SubmititLauncher)
        assert not workers.is_local(elsewhere)
    assert workers.is_local(Experiment.compose())


def test_other_hosts_are_told_what_changes_results_and_the_length():
    here = ("folder=/a", "study=x", "search.workers=3", "launcher=submitit_slurm", "tracking=none")
    told = ("policy=fixed", "search.n_trials=7", "pruner.policy.keep=0.3", "~report.arms.fixed", "seed=2")
    given = ["search.storage=postgresql://me:secret@h/x", *here, *told]
    assert words_for_others(compose(given)) == [word for word in told if not word.startswith("~report")]


@pytest.fixture(scope="module")
def one_worker(checkpoint, tmp_path_factory):
    """A study of the narrow model, stopped in its third trial, gone on with by `autoprune worker`, then reported."""
    folder = tmp_path_factory.mktemp("one")
    argv = ["study", *quick(checkpoint, f"folder={folder}", "search=random", "search.n_trials=4")]
    run, ran = model_evaluator.ModelEvaluator.run, []

    def stop_in_third(self, pruner, after_block=None):
        ran.append(pruner)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return run(self, pruner, after_block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_evaluator.ModelEvaluator, "run", stop_in_third)
        codes = [main(argv), main(["worker", "study=logistic_adaptive", f"folder={folder}"])]
    place = folder / "logistic_adaptive"
    ended = trials.n_ended(loop.existing(StudyStorage(place, place.name)))
    return place, [*codes, main(argv)], ended


def test_a_worker_needs_the_name_and_the_place_only(one_worker):
    place, codes, ended = one_worker
    assert codes == [130, 0, 0]
    assert ended == 4
    assert (place / "report.csv").is_file()


@pytest.mark.usefixtures("undrawn")
def test_several_workers_find_what_one_finds(one_worker, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pipeline, "join", partial(meet, tmp_path, 2))
    words = quick(checkpoint, f"folder={tmp_path}", "search=random", "search.n_trials=4", "search.workers=2")
    assert main(["study", *words]) == 0
    assert "on the front?" in capsys.readouterr().out
    place = tmp_path / "logistic_adaptive"
    several, one = (loop.existing(StudyStorage(p, p.name)) for p in (place, one_worker[0]))
    values = [sorted(tuple(t.values) for t in s.trials if t.values) for s in (several, one)]
    assert values[0] == values[1]
    scores = {score for _, score in values[0]}
    assert len(scores) > 1
    assert 0 < min(scores) <= max(scores) < 1
    assert len({t.user_attrs[trials.WORKER] for t in several.trials}) == 2


def test_a_study_that_is_not_there_cannot_be_joined(here, capsys, no_model):
    assert main(["worker", "study=nothing"]) == 2
    assert "no study 'nothing' in runs/nothing to join" in capsys.readouterr().err
    assert list(here.iterdir()) == []


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


def test_a_terminal_sees_how_far_the_search_is(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    work(tmp_path, ("search.n_trials=4",))
    last = terminal.getvalue().split("\r")[-1]
    for words in ("trial 4/4", "best score 0.", "hypervolume 0.", "trials/min"):
        assert words in last
    assert "left" in terminal.getvalue()


def test_no_terminal_sees_nothing(tmp_path, capsys):
    work(tmp_path, ("search.n_trials=2",))
    assert capsys.readouterr().err == ""
