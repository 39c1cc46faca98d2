"""Every benchmark from files of its real layouts: prompts, answers, kinds, halves, scores, and what is left out."""

import dataclasses
from collections import Counter
from types import SimpleNamespace

import layouts
import pytest
from layouts import LETTER, SHORT, N

from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.files import FilesTask
from autoprune_lab.tasks.gqa import GQATask
from autoprune_lab.tasks.mmbench import MMBenchTask
from autoprune_lab.tasks.mme import MMETask
from autoprune_lab.tasks.pictures import Album
from autoprune_lab.tasks.pope import PopeTask
from autoprune_lab.tasks.scienceqa import ScienceQATask
from autoprune_lab.tasks.textvqa import TextVQATask
from autoprune_lab.tasks.vizwiz import MAY_DECLINE, VizWizTask
from autoprune_lab.tasks.vqav2 import VQAv2Task

LAYOUTS = {
    "pope parquet": (PopeTask, layouts.pope_parquet),
    "pope llava": (PopeTask, layouts.pope_llava),
    "textvqa parquet": (TextVQATask, layouts.textvqa_parquet),
    "textvqa llava": (TextVQATask, layouts.textvqa_llava),
    "gqa parquet": (GQATask, layouts.gqa_parquet),
    "gqa llava": (GQATask, layouts.gqa_llava),
    "scienceqa parquet": (ScienceQATask, layouts.scienceqa_parquet),
    "scienceqa llava": (ScienceQATask, layouts.scienceqa_llava),
    "mme parquet": (MMETask, layouts.mme_parquet),
    "mme llava": (MMETask, layouts.mme_llava),
    "mmbench parquet": (MMBenchTask, layouts.mmbench_parquet),
    "mmbench tsv": (MMBenchTask, layouts.mmbench_tsv),
    "vqav2 parquet": (VQAv2Task, layouts.vqav2_parquet),
    "vqav2 official": (VQAv2Task, layouts.vqav2_official),
    "vizwiz parquet": (VizWizTask, layouts.vizwiz_parquet),
    "vizwiz official": (VizWizTask, layouts.vizwiz_official),
    "own files": (FilesTask, layouts.own_files),
}
layout = pytest.mark.parametrize("name", LAYOUTS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each layout's task with all of its samples, its files written once."""
    made = {}

    def make(name):
        if name not in made:
            kind, write = LAYOUTS[name]
            made[name] = kind(str(write(tmp_path_factory.mktemp("benchmark"))), split="all", per_kind=None)
        return made[name]

    return make


def kinds(task):
    return Counter(sample.kind for sample in task.samples())


@pytest.mark.parametrize(
    ("name", "question", "answers", "counts"),
    [
        ("pope parquet", "Is there a cat 0?" + SHORT, ("no",), dict.fromkeys(layouts.POPE_KINDS, N)),
        ("pope llava", "Is there a cat 0 in the image?" + SHORT, ("no",), dict.fromkeys(layouts.POPE_KINDS, N)),
        ("textvqa parquet", "what is written?\nReference OCR token: STOP, 1" + SHORT, None, {"textvqa": N}),
        ("textvqa llava", "what is written?\nReference OCR token: STOP, 1" + SHORT, None, {"textvqa": N}),
        ("gqa parquet", "Is it overcast?" + SHORT, ("no",), {"query": N / 2, "verify": N / 2}),
        ("gqa llava", "Is it overcast?" + SHORT, ("no",), {"query": N / 2, "verify": N / 2}),
        ("scienceqa parquet", "Which is farthest north?\nA. Ohio\nB. Maine" + LETTER, ("B",), {"social science": N}),
        ("scienceqa llava", "Which is farthest north?\nA. Ohio\nB. Maine" + LETTER, ("B",), {"social science": N}),
        ("mme parquet", "Is there one cat?" + SHORT, ("yes",), {"code_reasoning": 2 * N, "count": 2 * N}),
        ("mme llava", "Is there one cat?" + SHORT, ("yes",), {"count": 2 * N, "landmark": 2 * N}),
        (
            "mmbench parquet",
            "Look.\nWhich colour?\nA. red\nB. green" + LETTER,
            ("B", "green"),
            {"finegrained": 2.5 * N},
        ),
        ("mmbench tsv", "Look.\nWhich colour?\nA. red\nB. green" + LETTER, ("B", "green"), {"finegrained": 2.5 * N}),
        ("vqav2 parquet", "How many?" + SHORT, None, {"number": N, "other": N}),
        ("vqav2 official", "How many?" + SHORT, None, {"number": N, "other": N}),
        ("vizwiz parquet", "What is this?\n" + MAY_DECLINE, None, {"other": N / 2, "unanswerable": N / 2}),
        ("vizwiz official", "What is this?\n" + MAY_DECLINE, None, {"other": N / 2, "unanswerable": N / 2}),
        ("own files", "What is 0?", ("a cat",), {"a": N / 2, "b": N / 2}),
    ],
)
def test_official_prompt_answers_and_kinds(whole, name, question, answers, counts):
    task = whole(name)
    first = task.samples()[0]
    assert first.question == question
    assert (first.answers == answers) if answers else (len(first.answers) == 10)
    assert kinds(task) == counts
    assert task.notes() == ()


@layout
def test_pictures_stay_closed_until_they_are_looked_at(whole, name):
    samples = whole(name).samples()
    assert all(isinstance(sample.images, Album) and sample.images.sizes == ((40, 30),) for sample in samples)
    assert samples[0].images[0].size == (40, 30)
    assert samples[0].images[0].mode == "RGB"
    assert len({sample.id for sample in samples}) == len(samples)


@layout
def test_halves_share_no_picture_and_lose_no_row(whole, name):
    task = whole(name)
    tune, report = (dataclasses.replace(task, split=split).samples() for split in ("tune", "report"))

    def seen(samples):
        return {picture.digest() for sample in samples for picture in sample.images.pictures}

    assert seen(tune)
    assert not seen(tune) & seen(report)
    assert sorted(s.id for s in (*tune, *report)) == sorted(s.id for s in task.samples())


@layout
def test_fewer_per_kind_is_a_part_of_more(whole, name):
    few, more = (dataclasses.replace(whole(name), per_kind=n) for n in (2, 4))
    assert {s.id for s in few.samples()} <= {s.id for s in more.samples()}
    assert all(n <= 4 for n in kinds(more).values())
    assert kinds(few).keys() == kinds(more).keys() == kinds(whole(name)).keys()


def right(sample):
    return sample.answers[0]


@pytest.mark.parametrize(
    ("name", "good", "bad", "score"),
    [
        ("pope parquet", lambda s: right(s).title(), lambda s: "no" if right(s) == "yes" else "yes", 1.0),
        ("textvqa parquet", lambda s: "The Stop!", lambda s: "go", 0.6),
        ("gqa llava", lambda s: "No.", lambda s: "not", 1.0),
        ("scienceqa parquet", lambda s: "B. Maine", lambda s: "A", 1.0),
        ("mme llava", lambda s: right(s).title() + ".", lambda s: "perhaps", 1.0),
        ("mmbench parquet", lambda s: right(s), lambda s: "red", 1.0),
        ("mmbench tsv", lambda s: "Green.", lambda s: "red", 1.0),
        ("vqav2 parquet", lambda s: "two", lambda s: "3", 0.9),
        ("vizwiz official", lambda s: "Unanswerable", lambda s: "a cup", 0.9),
        ("own files", lambda s: "Cat", lambda s: "a dog", 1.0),
    ],
)
def test_scores(whole, name, good, bad, score):
    task = whole(name)
    assert [task.score(good(s), s) for s in task.samples()] == pytest.approx([score] * len(task.samples()))
    assert {task.score(bad(s), s) for s in task.samples()} == {0.0}


def rows_of(task, answer):
    return [
        SimpleNamespace(id=s.id, kind=s.kind, answers=s.answers, prediction=answer(s), score=task.score(answer(s), s))
        for s in task.samples()
    ]


def test_the_official_figures_of_pope(whole):
    task = whole("pope parquet")
    figures = task.summary(rows_of(task, lambda s: "Yes"))
    assert figures["random: accuracy"] == figures["popular: precision"] == 0.5
    assert figures["adversarial: recall"] == figures["random: yes ratio"] == 1
    assert figures["mean F1"] == pytest.approx(2 / 3)


def test_the_official_figures_of_mme(whole):
    task = whole("mme parquet")
    figures = task.summary(rows_of(task, lambda s: "Yes"))
    assert figures == {"perception": 50, "cognition": 50, "code_reasoning": 50, "count": 50}
    assert task.summary(rows_of(task, right))["perception"] == 200


@pytest.mark.parametrize("name", ["mmbench parquet", "mmbench tsv"])
def test_the_official_figures_of_mmbench(whole, name):
    task = whole(name)
    figures = task.summary(rows_of(task, lambda s: "B"))  # right in the first pass, never in all
    assert figures == {"circular accuracy": 0, "first-pass accuracy": 1}
    assert task.summary(rows_of(task, right))["circular accuracy"] == 1
    once = dataclasses.replace(task, circular=False)
    assert len(once.samples()) == N


def test_mmbench_in_chinese_reads_rotations_that_point_at_their_picture(whole):
    task = dataclasses.replace(whole("mmbench tsv"), language="cn")
    assert len(task.samples()) == 2.5 * N
    assert task.samples()[0].question.endswith("请直接回答选项字母。")
    assert {sample.images.sizes for sample in task.samples()} == {((40, 30),)}


def test_questions_of_one_mme_picture_stay_together(whole):
    odd = dataclasses.replace(whole("mme parquet"), per_kind=5)
    assert kinds(odd) == {"count": 4, "code_reasoning": 4}
    assert len({s.id.split("#")[0] for s in odd.samples()}) == 4


def test_textvqa_without_the_words_of_the_ocr_system(whole):
    for name in ("textvqa parquet", "textvqa llava"):
        assert dataclasses.replace(whole(name), ocr=False).samples()[0].question == "what is written?" + SHORT


def test_a_question_file_of_llavas_kind(whole):
    official = whole("vqav2 official")
    mine = dataclasses.replace(official, path=f"{official.path}/mine.jsonl")
    assert [(s.id, s.question, s.answers) for s in mine.samples()] == [
        (s.id, s.question, s.answers) for s in official.samples()
    ]


def test_what_is_left_out_is_told_and_never_scored(tmp_path):
    task = PopeTask(str(layouts.pope_llava(tmp_path)), split="all", per_kind=None)
    pictures = sorted((tmp_path / "val2014").iterdir())
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:-200])
    labels = tmp_path / "coco" / "coco_pope_random.json"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    (note,) = task.notes()
    assert "1 rows without an answer, 3 with a broken picture, 3 with a missing picture" in note
    assert str(pictures[0]) in note
    assert kinds(task) == {"adversarial": N - 2, "popular": N - 2, "random": N - 3}


