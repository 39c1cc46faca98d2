"""`autoprune evaluate --out`: goes on where it was left, alone or with other processes."""

import json
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
from fake_evaluator import refused

from autoprune_lab.evaluation import streaming
from autoprune_lab.statistics.records import LeftOut
from search.cli import main
from search.commands.evaluate import left_out_list
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.methods.evaluation_folder import Evaluation
from search.methods.shards import is_first_here, shard


@pytest.fixture
def words(checkpoint, tmp_path):
    return ["evaluate", f"model.path={checkpoint}", "task.per_kind=1", "batch_size=2", "--out", str(tmp_path / "e")]


def test_shards_end_in_one_table_and_files_to_read_on(words, tmp_path, capsys, monkeypatch):
    assert main([*words, "--shard", "2/2"]) == 0
    shown = capsys.readouterr().out
    assert "shard 2/2 is done" in shown
    assert "mean of kinds" not in shown
    assert main([*words, "--shard", "1/2"]) == 0
    shown = capsys.readouterr().out
    assert "mean of kinds" in shown
    assert main([*words, "--shard", "2/2"]) == 0
    assert "mean of kinds" not in capsys.readouterr().out  # when all is known, only the first prints
    pruned, unpruned = (pd.read_parquet(tmp_path / "e" / f"{name}.parquet") for name in ("pruned", "unpruned"))
    assert pruned["id"].tolist() == unpruned["id"].tolist()
    assert (pruned["decoder_flops"] < unpruned["decoder_flops"]).all()

    def refuse(experiment):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Experiment, "model", property(refuse))
    assert main(words) == 0
    assert capsys.readouterr().out == shown
    refused(
        [*words, "pruner.probe_layer=2"],
        ["pruner.probe_layer was 1, now 2", "--out"],
        capsys,
        tmp_path / "e" / "pruned",
    )


def test_accelerate_launches_one_shard_a_process(words, tmp_path):
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 -m search.cli"
    command = [sys.executable, *launch.split(), *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("/2 is done: ") == ended.stdout.count("mean of kinds") == 1
    assert len(list((tmp_path / "e" / "pruned").glob("*.parquet"))) == 2
    assert main([*words[:-1], str(tmp_path / "alone")]) == 0
    shared, alone = (pd.read_parquet(tmp_path / place / "pruned.parquet") for place in ("e", "alone"))
    pd.testing.assert_frame_equal(shared.drop(columns="seconds"), alone.drop(columns="seconds"))


def test_of_shards_that_end_together_one_prints(words, capsys, monkeypatch):
    answer = Evaluation._answer

    def answer_all(self, task):
        answer(self, task)
        answer(replace(self, shard=streaming.Shard(2, 2)), task)

    monkeypatch.setattr(Evaluation, "_answer", answer_all)
    assert main([*words, "--shard", "1/2"]) == 0
    assert "mean of kinds" in capsys.readouterr().out
    monkeypatch.setattr(Evaluation, "n_answered", lambda self: next(counts))
    counts, n_all = iter([0, 16]), 16
    monkeypatch.setattr(Evaluation, "_answer", lambda self, task: None)
    assert main([*words, "--shard", "2/2"]) == 0
    assert f"shard 2/2 is done: {n_all} answers" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on(words, tmp_path, capsys, monkeypatch):
    n_calls = []
    evaluate = streaming.evaluate

    def stop_in_third(vlm, prepared, pruner):
        n_calls.append(prepared)
        if len(n_calls) == 3:
            raise KeyboardInterrupt
        return evaluate(vlm, prepared, pruner)

    monkeypatch.setattr(streaming, "evaluate", stop_in_third)
    words = [*words, "--no-baseline"]
    assert main(words) == 130
    told = capsys.readouterr().err
    assert "answers are kept in" in told
    assert "the same command goes on" in told
    n_kept = len(pd.read_parquet(tmp_path / "e" / "pruned"))
    assert n_kept > 0
    assert main(words) == 0
    assert len(pd.read_parquet(tmp_path / "e" / "pruned.parquet")) > n_kept
    assert "unpruned" not in capsys.readouterr().out
    assert json.loads((tmp_path / "e" / "settings.json").read_text())["task.per_kind"] == 1


def test_of_many_samples_left_out_the_first_are_named():
    lines = left_out_list([LeftOut(str(i), f"why {i}") for i in range(12)]).splitlines()
    assert lines[0] == "12 samples left out, which cannot be shown to the model:"
    assert lines[1:11] == [f"  {i}: why {i}" for i in range(10)]
    assert lines[11:] == ["  and 2 more"]
    assert len(left_out_list([LeftOut("a", "why")] * 10).splitlines()) == 11


def test_shards_need_a_folder_in_common(words, here, capsys, no_model):
    refused([*words[:-2], "--shard", "1/2"], ["2 shards", "--out DIR"], capsys, here)


@pytest.mark.parametrize("told", ["3/2", "0/2", "1", "a/b"])
def test_words_that_name_no_shard_are_refused(told):
    with pytest.raises(ConfigError, match=f"--shard {told}: .* for example --shard 1/4"):
        shard(told, {})


def test_a_launcher_of_processes_says_the_shard():
    third = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2"}
    assert shard(None, third) == streaming.Shard(3, 4)
    assert shard("1/2", third) == streaming.Shard(1, 2)
    assert shard(None, {}) == streaming.Shard(1, 1)
    assert is_first_here({})
    assert not is_first_here(third)
