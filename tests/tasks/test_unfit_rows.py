"""A row that does not fit is left out, counted and told with file and row; nothing is repaired or turned into text."""

import itertools
import json
import math
import os
from pathlib import Path

import layouts
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layouts import N

from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.driving_files import DrivingFilesTask
from autoprune_lab.tasks.files import FilesTask
from autoprune_lab.tasks.gqa import GQATask
from autoprune_lab.tasks.mmbench import MMBenchTask
from autoprune_lab.tasks.mme import MMETask
from autoprune_lab.tasks.pope import PopeTask
from autoprune_lab.tasks.scienceqa import ScienceQATask
from autoprune_lab.tasks.selection import Row, choose, in_split
from autoprune_lab.tasks.textvqa import TextVQATask
from autoprune_lab.tasks.vizwiz import VizWizTask
from autoprune_lab.tasks.vqav2 import VQAv2Task

PARQUET = {
    PopeTask: (layouts.pope_parquet, "data/test-00000-of-00001.parquet", 3 * N),
    MMETask: (layouts.mme_parquet, "data/test-00000-of-00001.parquet", 4 * N),
    TextVQATask: (layouts.textvqa_parquet, "data/validation-00000-of-00001.parquet", N),
    GQATask: (layouts.gqa_parquet, "testdev_balanced_instructions/testdev-00000-of-00001.parquet", N),
    ScienceQATask: (layouts.scienceqa_parquet, "ScienceQA-IMG/test-00000-of-00001.parquet", N),
    VQAv2Task: (layouts.vqav2_parquet, "data/validation-00000-of-00002.parquet", 2 * N),
    VizWizTask: (layouts.vizwiz_parquet, "data/val-00000-of-00001.parquet", N),
    MMBenchTask: (layouts.mmbench_parquet, "en/dev-00000-of-00001.parquet", 5 * N // 2),
}
TEN = ["stop"] * 10
UNFIT = [
    (PopeTask, {"question": None}, "1 with null as question"),
    (PopeTask, {"question": "  "}, "1 with nothing as question"),
    (PopeTask, {"question_id": None}, "1 with null as question_id"),
    (PopeTask, {"category": None}, "1 with null as category"),
    (PopeTask, {"image_source": None}, "1 with null as image_source"),
    (PopeTask, {"answer": "maybe"}, "1 with answer that is neither yes nor no"),
    (PopeTask, {"answer": None}, "1 rows without an answer"),
    (PopeTask, {"image": None}, "1 with a missing picture"),
    (PopeTask, {"image": {"bytes": b"", "path": "0.jpg"}}, "1 with a missing picture"),
    (PopeTask, {"image": {"bytes": b"no", "path": "0.jpg"}}, "1 with a broken picture"),
    (TextVQATask, {"ocr_tokens": ["A", None]}, "1 with null among its ocr_tokens"),
    (TextVQATask, {"ocr_tokens": None}, "1 with null as ocr_tokens"),
    (TextVQATask, {"answers": [""] * 10}, "1 rows without an answer"),
    (TextVQATask, {"answers": [None] * 10}, "1 rows without an answer"),
    (TextVQATask, {"answers": []}, "1 rows without an answer"),
    (TextVQATask, {"answers": [*TEN[:9], None]}, "1 with an empty one among its answers"),
    (TextVQATask, {"answers": [*TEN[:9], ""]}, "1 with an empty one among its answers"),
    (GQATask, {"question": None}, "1 with null as question"),
    (GQATask, {"imageId": None}, "1 with null as imageId"),
    (GQATask, {"answer": ""}, "1 rows without an answer"),
    (GQATask, {"imageId": "elsewhere"}, "1 with a missing picture"),
    (ScienceQATask, {"answer": 2}, "1 with an answer that names no option"),
    (ScienceQATask, {"answer": -1}, "1 with an answer that names no option"),
    (ScienceQATask, {"answer": 9}, "1 with an answer that names no option"),
    (ScienceQATask, {"choices": None}, "1 with no list of choices"),
    (ScienceQATask, {"choices": []}, "1 with no options"),
    (ScienceQATask, {"choices": ["x"] * 9}, "1 with more than 8 options"),
    (ScienceQATask, {"choices": ["Ohio", None]}, "1 with an answer that names no option"),
    (ScienceQATask, {"subject": None}, "1 with null as subject"),
    (VQAv2Task, {"answers": None}, "1 rows without an answer"),
    (VQAv2Task, {"answer_type": None}, "1 with null as answer_type"),
    (VQAv2Task, {"image_id": None}, "1 with null as image_id"),
    (VizWizTask, {"question": None}, "1 with null as question"),
    (VizWizTask, {"answers": None}, "1 rows without an answer"),
]  # fmt: skip


def changed(task, folder: Path, edit) -> object:
    """The task on its parquet files, the first one's rows changed."""
    write, name, _ = PARQUET[task]
    write(folder)
    rows = layouts.pq.read_table(folder / name).to_pylist()
    edit(rows)
    layouts.parquet(folder / name, rows)
    return task(str(folder), split="all", per_kind=None)


@pytest.mark.parametrize(("task", "change", "words"), UNFIT)
def test_a_row_of_a_hub_data_set(tmp_path, task, change, words):
    made = changed(task, tmp_path, lambda rows: rows[0].update(change))
    assert len(made.samples()) == PARQUET[task][2] - 1
    (note,) = made.notes()
    assert words in note
    assert "picture" in words or f"{tmp_path / PARQUET[task][1]}, row 1" in note


@pytest.mark.parametrize("change", [{"question": None}, {"category": None}, {"answer": "perhaps"}, {"answer": None}])
def test_an_unfit_question_of_an_mme_picture_takes_the_other_along(tmp_path, change):
    made = changed(MMETask, tmp_path, lambda rows: rows[0].update(change))
    assert len(made.samples()) == 4 * N - 2
    assert not any(sample.id.startswith("count/0.png") for sample in made.samples())
    assert "1 that belong to these" in made.notes()[0]


def test_an_unfit_rotation_takes_its_question_along(tmp_path):
    made = changed(MMBenchTask, tmp_path, lambda rows: rows[0].update(answer="E"))
    assert {int(sample.id) % 1_000_000 for sample in made.samples()} == set(range(1, N))
    assert "1 that belong to these, 1 with an answer that names no option" in made.notes()[0]


def test_the_first_rows_of_each_reason_are_told(tmp_path):
    def edit(rows):
        for row in rows[2:7]:
            row["question"] = None
        rows[8]["answer"] = None

    (note,) = changed(PopeTask, tmp_path, edit).notes()
    file = tmp_path / PARQUET[PopeTask][1]
    assert note == (
        f"task pope, all: left out 1 rows without an answer, "
        f"5 with null as question ({file}, row 3, 4, 5 and 2 more); "
        f"without an answer: {file}, row 9"
    )


def test_where_no_row_fits_that_is_the_error(tmp_path):
    made = changed(PopeTask, tmp_path, lambda rows: [row.update(question=None) for row in rows])
    with pytest.raises(TaskError, match=r"no row can be used: 36 with null as question \(.* 1, 2, 3 and 33 more\)"):
        made.samples()


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("question", [1], "no row can be used: 36 with a number as question"),
        ("question", [math.nan], "no row can be used: 36 with NaN as question"),
        ("question", [b"q"], "no row can be used: 36 with bytes as question"),
        ("question_id", [1.0], "no row can be used: 36 with a floating-point number as question_id"),
        ("image", ["0.jpg"], "holds no picture"),
        ("image", [{"bytes": "0.jpg", "path": ""}], "holds no picture"),
        ("image", [None], "holds no picture"),
    ],
)
def test_a_column_of_another_type_is_refused_in_one_line(tmp_path, column, values, words):
    def edit(rows):
        for row in rows:
            row[column] = values[0]

    with pytest.raises(TaskError, match=words) as error:
        changed(PopeTask, tmp_path, edit).samples()
    assert "\n" not in str(error.value)


