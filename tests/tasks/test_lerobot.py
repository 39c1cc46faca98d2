"""Demonstrations in LeRobot's layouts: parquet, jsonl and films."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from demonstrations import CAMERAS, FPS, LENGTHS, REACHES, frames, write
from PIL import Image

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.metrics.actions import off_by, read_actions, worded
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.driving import DrivingTask
from autoprune_lab.tasks.lerobot import LeRobotTask
from autoprune_lab.testbed.driving.wording import parse
from search.config.experiment import Experiment


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_frames_are_asked_about_with_the_actions_that_follow(tmp_path, version):
    task = LeRobotTask(write(tmp_path / "d", frames(), version), split="all", horizon=2, every=3)
    by_id = {sample.id: sample for sample in task.samples()}
    assert [*by_id] == ["1-0", "1-3", "0-0", "0-3"]  # kind by kind; 0-6 has one action left, not two
    sample = by_id["1-3"]
    assert (sample.question, sample.kind) == ("What action should the robot take to close it?", "close it")
    assert sample.answers == (worded(np.array(REACHES[10:12])),)
    assert [image.getpixel((0, 0))[0] for image in sample.images] == [160, 161]
    assert task.notes() == ()


def test_cameras_and_words_are_chosen(tmp_path):
    path, prompt = write(tmp_path / "d", frames()), "In: {task}, at {state}\nOut:"
    task = LeRobotTask(path, split="all", cameras=CAMERAS[1:], every=6, prompt=prompt)
    (sample,) = (one for one in task.samples() if one.id == "0-6")
    assert sample.question == "In: open the drawer, at 1 1.5\nOut:"
    assert [image.getpixel((0, 0))[0] for image in sample.images] == [121]


def test_halves_share_no_episode(tmp_path):
    rows = [{**row, "episode_index": i // 2, "frame_index": i % 2, "task_index": 0} for i, row in enumerate(frames())]
    path = write(tmp_path / "d", rows)
    halves = [{s.id for s in LeRobotTask(path, split=split, every=1).samples()} for split in ("tune", "report")]
    assert all(halves)
    episodes = [{name.partition("-")[0] for name in half} for half in halves]
    assert not episodes[0] & episodes[1]
    assert len(halves[0] | halves[1]) == 12


def test_a_score_is_one_for_the_demonstrated_actions_and_falls_with_their_distance(tmp_path):
    task = LeRobotTask(write(tmp_path / "d", frames()), split="all", horizon=2)
    sample = task.samples()[0]
    done, spread = np.array(REACHES[7:9]), np.std(REACHES, axis=0)
    assert task.score(sample.answers[0], sample) == pytest.approx(1)
    assert task.score(f"move {worded(done + spread)} and stop", sample) == pytest.approx(np.exp(-1), abs=2e-3)
    assert task.score(worded(done[:1]), sample) == task.score("no", sample) == 0


def test_actions_are_the_numbers_of_a_text():
    assert read_actions("left 3.25 -0.75; .5 1e-2 9", 2).tolist() == [[3.25, -0.75], [0.5, 0.01]]
    assert read_actions("stop", 1) is read_actions("1", 2) is None
    assert off_by(np.array([[1.0, 5.0]]), np.array([[0.0, 4.0]]), np.array([2.0, 0.0])) == 0.75


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"action": [1.0]}, "action of 1 numbers, not 2"),
        ({"action": [1.0, float("nan")]}, "action that is not all numbers"),
        ({"frame_index": 5}, "frames that do not follow one another"),
        ({"task_index": 9}, "a task_index that meta/tasks does not have"),
    ],
)
def test_frames_that_do_not_fit_are_left_out_and_counted(tmp_path, change, said):
    rows = frames()
    rows[3] |= change
    task = LeRobotTask(write(tmp_path / "d", rows), split="all", every=3, horizon=2 if "frame_index" in change else 1)
    assert "0-3" not in {sample.id for sample in task.samples()}
    assert f"left out 1 with {said}" in task.notes()[0]
    assert task.n_unfit() == 1


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"codebase_version": "v1.6"}, "is of version 'v1.6'; read are v2.0, v2.1, v3.0"),
        ({"features": None}, "has no features"),
        ({"features": {"action": {"dtype": "float32", "shape": [2]}}}, "no camera; task.cameras may name: none"),
        ({"fps": 0}, "says fps 0"),
    ],
)
def test_a_folder_of_another_kind_is_refused_in_one_line(tmp_path, info, said):
    path = write(tmp_path / "d", frames())
    file = tmp_path / "d" / "meta" / "info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | info))
    with pytest.raises(TaskError, match=said):
        LeRobotTask(path).samples()


def test_what_is_no_such_folder_or_camera_is_refused(tmp_path):
    with pytest.raises(TaskError, match=r"no meta/info.json: name a folder in LeRobot's layout"):
        LeRobotTask(str(tmp_path)).samples()
    path = write(tmp_path / "d", frames())
    with pytest.raises(TaskError, match=r"no camera 'top'; task.cameras may name: observation.images.front, "):
        LeRobotTask(path, cameras=["top"]).samples()
    with pytest.raises(ValueError, match=r"task.horizon 0 and task.every 1"):
        LeRobotTask(path, horizon=0, every=1)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_films_are_read_at_the_frame_s_time(tmp_path, version):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'autoprune-lab[video]'")
    rows, place = frames(), tmp_path / "d"
    path = write(place, rows, version, "video")
    for camera in CAMERAS:
        films = [rows] if version == "v3.0" else [[r for r in rows if r["episode_index"] == i] for i in (0, 1)]
        for i, film in enumerate(films):
            name = f"{camera}/chunk-000/file-000" if version == "v3.0" else f"chunk-000/{camera}/episode_{i:06d}"
            file = place / "videos" / f"{name}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(file), "w") as out:
                stream = out.add_stream("mpeg4", rate=FPS)
                stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
                for row in film:
                    image = Image.open(io.BytesIO(row[camera]["bytes"])).resize((32, 32))
                    out.mux(stream.encode(av.VideoFrame.from_image(image)))
                out.mux(stream.encode())
    if version == "v3.0":
        begin = {f"videos/{c}/from_timestamp": [0.0, LENGTHS[0] / FPS] for c in CAMERAS}
        numbers = {f"videos/{c}/{part}_index": [0, 0] for c in CAMERAS for part in ("chunk", "file")}
        told = pd.DataFrame({"episode_index": [0, 1], "length": LENGTHS, **numbers, **begin})
        (place / "meta/episodes/chunk-000").mkdir(parents=True)
        told.to_parquet(place / "meta/episodes/chunk-000/file-000.parquet")
    samples = {sample.id: sample for sample in LeRobotTask(path, split="all", every=2).samples()}
    assert len(samples) == 7
    for name, sample in samples.items():
        episode, i = map(int, name.split("-"))
        seen = [np.asarray(image).mean() for image in sample.images]
        np.testing.assert_allclose(seen, 20 * i + 100 * episode + np.arange(2), atol=4)
    shutil.rmtree(place / "videos")
    with pytest.raises(TaskError, match=r"no sample is left; .*mp4 is missing"):
        LeRobotTask(path, split="all", every=9).samples()


def test_the_embedded_driver_is_scored_on_demonstrations_of_its_own_world(tmp_path):
    drives = [s for s in DrivingTask("report", 1).samples() if s.kind in ("free", "light", "turn")]
    rows = []
    for i, sample in enumerate(drives):
        _, waypoints = parse(sample.answers[0])
        seen = {}
        for view, image in enumerate(sample.images):
            image.save(content := io.BytesIO(), "PNG")
            seen[f"observation.images.{view}"] = {"bytes": content.getvalue(), "path": None}
        told = {"action": waypoints.ravel().tolist(), "timestamp": 0.0, "frame_index": 0}
        rows.append({**told, "episode_index": i, "task_index": i, **seen})
    cameras = {f"observation.images.{view}": {"dtype": "image"} for view in range(3)}
    features = {"action": {"dtype": "float32", "shape": [12]}, **cameras}
    path = write(tmp_path / "d", rows, features=features)
    questions = pd.DataFrame({"task_index": range(3)}, index=[sample.question for sample in drives])
    questions.to_parquet(tmp_path / "d" / "meta" / "tasks.parquet")
    task = LeRobotTask(path, split="all", prompt="{task}")
    vlm = load_model("embedded:driving-s0", "auto", "cpu")
    records = evaluate(vlm, prepare(vlm, task, 4))
    assert records.score > 0.7
    figures = task.summary(records.rows)
    assert figures["unreadable"] == figures["rows_left_out"] == 0
    assert figures["l1"] < 0.5  # metres


def test_it_has_a_configuration():
    words = ["task=lerobot", "task.path=demos", "task.cameras=[observation.images.front]", "model=embedded"]
    task = Experiment.compose(words).task
    assert (task.path, task.cameras, task.every) == ("demos", ("observation.images.front",), 10)
