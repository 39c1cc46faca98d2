"""vla-eval drives a benchmark of its own kind with a pruned model behind its server, just as our own loop does."""

import anyio
import numpy as np
import pytest
from acting import ACTION, CHUNK, MEAN, STD, checkpoint
from PIL import Image

from autoprune_lab.evaluation.acting import noise_of
from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import RefusedError, prepare
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.selection.scorers import prefill_attention
from autoprune_lab.selection.vla_pruner import CombineThenFilter
from autoprune_lab.tasks.driving_closed_loop import DrivingClosedLoopTask
from policies.fixed import FixedPolicy

pytest.importorskip("vla_eval", reason="vla-eval is not installed: pip install 'autoprune-lab[vla-eval]'")

from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.connection import Connection
from vla_eval.model_servers.base import SessionContext
from vla_eval.model_servers.serve import serve_async
from vla_eval.runners.sync_runner import SyncEpisodeRunner
from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW, check_specs

from search.methods.vla_server import PrunedModelServer

MODEL = "embedded:driving-loop-s0"
DRIVES = DrivingClosedLoopTask("report", 1, seconds=1.5)  # three decisions of each
PRUNER = Pruner(FixedPolicy(2), Budget(flops_ratio=0.5), prefill_attention, recovery=CombineThenFilter())


class Driving(StepBenchmark):
    """Two drives, told by observations and moved by waypoints."""

    def get_tasks(self):
        return [{"name": sample.id, "sample": sample} for sample in DRIVES.samples()[3:5]]

    def get_action_spec(self):
        return {"actions": RAW}

    def get_observation_spec(self):
        return {"image": IMAGE_RGB, "language": LANGUAGE}

    def reset(self, task):
        self.drive = DRIVES.episode(task["sample"])
        return self.drive.look()

    def step(self, action):
        self.drive.trip.follow(np.asarray(action["actions"], dtype=float))
        return StepResult(self.drive.look(), 0.0, self.drive.trip.is_over, {})

    def make_obs(self, raw_obs, task):
        views = {f"view_{i}": np.asarray(image) for i, image in enumerate(raw_obs.images)}
        return {"images": views, "task_description": raw_obs.question}

    def get_step_result(self, step_result):
        drive = self.drive.trip.outcome()
        return {"success": drive.succeeds, "told": drive.told()}


async def driven(server, benchmark):
    """What vla-eval finds: the results of both tasks, over its own socket."""
    results = []
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve_async, server, "127.0.0.1", 0)
        async with Connection(f"ws://127.0.0.1:{port}", timeout=300.0) as connection:
            for task in benchmark.get_tasks():
                results.append(await SyncEpisodeRunner().run_episode(benchmark, task, connection))
        tasks.cancel_scope.cancel()
    return results


@pytest.mark.parametrize("batched", [False, True])
def test_vla_eval_drives_as_our_own_loop_does(batched, tmp_path, caplog):
    PRUNER.save(file := tmp_path / "tuned.yaml")
    server = PrunedModelServer(
        MODEL, str(file), action_dim=2, max_new_tokens=DRIVES.max_new_tokens, device="cpu",
        max_batch_size=2 if batched else 1,
    )  # fmt: skip
    with caplog.at_level("INFO", "search.methods.vla_server"):
        results = anyio.run(driven, server, Driving())
    vlm = load_model(MODEL, "auto", "cpu")
    ours = evaluate(vlm, prepare(vlm, DRIVES, 6), PRUNER)
    expected = [row.prediction for row in ours.rows]
    assert [result["metrics"]["told"] for result in results] == expected[3:5]
    assert server.sessions == {}
    assert "3 decisions, FLOPs ratio 0.49" in caplog.text