OPTIONS = [
    (["Two", "One", "Three", "None"], "D", "A. Two\nB. One\nC. Three\nD. None", "None"),
    (["Two", "One", "nan", "Three"], "D", "A. Two\nB. One\nD. Three", "Three"),
    (["Two", "None", "One", "Three"], "D", "A. Two\nB. None\nC. One\nD. Three", "Three"),
    (["None", "One", "Two", "Three"], "A", "A. None\nB. One\nC. Two\nD. Three", "None"),
    (["", "One", "", "none"], "B", "B. One\nD. none", "One"),
    (["red", "", "", ""], "A", "A. red", "red"),
]


def table(folder: Path, options, answer: str, **changes: str) -> MMBenchTask:
    """A table of one question, and a second one that fits."""
    layouts.mmbench_tsv(folder)
    file = folder / "mmbench_dev_20230712.tsv"
    header, *rows = [line.split("\t") for line in file.read_text().splitlines()][:3]
    for name, text in {**dict(zip("ABCD", options, strict=True)), "answer": answer, "hint": "", **changes}.items():
        rows[0][header.index(name)] = text
    file.write_text("".join("\t".join(row) + "\n" for row in (header, *rows)))
    return MMBenchTask(str(file), split="all")


@pytest.mark.parametrize(("options", "answer", "shown", "right"), OPTIONS)
def test_an_option_keeps_its_letter(tmp_path, options, answer, shown, right):
    task = table(tmp_path, options, answer)
    mine = [sample for sample in task.samples() if int(sample.id) % 1_000_000 == 0]
    assert mine[0].question.splitlines()[1:-1] == shown.splitlines()
    assert mine[0].answers == (answer, right)
    assert len(mine) == len(shown.splitlines())
    for sample in mine:  # in every rotation the letter is that of the right option
        assert f"\n{sample.answers[0]}. {right}\n" in sample.question
        assert sample.answers[1] == right
        assert {line[0] for line in sample.question.splitlines()[1:-1]} == {line[0] for line in shown.splitlines()}
    assert task.notes() == ()


