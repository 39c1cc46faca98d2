"""Driving data on disk, in the layouts of published driving models."""

import json
from pathlib import Path

import numpy as np
import pytest
from answered import answered
from PIL import Image

from autoprune_lab.tasks.driving_files import DrivingFilesTask
from search.config.experiment import Experiment

POINTS = [(2.0 * i, 0.1 * i) for i in range(1, 7)]
WRITTEN = ", ".join(f"({x:+.2f}, {y:+.2f})" for x, y in POINTS)
ANSWER = f"Here is the planning trajectory [PT, {WRITTEN}]."
VIEWS = ["front.png", "left.png", "right.png"]


def row(answer: str = ANSWER, **changes: object) -> dict:
    """LLaMA-Factory's layout, as Impromptu-VLA and others use it."""
    asked = {"role": "user", "content": "<image><image><image>\nSpeed 4 m/s. Plan the next three seconds."}
    return {"id": "a", "images": VIEWS, "messages": [asked, {"role": "assistant", "content": answer}], **changes}


def older_row() -> dict:
    """LLaVA's layout: conversations of from and value."""
    turns = [{"from": "human", "value": "<image>\nPlan."}, {"from": "gpt", "value": f"<traj>[{WRITTEN}]</traj>"}]
    return {"id": "b", "image": "front.png", "conversations": turns}


@pytest.fixture
def write(tmp_path: Path):
    for name in VIEWS:
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / name)

    def _write(rows: list, lines: bool = False) -> str:
        file = tmp_path / ("data.jsonl" if lines else "data.json")
        file.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
        return str(file)

    return _write


@pytest.mark.parametrize("lines", [False, True])
def test_both_layouts_are_read(write, lines):
    task = DrivingFilesTask(write([row(), older_row()], lines), split="all")
    first, second = task.samples()
    assert (first.id, second.id) == ("a", "b")
    assert [len(first.images), len(second.images)] == [3, 1]
    assert first.question == "Speed 4 m/s. Plan the next three seconds."
    assert task.notes() == ()


def test_a_system_turn_comes_before_the_question(write):
    given = row()
    given["messages"].insert(0, {"role": "system", "content": "You drive."})
    assert DrivingFilesTask(write([given]), split="all").samples()[0].question.startswith("You drive.\n")


def test_what_cannot_be_parsed_is_counted_by_reason_and_never_scored(write):
    two_questions = row()
    two_questions["messages"] = two_questions["messages"] * 2
    broken = [
        row("I would brake."), row("[(1, 2), (3, 4)]"), two_questions,
        row(images=VIEWS[:2]), row(images=[]), row(messages="none"), "no object",
    ]  # fmt: skip
    task = DrivingFilesTask(write([*broken, row()]), split="all")
    assert len(task.samples()) == 1
    (note,) = task.notes()
    for part in ("2 with no list of 6 points", "1 with more or less than one", "1 with another number of <image>"):
        assert part in note
    assert task.summary([answered(task.samples()[0], ANSWER)])["rows_left_out"] == len(broken)


def test_a_row_whose_picture_is_missing_is_left_out_and_told(write):
    task = DrivingFilesTask(write([row(), row(id="b", images=["gone.png", *VIEWS[:2]])]), split="all")
    assert [sample.id for sample in task.samples()] == ["a"]
    assert "1 with a missing picture" in task.notes()[0]


def test_a_file_without_a_usable_row_says_why(write):
    with pytest.raises(ValueError, match="no row can be used: 2 with no list of 6 points in the answer"):
        DrivingFilesTask(write([row("left"), row("right")]), split="all").samples()


def test_scores_and_figures_by_hand(write):
    """One metre to the side everywhere; reasoning with other coordinates before the plan does not matter."""
    task = DrivingFilesTask(write([row()]), split="all")
    aside = ", ".join(f"[{x}, {y + 1}]" for x, y in POINTS)
    text = f"The car at (12.0, 3.0) slows down. [{aside}]"
    (sample,) = task.samples()
    assert task.score(ANSWER, sample) == 1
    assert task.score(text, sample) == pytest.approx(np.exp(-1))
    assert task.score("brake", sample) == 0
    found = task.summary([answered(task.samples()[0], text)])
    assert found["l2_3s"] == found["l2_avg"] == pytest.approx(1)
    assert found["unreadable"] == 0
    assert not any(name.startswith("collision") for name in found)
    silent = task.summary([answered(task.samples()[0], "")])
    assert silent["unreadable"] == 1
    assert silent["l2_3s"] == pytest.approx(np.hypot(*POINTS[-1]))


def test_fewer_waypoints_at_another_pace(write):
    task = DrivingFilesTask(write([row("[(1, 0), (2, 0), (3, 0)]")]), split="all", n_waypoints=3, step=1.0)
    assert task.summary([answered(task.samples()[0], "[(1, 0), (2, 0), (3, 3)]")])["l2_3s"] == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "./nowhere.json"}, "nowhere.json does not exist"),
        ({"n_waypoints": 0}, "above 0"),
        ({"step": 0.0}, "step"),
    ],
)
def test_bad_fields_are_named(write, fields, message):
    with pytest.raises(ValueError, match=message):
        DrivingFilesTask(**{"path": write([row()]), **fields}).samples()


def test_text_that_is_no_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        DrivingFilesTask(str(tmp_path / "x.json")).samples()


def test_it_is_found_by_its_config(write):
    task = Experiment.compose(["task=driving_files", f"task.path={write([row()])}", "task.split=all"]).task
    assert isinstance(task, DrivingFilesTask)
