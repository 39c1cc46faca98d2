"""pi0 answers demonstrations in actions: its own, whatever the batch, in the robot's units, pruned or not."""

import numpy as np
import pytest
from acting import ACTION, CHUNK, MEAN, N_PATCHES, STD, checkpoint
from demonstrations import frames, write
from expected_sorting import OLDER

from autoprune_lab.evaluation.acting import acted, noise_of
from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import at_once, prepare
from autoprune_lab.evaluation.timing import latency_ratio, prefill_time_ratios
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.lerobot import LeRobotTask
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy
from search.cli import main

pytestmark = pytest.mark.skipif(OLDER, reason="of transformers 5.23")
ARM = Pruner(FixedPolicy(2), Budget(flops_ratio=0.6))
SAID = {"prompt": "{task}", "split": "all"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("pi0"))


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return write(tmp_path_factory.mktemp("demos") / "d", frames())


@pytest.fixture(scope="module")
def vlm(folder):
    return load_model(folder)


def test_actions_are_the_expert_s_in_the_robot_s_units(vlm, demos):
    task = LeRobotTask(demos, every=6, **SAID)
    sample = task.samples()[0]
    given = vlm.processor(
        images=[list(sample.images)], text=["close it"], state=[[1.0, 0.0]], padding=True, max_length=None,
        return_tensors="pt",
    )  # fmt: skip
    now = at_once(vlm, task, [sample])
    for pruner, ratio in ((None, 1.0), (ARM, pytest.approx(0.6, abs=0.02))):
        (actions,), (trace,) = acted(vlm, now, now.batches[0], pruner)
        noise = noise_of(sample.id, (CHUNK, ACTION))[None]
        if pruner is None:
            expected = vlm.model.sample_actions(**given, noise=noise)
        else:
            with pruner.attach(vlm.model):
                expected = vlm.model.sample_actions(**given, noise=noise)
        np.testing.assert_allclose(actions, expected[0, :, :2].numpy() * STD + MEAN, atol=1e-5)
        assert trace.flops_ratio == ratio
    assert trace.geometry.n_vision == 2 * N_PATCHES


@pytest.mark.parametrize("pruner", [None, ARM])
def test_demonstrations_are_scored_alike_in_batches_of_any_size(vlm, demos, pruner):
    task = LeRobotTask(demos, horizon=3, every=2, **SAID)
    alone, together = (evaluate(vlm, prepare(vlm, task, size), pruner) for size in (1, 4))
    assert [row.score for row in alone.rows] == pytest.approx([row.score for row in together.rows], abs=2e-3)
    assert {row.confidence for row in together.rows} == {None}
    figures = task.summary(together.rows)
    assert figures["unreadable"] == 0
    assert len(together.rows) > 2
    assert evaluate(vlm, prepare(vlm, task, 4), pruner).rows == together.rows


def test_what_is_answered_otherwise_is_refused(vlm, demos):
    with pytest.raises(TaskError, match="task shapes is answered in words, the checkpoint answers in actions"):
        prepare(vlm, ShapesTask("tune", 1))
    with pytest.raises(TaskError, match="asks for 6 actions of 2 numbers, the checkpoint makes 5 of 2"):
        prepare(vlm, LeRobotTask(demos, horizon=6))


def test_frames_without_the_robot_s_state_are_left_out_and_named(vlm, tmp_path):
    rows = frames()
    for row in rows[:7]:
        row["observation.state"] = [1.0]
    prepared = prepare(vlm, LeRobotTask(write(tmp_path / "d", rows), every=4, **SAID))
    assert {one.reason for one in prepared.left_out.values()} == {
        "0-0 has a state of 1 numbers, the checkpoint reads 2", "0-4 has a state of 1 numbers, the checkpoint reads 2",
    }  # fmt: skip
    assert [sample.id for sample in prepared.samples] == ["1-0", "1-4"]


def test_what_goes_by_an_answer_s_tokens_is_refused_and_a_prefill_is_timed(vlm, demos):
    prepared = prepare(vlm, LeRobotTask(demos, **SAID))
    with pytest.raises(CheckpointError, match="answers in actions: what goes by an answer's tokens"):
        latency_ratio(vlm, prepared, ARM)
    (ratio,) = prefill_time_ratios(vlm, prepared.batches[0], [ARM], rounds=1)
    assert 0 < ratio < 10


def test_a_command_measures_it_pruned_and_unpruned(folder, demos, capsys):
    words = ["model=path", f"model.path={folder}", "model.dtype=float32", "model.device=cpu", "task=lerobot"]
    words += [f"task.path={demos}", "task.split=all", "task.every=3", "task.horizon=4", "policy=fixed"]
    assert main(["evaluate", *words, "task.prompt='{task}'", "budget.flops_ratio=0.6"]) == 0
    out = capsys.readouterr().out
    assert "FLOPs ratio" in out
    assert "unreadable         0.0000    0.0000" in out
    assert main(["evaluate", *words, "task.horizon=6"]) == 2
    assert "asks for 6 actions of 2 numbers" in capsys.readouterr().err


def test_renumbered_positions_are_refused_before_weights_are_read(folder, demos, capsys, monkeypatch):
    monkeypatch.delattr("autoprune_lab.models.checkpoint._load_weights")
    words = ["model=path", f"model.path={folder}", "task=lerobot", f"task.path={demos}", "task.split=all"]
    for command in (["evaluate", *words, "method=autoprune"], ["study", *words[:-1], "pruner.positions=compact"]):
        assert main(command) == 2
        assert "counts its places from the full prompt; use positions='original'" in capsys.readouterr().err