@pytest.mark.parametrize("answer", ["E", "C", "AB", "a", "Two", "1", " A"])
def test_an_answer_that_names_no_option(tmp_path, answer):
    task = table(tmp_path, ["red", "green", "", ""], answer)
    assert {int(sample.id) % 1_000_000 for sample in task.samples()} == {1}
    assert "1 with an answer that names no option" in task.notes()[0]
    assert "mmbench_dev_20230712.tsv, row 1" in task.notes()[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": "x"}, "1 with text as index"),
        ({"index": "1.0"}, "1 with text as index"),
        ({"index": "²"}, "1 with text as index"),
        ({"question": ""}, "1 with nothing as question"),
        ({"A": "", "B": ""}, "1 with no options"),
        ({"image": ""}, "2 with a missing picture"),
        ({"image": "a*b"}, "2 with a broken picture"),
        ({"image": "x\tmore"}, "1 with cells beyond the header's columns"),
    ],
)
def test_a_row_of_a_table(tmp_path, changes, words):
    task = table(tmp_path, ["red", "green", "", ""], "B", **changes)
    assert {int(sample.id) % 1_000_000 for sample in task.samples()} == {1}
    assert words in task.notes()[0]


def test_which_of_two_rows_of_one_index_is_meant_nobody_knows(tmp_path):
    with pytest.raises(TaskError, match=r"no row can be used: 1 with an index that an earlier row has \(.*row 2\)"):
        table(tmp_path, ["red", "green", "", ""], "B", index="1").samples()


def own(folder: Path, *rows: object) -> FilesTask:
    """Questions of one's own, and one that fits."""
    layouts.picture(folder / "0.jpg", 0)
    good = {"image": "0.jpg", "question": "q", "answers": "a"}
    lines = [json.dumps({**good, **row} if isinstance(row, dict) else row) for row in (*rows, good)]
    (folder / "mine.jsonl").write_text("\n".join(lines))
    return FilesTask(str(folder / "mine.jsonl"), split="all")


OWN = [
    ({"image": None}, "null as image"),
    ({"image": 17}, "a number as image"),
    ({"image": []}, "no image"),
    ({"image": ["0.jpg", None]}, "null as image"),
    ({"image": {"path": "0.jpg"}}, "an object as image"),
    ({"image": "no\0ne.jpg"}, "a missing picture"),
    ({"image": "../0.jpg"}, "a picture outside the folder"),
    ({"image": "/dev/zero"}, "a picture outside the folder"),
    ({"image": "."}, "a picture outside the folder"),
    ({"question": None}, "null as question"),
    ({"question": 7}, "a number as question"),
    ({"question": ["q"]}, "a list as question"),
    ({"question": " "}, "nothing as question"),
    ({"question": "\ud800"}, "question that is no valid Unicode"),
    ({"question": math.nan}, "NaN as question"),
    ({"question": True}, "true or false as question"),
    ({"answers": None}, "1 rows without an answer"),
    ({"answers": []}, "1 rows without an answer"),
    ({"answers": [""]}, "1 rows without an answer"),
    ({"answers": math.nan}, "1 rows without an answer"),
    ({"answers": [{"answer": None}]}, "1 rows without an answer"),
    ({"answers": ["a", None]}, "an empty one among its answers"),
    ({"answers": ["a", 3]}, "a number as answers"),
    ({"answers": math.inf}, "a floating-point number as answers"),
    ({"answers": [["a"]]}, "a list as answers"),
    ({"kind": ["a"]}, "a list as kind"),
    ([], "null as image"),
    (None, "null as image"),
]