class Reaching(StepBenchmark):
    """Two steps of a robot that goes where it is told; the pictures show where it is."""

    def get_tasks(self):
        return [{"name": words} for words in ("red ball", "blue box")]

    def get_action_spec(self):
        return {"actions": RAW}

    def get_observation_spec(self):
        return {"image": IMAGE_RGB, "language": LANGUAGE, "state": RAW}

    def reset(self, task):
        self.place, self.told = np.array([1.0, 0.25]), []
        return self.place

    def step(self, action):
        self.told.append(np.asarray(action["actions"]))
        self.place = self.place + self.told[-1][0]
        return StepResult(self.place, 0.0, len(self.told) == 2, {})

    def make_obs(self, raw_obs, task):
        images = {name: np.full((40, 30, 3), 50 * i + 10 * len(self.told), np.uint8) for i, name in enumerate("ab")}
        return {"images": images, "task_description": task["name"], "states": raw_obs}

    def get_step_result(self, step_result):
        return {"success": True, "told": [one.tolist() for one in self.told]}


@pytest.mark.parametrize("batched", [False, True])
def test_an_expert_s_chunks_are_those_of_the_pruned_model(batched, tmp_path, caplog):
    arm = Pruner(FixedPolicy(2), Budget(flops_ratio=0.6))
    arm.save(file := tmp_path / "tuned.yaml")
    (folder := tmp_path / "pi0").mkdir()
    server = PrunedModelServer(checkpoint(folder), str(file), device="cpu", max_batch_size=2 if batched else 1)
    with caplog.at_level("INFO", "search.methods.vla_server"):
        results = anyio.run(driven, server, Reaching())
    assert "2 decisions, FLOPs ratio 0.59" in caplog.text
    vlm, robot = server.vlm, Reaching()
    for task, result in zip(robot.get_tasks(), results, strict=True):
        place = robot.reset(task)
        for i, told in enumerate(result["metrics"]["told"]):
            seen = robot.make_obs(place, task)
            images = [Image.fromarray(one) for one in seen["images"].values()]
            given = vlm.processor(
                images=[images], text=[task["name"]], state=[place.tolist()], padding=True, max_length=None,
                return_tensors="pt",
            )  # fmt: skip
            with arm.attach(vlm.model):
                actions = vlm.model.sample_actions(**given, noise=noise_of(str(i), (CHUNK, ACTION))[None])
            expected = actions[0, :, :2].numpy() * STD + MEAN
            np.testing.assert_allclose(told, expected, atol=2e-5)
            robot.told.append(np.array(told))
            place = place + robot.told[-1][0]


def test_an_expert_s_server_asks_for_the_state(tmp_path):
    server = PrunedModelServer(checkpoint(tmp_path), device="cpu")
    assert server.get_observation_spec()["state"] is RAW
    seen = {"images": np.zeros((40, 30, 3), np.uint8), "task_description": "red"}
    with pytest.raises(RefusedError, match="has a state of 0 numbers, the checkpoint reads 2"):
        server.predict(seen, SessionContext("a", "1"))
    with pytest.raises(ValueError, match="a state must be a list of numbers"):
        server.predict(seen | {"state": "left"}, SessionContext("a", "1"))


def test_the_specs_agree_with_a_benchmark_of_pictures_and_words():
    server, benchmark = PrunedModelServer.__new__(PrunedModelServer), Driving()
    server.acts = False
    specs = (
        one()
        for of in ("action", "observation")
        for one in (getattr(server, f"get_{of}_spec"), getattr(benchmark, f"get_{of}_spec"))
    )
    assert check_specs(*specs) == []


def test_an_answer_without_an_action_is_one_of_zeros_and_counted():
    server = PrunedModelServer(MODEL, action_dim=99, max_new_tokens=2, device="cpu")
    observation = {"images": {"front": np.zeros((64, 64, 3), np.uint8)}, "task_description": "speed 1 m/s ; go ."}
    action = server.predict(observation, SessionContext("a", "1"))
    assert action["actions"].tolist() == [0.0] * 99
    assert server.sessions["a"].unreadable == 1
    for wrong, said in (
        ({"images": {}}, "no task_description"),
        ({"images": np.zeros((4, 4)), "task_description": ""}, "array of uint8"),
    ):
        with pytest.raises(ValueError, match=said):
            server.predict(wrong, SessionContext("a", "1"))


def test_sizes_below_one_are_refused_before_a_model_is_loaded():
    with pytest.raises(ValueError, match="action_dim=0"):
        PrunedModelServer("nowhere", action_dim=0)