def test_a_lost_picture_takes_its_group_along(tmp_path):
    folder = layouts.mme_parquet(tmp_path)
    rows = layouts.pq.read_table(folder / "data" / "test-00000-of-00001.parquet").to_pylist()
    rows[0]["image"]["bytes"] = rows[0]["image"]["bytes"][:200]
    layouts.parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    task = MMETask(str(folder), split="all", per_kind=None)
    assert kinds(task) == {"count": 2 * N - 2, "code_reasoning": 2 * N}
    assert "1 with a broken picture, 1 that belong to these" in task.notes()[0]


def test_a_jpeg_with_bytes_after_its_end_is_whole(tmp_path):
    picture = layouts.picture(tmp_path / "a.jpg", 0)
    picture.write_bytes(picture.read_bytes() + b"\0" * 500)
    file = layouts.jsonl(tmp_path / "q.jsonl", [{"image": "a.jpg", "question": "?", "answers": "x"}])
    assert len(FilesTask(str(file), split="all").samples()) == 1


MISTAKES = {
    "no such path": (lambda d: PopeTask(f"{d}/nothing"), "task.path .*/nothing does not exist"),
    "not in the cache": (lambda d: PopeTask("nobody/nothing"), "hf download --repo-type dataset nobody/nothing"),
    "another folder": (lambda d: GQATask(str(layouts.pope_llava(d))), "has no testdev_balanced_images"),
    "no pictures": (lambda d: PopeTask(str(layouts.pope_llava(d)), images=f"{d}/x"), "say where .* task.images=PATH"),
    "no labels": (lambda d: PopeTask(str(layouts.pope_llava(d)), annotations=str(d)), "has no coco_pope_"),
    "other columns": (
        lambda d: PopeTask(str(layouts.textvqa_parquet(d) / "data" / "validation-00000-of-00001.parquet")),
        "has no answer, image_source, category; it has image_id",
    ),
    "no parquet file": (lambda d: PopeTask(str(layouts.picture(d / "a.parquet", 0))), "not a readable parquet file"),
    "no answers": (
        lambda d: VQAv2Task(str(layouts.vqav2_parquet(d) / "data" / "test-00000-of-00001.parquet")),
        "none of its 1 rows has an answer; the public test halves have none",
    ),
    "bad line": (lambda d: FilesTask(str(layouts.picture(d / "a.jsonl", 0))), "cannot read|is not JSON"),
    "a folder": (lambda d: FilesTask(str(d)), "name the jsonl file"),
    "all pictures gone": (
        lambda d: FilesTask(str(layouts.own_files(d)), images=str(layouts.pope_llava(d / "p")), split="all"),
        "no sample is left; .*0.jpg is missing",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_line(tmp_path, mistake):
    make, message = MISTAKES[mistake]
    with pytest.raises(TaskError, match=message) as error:
        make(tmp_path).samples()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("field", "value"), [("split", "test"), ("per_kind", 0), ("per_kind", -3), ("language", "fr")])
def test_bad_fields(field, value):
    with pytest.raises(ValueError, match=f"task.{field} {value!r}"):
        MMBenchTask("anywhere", **{field: value})


def test_a_dataset_in_the_hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "datasets--lmms-lab--POPE"
    layouts.pope_parquet(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert kinds(PopeTask(split="all", per_kind=None)) == dict.fromkeys(layouts.POPE_KINDS, N)