@pytest.mark.parametrize(("row", "words"), OWN)
def test_a_row_of_your_own(tmp_path, row, words):
    task = own(tmp_path, row)
    (sample,) = task.samples()
    assert (sample.id, sample.question, sample.answers) == ("2", "q", ("a",))  # ids count all lines
    (note,) = task.notes()
    assert words in note
    assert "picture" in words or f"{tmp_path / 'mine.jsonl'}, line 1" in note


def test_answers_as_the_official_files_have_them(tmp_path):
    task = own(tmp_path, {"answers": [{"answer": "cat", "answer_id": 1}, {"answer": "a dog", "answer_id": 2}]})
    first = task.samples()[0]
    assert first.answers == ("cat", "a dog")
    assert task.score("the dog", first) == 1
    with_ids = layouts._vqa_answers("2")
    for i, answers in enumerate((with_ids, {"answer": layouts.ten("2", 3)})):  # as a list, and as its columns
        made = changed(TextVQATask, tmp_path / f"{i}", lambda rows, a=answers: [row.update(answers=a) for row in rows])
        assert made.score("two", made.samples()[0]) == pytest.approx(0.9)


def test_pictures_outside_are_read_where_the_user_says_so(tmp_path):
    layouts.picture(tmp_path / "other.jpg", 1)
    task = own(tmp_path / "here", {"image": "../other.jpg"}, {"image": str(tmp_path / "other.jpg")})
    assert "2 with a picture outside the folder" in task.notes()[0]
    assert "task.images_outside=true" in task.notes()[0]
    free = FilesTask(task.path, split="all", images_outside=True)
    assert [sample.id for sample in free.samples()] == ["1", "2", "3"]
    assert free.notes() == ()


def test_a_line_ends_at_its_end_only_and_a_file_may_begin_with_a_mark(tmp_path):
    layouts.picture(tmp_path / "0.jpg", 0)
    asked = ["one\u2028two", "one\u2029two", "one\x85two", "one\x0ctwo"]
    rows = [{"image": "0.jpg", "question": question, "answers": "a"} for question in asked]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert [sample.question for sample in FilesTask(str(tmp_path / "m.jsonl"), split="all").samples()] == asked


def test_every_file_may_begin_with_a_mark(tmp_path):
    for name in ("gqa_llava", "mme_llava", "pope_llava", "mmbench_tsv", "scienceqa_llava"):
        getattr(layouts, name)(tmp_path / name)
    for file in (file for kind in ("json", "jsonl", "tsv", "txt") for file in tmp_path.rglob(f"*.{kind}")):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    for task, folder, n in (
        (GQATask, "gqa_llava", N), (MMETask, "mme_llava", 4 * N), (PopeTask, "pope_llava", 3 * N),
        (MMBenchTask, "mmbench_tsv", 5 * N // 2), (ScienceQATask, "scienceqa_llava", N),
    ):  # fmt: skip
        made = task(str(tmp_path / folder), split="all", per_kind=None)
        assert len(made.samples()) == n
        assert made.notes() == ()


BAD_FILES = {
    "a device": (lambda d: FilesTask("/dev/zero"), "cannot read /dev/zero: it is no regular file"),
    "a pipe": (lambda d: (os.mkfifo(d / "p.jsonl"), FilesTask(str(d / "p.jsonl")))[1], "it is no regular file"),
    "a device as parquet": (lambda d: PopeTask("/dev/zero"), "it is no regular file"),
    "a device as a table": (
        lambda d: ((d / "mmbench_dev_2023.tsv").symlink_to("/dev/zero"), MMBenchTask(str(d)))[1],
        "it is no regular file",
    ),
    "half a line": (
        lambda d: ((d / "m.jsonl").write_text('{"image": "a", "ques'), FilesTask(str(d / "m.jsonl")))[1],
        r"m.jsonl, line 1 is not JSON",
    ),
    "a name twice": (
        lambda d: ((d / "m.jsonl").write_text('{"image": "a", "image": "b"}'), FilesTask(str(d / "m.jsonl")))[1],
        "line 1 is not JSON: it says 'image' twice in one object",
    ),
    "deep": (
        lambda d: ((d / "m.json").write_text("[" * 99999), DrivingFilesTask(str(d / "m.json")))[1],
        "m.json is not valid JSON",
    ),
    "other text": (
        lambda d: ((d / "m.jsonl").write_bytes("{}".encode("utf-16")), FilesTask(str(d / "m.jsonl")))[1],
        "cannot read .*m.jsonl",
    ),
    "an empty file": (
        lambda d: ((d / "m.jsonl").write_text("\n\n"), FilesTask(str(d / "m.jsonl")))[1],
        "no row can be used: there is none",
    ),
    "another shape": (
        lambda d: (layouts.vqav2_official(d), layouts.as_json(d / "v2_mscoco_val2014_annotations.json", {"x": 1}),
                   VQAv2Task(str(d)))[2],
        "v2_mscoco_val2014_annotations.json holds no list of rows annotations",
    ),
    "no object": (
        lambda d: (layouts.gqa_llava(d), layouts.as_json(d / "data" / "testdev_balanced_questions.json", []),
                   GQATask(str(d)))[2],
        "testdev_balanced_questions.json holds no object of rows by name",
    ),
    "two columns of one name": (
        lambda d: ((d / "mmbench_dev_2023.tsv").write_text("index\tquestion\thint\tA\tB\tanswer\timage\tA\n"),
                   MMBenchTask(str(d)))[1],
        "two columns of one name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, bad):
    make, words = BAD_FILES[bad]
    with pytest.raises(TaskError, match=words) as error:
        make(tmp_path).samples()
    assert "\n" not in str(error.value)


def official(write, task, folder: Path, name: str, edit) -> object:
    write(folder)
    content = json.loads((folder / name).read_text())
    edit(content)
    layouts.as_json(folder / name, content)
    return task(str(folder), split="all", per_kind=None)


def test_rows_of_the_official_files(tmp_path):
    vizwiz = official(
        layouts.vizwiz_official, VizWizTask, tmp_path / "z", "val.json",
        lambda rows: (rows[0].update(answers=TEN), rows[1].update(answers=[{"answer": 5}]), rows[2].update(image=None)),
    )  # fmt: skip
    assert len(vizwiz.samples()) == N - 2
    assert "1 with a number as answers" in vizwiz.notes()[0]
    assert "1 with null as image" in vizwiz.notes()[0]
    vqa = official(
        layouts.vqav2_official, VQAv2Task, tmp_path / "v", "v2_OpenEnded_mscoco_val2014_questions.json",
        lambda content: content["questions"][0].update(image_id="0"),
    )  # fmt: skip
    assert len(vqa.samples()) == 2 * N - 1
    assert "1 with text as image_id" in vqa.notes()[0]
    third = {"0": {"answer": 2}, "1": {"choices": ["Ohio", "Maine", "Utah"], "answer": 2}}
    third["2"] = {"choices": ["Ohio", "Maine"], "answer": 2}
    science = official(
        layouts.scienceqa_llava, ScienceQATask, tmp_path / "s", "problems.json", lambda content: content.update(third)
    )
    assert "2 with an answer that names no option" in science.notes()[0]
    assert next(sample.answers for sample in science.samples() if sample.id == "1") == ("C",)


POINTS = "[(1.0, 0.1), (2.0, 0.2), (3.0, 0.3), (4.0, 0.4), (5.0, 0.5), (6.0, 0.6)]"


def said(content: object, **more: object) -> dict:
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": POINTS}]
    return {"images": ["0.jpg"], "messages": turns, **more}


def driving(folder: Path, *rows: object) -> DrivingFilesTask:
    layouts.picture(folder / "0.jpg", 0)
    layouts.picture(folder / "1.jpg", 1)
    return DrivingFilesTask(str(layouts.as_json(folder / "m.json", [*rows, said("Last.", id="last")])), split="all")


PART = {"type": "text", "text": "Plan."}
SHOWN = {"type": "image", "image": "0.jpg"}
ASKED = [
    (said([SHOWN, PART]), "Plan.", 1),
    (said([SHOWN, PART], images=None), "Plan.", 1),
    (said([{"image": "0.jpg"}, {"image": "1.jpg"}, {"text": "Plan."}], images=None), "Plan.", 2),
    (said([{"type": "image_url", "image_url": {"url": "0.jpg"}}, PART], images=None), "Plan.", 1),
    (said([{"type": "image"}, PART, PART]), "Plan.\nPlan.", 1),
    (said([{"type": "text", "text": "<image>Plan."}]), "Plan.", 1),
    (said("<image>\nPlan.", system="You drive."), "You drive.\n\nPlan.", 1),
    (said("Plan.", system=""), "Plan.", 1),
    (said("Plan.", system=None), "Plan.", 1),
    ({"image": "0.jpg", "system": "You drive.",
      "conversations": [{"from": "human", "value": "<image>Plan."}, {"from": "gpt", "value": POINTS}]},
     "You drive.\nPlan.", 1),
    ({"image": "0.jpg", "messages": None,
      "conversations": [{"from": "human", "value": "Plan."}, {"from": "gpt", "value": [{"text": POINTS}]}]},
     "Plan.", 1),
]  # fmt: skip


@pytest.mark.parametrize(("row", "question", "n_images"), ASKED)
def test_driving_rows_in_parts(tmp_path, row, question, n_images):
    task = driving(tmp_path, row)
    assert task.notes() == ()
    assert (task.samples()[0].question, len(task.samples()[0].images)) == (question, n_images)
    assert task.samples()[0].answers == (POINTS,)


NOT_ASKED = [
    (said(None), "null as content"),
    (said(7), "a number as content"),
    (said("<image>"), "no question"),
    (said([SHOWN]), "no question"),
    (said([SHOWN, SHOWN, PART]), "another number of <image> than images"),
    (said([{"type": "image", "image": "1.jpg"}, PART]), "parts that name other images than the row"),
    (said([PART, {"type": "video", "video": "x.mp4"}]), "a part that is neither text nor picture"),
    (said([PART, "Plan."]), "a part that is neither text nor picture"),
    (said([{"type": "text", "text": None}]), "null as a part"),
    (said([{"type": "image_url", "image_url": {"url": "https://a/b"}}, PART], images=None), "an image that is no file"),
    (said("Plan.", images=["data:image/png;base64,xx"]), "an image that is no file"),
    (said("Plan.", images=[{"path": "0.jpg"}]), "an object as image"),
    (said("Plan.", images=None), "no images"),
    (said("Plan.", system=["You drive."]), "a part that is neither text nor picture"),
    (said("Plan.", system=5), "a number as system"),
    (said("Plan.", id=None), "null as id"),
    (said("Plan.", id=1.5), "a floating-point number as id"),
    (said("Plan.", id={"scene": 1}), "an object as id"),
    (said("Plan.", kind=[]), "a list as kind"),
    (said("Plan.", messages=said("Plan.")["messages"][::-1]), "turns in another order"),
    (said("Plan.", messages=[*said("Plan.")["messages"], {"role": "tool", "content": "x"}]), "turns in another order"),
    (said("Plan.", messages=[{"role": None, "content": "x"}]), "null as role"),
    (said("Plan.", messages={}), "no messages"),
    (7, "no messages"),
]


@pytest.mark.parametrize(("row", "words"), NOT_ASKED)
def test_driving_rows_that_do_not_fit(tmp_path, row, words):
    task = driving(tmp_path, row)
    assert [sample.id for sample in task.samples()] == ["last"]
    assert words in task.notes()[0]
    assert f"{tmp_path / 'm.json'}, row 1" in task.notes()[0]


def test_repeated_ids_become_unique_and_the_broken_one_alone_is_lost(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"<html>")
    bad = said("Plan.", id="x", images=["bad.jpg"])
    rows = [bad, said("Plan.", id="x"), said("Plan.", id="x#2"), said("Plan.", id="x", images=["1.jpg"])]
    task = driving(tmp_path, *rows)
    names = [(sample.id, sample.images.pictures[0].path.name) for sample in task.samples()]
    assert names == [("x#3", "0.jpg"), ("x#2", "0.jpg"), ("x#4", "1.jpg"), ("last", "0.jpg")]
    assert [sample.images[0].size for sample in task.samples()] == [(40, 30)] * 4
    assert "1 with a broken picture" in task.notes()[0]
    told = f"1 ids stand there more than once; later rows got a number: 'x' became 'x#3' ({tmp_path / 'm.json'}, row 2)"
    assert told in task.notes()[1]
    halves = [DrivingFilesTask(task.path, split=split, per_kind=1) for split in ("tune", "report")]
    found = {}
    for half in halves:
        try:
            found |= {sample.id: sample.images.pictures for sample in half.samples()}
        except TaskError:
            continue
    assert found  # ids depend on neither half nor number
    assert found.items() <= {sample.id: sample.images.pictures for sample in task.samples()}.items()


def test_halves_and_choices_are_those_of_all_versions():
    rows = [Row(f"q{i}", (), "?", ("a",), "k", f"im{i}") for i in range(12)]
    assert [row.id for row in rows if in_split(row, "tune")] == ["q1", "q3", "q4", "q5", "q7", "q8", "q10"]
    assert [row.id for row in rows if in_split(row, "report")] == ["q0", "q2", "q6", "q9", "q11"]
    assert [row.id for row in choose(rows, "all", 3)] == ["q0", "q7", "q9"]
    assert [row.id for row in choose(rows, "tune", 2)] == ["q3", "q7"]


FIELDS = (
    "image", "images", "question", "answers", "kind", "id", "messages", "conversations", "role", "content", "from",
    "value", "type", "text", "system", "url", "answer",
)  # fmt: skip
ROLES = ("user", "assistant", "human", "gpt", "system")
WORDS = (*ROLES, "0.jpg", "text", "image", "image_url", POINTS, "<image>", "", "\ud800", "\0")
ATOMS = st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=4)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6)
TURNS = st.lists(st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": VALUES}), max_size=3)
LIKELY = st.builds(lambda turns, row: {"images": ["0.jpg"], "messages": turns, **row}, TURNS, OBJECTS)
ROWS = st.lists(OBJECTS | LIKELY | VALUES, min_size=1, max_size=3)
BYTES = st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
CELL = st.sampled_from(("1", "2", "1000001", "A", "nan", "None", "")) | st.text(max_size=4)
CELLS = st.lists(st.lists(CELL, max_size=9), max_size=4)
few = settings(max_examples=25)


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """Every task gives samples whose fields are what they must be, or one of our errors."""
    folder, seen = tmp_path_factory.mktemp("fuzz"), itertools.count()
    layouts.picture(folder / "0.jpg", 0)

    def _reads(content: bytes, suffix: str, *tasks: type[Benchmark]) -> None:
        file = folder / f"{next(seen)}.{suffix}"
        file.write_bytes(content)
        for kind in tasks:
            try:
                samples = kind(str(file), split="all", per_kind=None).samples()
            except TaskError:
                continue
            assert len({sample.id for sample in samples}) == len(samples) > 0
            for sample in samples:
                assert all(isinstance(text, str) and text.strip() for text in (*sample.answers, sample.question))
                assert [image.mode for image in sample.images] == ["RGB"] * len(sample.images)
        file.unlink()

    return _reads


def any_rows(reads, rows: list) -> None:
    reads("\n".join(map(json.dumps, rows)).encode(), "jsonl", FilesTask, DrivingFilesTask)


def any_bytes(reads, content: bytes) -> None:
    for suffix, task in (("jsonl", FilesTask), ("json", DrivingFilesTask), ("tsv", MMBenchTask), ("parquet", PopeTask)):
        reads(content, suffix, task)


def any_cells(reads, cells: list) -> None:
    image = layouts.base64.b64encode(layouts.jpeg(0)).decode()
    rows = [["index", "question", "hint", "A", "B", "answer", "image"], ["1", "q", "", "x", "y", "A", image], *cells]
    reads("\n".join("\t".join(row) for row in rows).encode("utf-8", "replace"), "tsv", MMBenchTask)


@few
@given(rows=ROWS)
@example(rows=[{"image": "0.jpg", "question": "q", "answers": ["a"]}, said("Plan.")])
def test_any_row_is_asked_or_left_out(reads, rows):
    any_rows(reads, rows)


@few
@given(content=BYTES)
def test_any_file_is_read_or_refused(reads, content):
    any_bytes(reads, content)


@few
@given(cells=CELLS)
def test_any_table_is_read_or_refused(reads, cells):
    any_cells(reads, cells)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "check"), [(ROWS, any_rows), (BYTES, any_bytes), (CELLS, any_cells)])
def test_any_input_for_minutes(reads, strategy, check):
    settings(max_examples=5000)(given(strategy)(lambda value: check(reads, value)))()
