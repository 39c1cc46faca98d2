"""The newer benchmarks, of pictures and of videos: layouts, prompts, kinds, halves, scores, and what is left out."""

import dataclasses
from collections import Counter
from types import SimpleNamespace

import layouts
import pytest
from layouts import LETTER, SHORT, N

from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.chartqa import ChartQATask
from autoprune_lab.tasks.docvqa import DocVQATask
from autoprune_lab.tasks.egoschema import EgoSchemaTask
from autoprune_lab.tasks.hallusionbench import HallusionBenchTask
from autoprune_lab.tasks.longvideobench import LongVideoBenchTask
from autoprune_lab.tasks.mlvu import MLVUTask
from autoprune_lab.tasks.mmmu import MMMUTask
from autoprune_lab.tasks.mvbench import MVBenchTask
from autoprune_lab.tasks.ocrbench import OCRBenchTask
from autoprune_lab.tasks.refcoco import ASKED, RefCOCOTask
from autoprune_lab.tasks.seedbench import SEEDBenchTask
from autoprune_lab.tasks.several import SeveralTask
from autoprune_lab.tasks.videomme import AFTER, BEFORE, VideoMMETask
from search.config.compose import compose

PICTURES = {
    ChartQATask: (layouts.chartqa_parquet, "How many?" + SHORT, {"human": N / 2, "augmented": N / 2}),
    DocVQATask: (layouts.docvqa_parquet, "Which year?" + SHORT, {"docvqa": N}),
    OCRBenchTask: (
        layouts.ocrbench_parquet,
        "what is written?",
        {"text recognition": N / 3, "document VQA": N / 3, "formula recognition": N / 3},
    ),
    SEEDBenchTask: (
        layouts.seedbench_parquet,
        "What is it?\nA. a cat\nB. a dog\nC. a\nD. b" + LETTER,
        {"scene understanding": N / 2, "instance identity": N / 2},
    ),
    MMMUTask: (
        layouts.mmmu_parquet,
        "See <image 1>?\nA. red\nB. <image 2>\n" + LETTER,
        {"art and design": N / 2, "science": N / 2},
    ),
    HallusionBenchTask: (
        layouts.hallusionbench_parquet,
        "Is it so? Please answer yes or no.",
        {"VD map": 2 * N, "VD chart": 2 * N},
    ),
    RefCOCOTask: (layouts.refcoco_parquet, ASKED + "the cup", {"val": 16, "testA": 4, "testB": 4}),
}
VIDEOS = {
    VideoMMETask: (
        layouts.videomme,
        f"{BEFORE}What?\nA. One.\nB. Two.{AFTER}",
        {"short": N / 3, "medium": N / 3, "long": N / 3},
    ),
    MVBenchTask: (
        layouts.mvbench,
        "Question:How often?\nOption:\n(A) 1\n(B) 2\n(C) 3" + LETTER,
        {"action_count": N, "moving_count": N},
    ),
    EgoSchemaTask: (
        layouts.egoschema,
        "What?\n" + "\n".join(f"{x}. c cooks dish {x}" for x in "ABCDE") + LETTER,
        {"egoschema": N},
    ),
    MLVUTask: (
        layouts.mlvu,
        "What?\n(A) Red\n(B) Blue\n\nOnly give the best option.\nBest option: (",
        {"plotQA": N, "anomaly_reco": N},
    ),
    LongVideoBenchTask: (
        layouts.longvideobench,
        "What?\nA. x\nB. y\nC. z" + LETTER,
        {"15 s": N / 4, "60 s": N / 4, "600 s": N / 4, "3600 s": N / 4},
    ),
}
EVERY = PICTURES | VIDEOS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The task with all of its samples, its files written once."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = kind(str(EVERY[kind][0](tmp_path_factory.mktemp(kind.name))), split="all", per_kind=None)
        return made[kind]

    return make


@pytest.mark.parametrize("kind", EVERY)
def test_prompt_kinds_and_what_is_shown(whole, kind):
    task, (_, question, counts) = whole(kind), EVERY[kind]
    samples = task.samples()
    if kind is MMMUTask:
        samples = sorted(samples, key=lambda sample: int(sample.id.rpartition("_")[2]))
    assert next(s.question for s in samples if kind is not VideoMMETask or s.id == "000-1") == question
    assert Counter(sample.kind for sample in samples) == counts
    assert len({sample.id for sample in samples}) == len(samples)
    if kind in VIDEOS:
        assert {(len(s.images), s.videos[0].shape, s.videos[0].places) for s in samples} == {
            (0, (3, 40, 30), (0, 1, 2))
        }
        (told,) = task.notes()
        assert "frame folders come without fps and count as 1 a second (task.fps)" in told
    else:
        assert task.notes() == ()
        assert {sample.images.sizes[0] for sample in samples} == {(40, 30)}


@pytest.mark.parametrize("kind", EVERY)
def test_halves_share_nothing_and_lose_nothing(whole, kind):
    tune, report = (dataclasses.replace(whole(kind), split=split).samples() for split in ("tune", "report"))

    def seen(samples):
        shown = [s.images.pictures for s in samples] + [v.frames.pictures for s in samples for v in s.videos]
        return {str(picture) if kind in VIDEOS else picture.digest() for some in shown for picture in some}

    assert seen(tune)
    assert not seen(tune) & seen(report)
    assert sorted(s.id for s in (*tune, *report)) == sorted(s.id for s in whole(kind).samples())


SAID = {
    ChartQATask: ("21", "22"),
    DocVQATask: ("the year 1979", "page 3"),
    OCRBenchTask: ("It says A + b.", "a - b"),
    SEEDBenchTask: ("B. a dog", "A"),
    VideoMMETask: ("The answer is B", "none"),
    MVBenchTask: ("(B) 2", "(C) 3"),
    EgoSchemaTask: ("B", "nothing"),
    MLVUTask: ("B) Blue", "Blue"),
    LongVideoBenchTask: ("Best option: B", ""),
    RefCOCOTask: ("It is [0.25, 0.5, 0.75, 1.0].", "It is left."),
}


@pytest.mark.parametrize("kind", SAID)
def test_scores(whole, kind):
    task, (good, bad) = whole(kind), SAID[kind]
    assert {(task.score(good, s), task.score(bad, s)) for s in task.samples()} == {(1.0, 0.0)}


def test_mmmu_shows_the_named_pictures_and_reads_both_forms(whole):
    task = whole(MMMUTask)
    choice, opened = task.samples()[0], task.samples()[-1]
    assert [len(sample.images) for sample in (choice, opened)] == [2, 1]
    assert (choice.answers, opened.answers) == (("B", "red", "<image 2>"), ("24/7", "3.43"))
    assert [task.score(text, choice) for text in ("(B)", "A", "I see it is not really clear at all")] == [1, 0, 0]
    assert [task.score(text, opened) for text in ("The answer is 3.4299", "24/7", "3")] == [1, 1, 0]
    assert opened.question.endswith("See <image 1>?\n" + SHORT)


def rows_of(task, say):
    return [
        SimpleNamespace(id=s.id, kind=s.kind, prediction=say(s), answers=s.answers, score=task.score(say(s), s))
        for s in task.samples()
    ]


def test_official_figures(whole):
    hallusion = whole(HallusionBenchTask)
    rows = rows_of(hallusion, lambda s: "Yes." if s.id.endswith(("0_1", "1_0", "1_1")) else "no")
    assert hallusion.summary(rows) == {"aAcc": 0.75, "fAcc": 0.5, "qAcc": 0.5}  # of each set one of four is wrong
    boxes = whole(RefCOCOTask)
    figures = boxes.summary(rows_of(boxes, lambda s: "[0.25, 0.5, 0.5, 1]" if s.kind == "val" else "none"))
    assert figures["val: IoU"] == figures["val: ACC@0.5"] - 0.5 == 0.5
    assert (figures["val: ACC@0.7"], figures["testA: IoU"], figures["testB: ACC@0.3"]) == (0, 0, 0)
    charts = whole(ChartQATask)
    assert charts.summary(rows_of(charts, lambda s: "20" if s.kind == "human" else "x")) == {"relaxed accuracy": 0.5}


UNFIT = [
    (ChartQATask, "data/test-00000-of-00001.parquet", {"type": "x"}, "type that is none of human_test"),
    (DocVQATask, "DocVQA/validation-00000-of-00001.parquet", {"answers": None}, "1 rows without an answer"),
    (OCRBenchTask, "data/test-00000-of-00001.parquet", {"question_type": "x"}, "question_type of no group"),
    (SEEDBenchTask, "data/test-00000-of-00001.parquet", {"answer": "E"}, "an answer that names no option"),
    (SEEDBenchTask, "data/test-00000-of-00001.parquet", {"question_type_id": 0}, "question_type_id of no ability"),
    (SEEDBenchTask, "data/test-00000-of-00001.parquet", {"image": []}, "1 with a missing picture"),
    (MMMUTask, "data/validation-00000-of-00001.parquet", {"options": "open('x')"}, "options that are no list"),
    (MMMUTask, "data/validation-00000-of-00001.parquet", {"answer": "C"}, "an answer that names no option"),
    (MMMUTask, "data/validation-00000-of-00001.parquet", {"question": "?", "options": "['a', 'b']"}, "no <image 1>"),
    (MMMUTask, "data/validation-00000-of-00001.parquet", {"id": "validation_Magic_1"}, "id of no subject"),
    (MMMUTask, "data/validation-00000-of-00001.parquet", {"image_2": None}, "1 with a missing picture"),
    (HallusionBenchTask, "data/image-00000-of-00001.parquet", {"gt_answer": "2"}, "gt_answer that is neither 0 nor 1"),
    (RefCOCOTask, "data/val-00000-of-00001.parquet", {"bbox": [1.0, 2.0]}, "bbox that is not four numbers"),
    (RefCOCOTask, "data/val-00000-of-00001.parquet", {"bbox": [1.0, 2.0, 0.0, 3.0]}, "bbox without size"),
    (RefCOCOTask, "data/val-00000-of-00001.parquet", {"image": None}, "a picture that cannot be read"),
    (VideoMMETask, "videomme/test-00000-of-00001.parquet", {"videoID": "gone"}, "1 with a missing video"),
    (VideoMMETask, "videomme/test-00000-of-00001.parquet", {"options": ["One", "B. x"]}, "not lettered A, B"),
    (EgoSchemaTask, "Subset/test-00000-of-00001.parquet", {"answer": "5"}, "an answer that names no option"),
    (EgoSchemaTask, "Subset/test-00000-of-00001.parquet", {"answer": None}, "1 rows without an answer"),
]


@pytest.mark.parametrize(("kind", "file", "change", "words"), UNFIT)
def test_a_row_that_does_not_fit_is_counted_and_named(tmp_path, kind, file, change, words):
    EVERY[kind][0](tmp_path)
    rows = layouts.pq.read_table(tmp_path / file).to_pylist()
    rows[0].update(change)
    layouts.parquet(tmp_path / file, rows)
    task = kind(str(tmp_path), split="all", per_kind=None)
    lost = {HallusionBenchTask: 4, RefCOCOTask: 2}.get(kind, 1)  # a set goes together; two phrases of one thing
    assert len(task.samples()) == sum(EVERY[kind][2].values()) - lost
    assert words in task.notes()[0]


@pytest.mark.parametrize(
    ("kind", "file"), [(MVBenchTask, "json/action_count.json"), (MLVUTask, "MLVU/json/1_plotQA.json")]
)
def test_an_answer_that_is_no_candidate(tmp_path, kind, file):
    EVERY[kind][0](tmp_path)
    layouts.as_json(tmp_path / file, [{"video": "0.mp4", "question": "?", "candidates": ["a"], "answer": "b"}])
    task = kind(str(tmp_path), split="all", per_kind=None)
    assert len(task.samples()) == N
    assert "1 with an answer that names no option" in task.notes()[0]


def test_videos_that_are_not_unpacked_are_asked_for(tmp_path):
    layouts.as_json(tmp_path / "lvb_val.json", [])
    with pytest.raises(TaskError, match=r"videos does not exist; say where it is with task\.images=PATH"):
        LongVideoBenchTask(str(tmp_path)).samples()
    with pytest.raises(TaskError, match=r"has no json/TASK\.json of MVBench"):
        MVBenchTask(str(tmp_path)).samples()
    with pytest.raises(ValueError, match=r"task\.frames is 0"):
        VideoMMETask(frames=0)


def test_several_of_them_are_one_task(whole):
    kinds = (ChartQATask, MMMUTask, HallusionBenchTask, MLVUTask)
    task = SeveralTask({kind.name: whole(kind) for kind in kinds}, split="all", per_kind=4)
    assert {sample.kind for sample in task.samples()} == {kind.name for kind in kinds}
    rows = rows_of(task, lambda s: "B" if s.kind == "mlvu" else "x")
    made = [record_of(row) for row in rows]
    figures = task.summary(made)
    assert figures["mlvu: mean score"] == 1
    assert figures["chartqa: relaxed accuracy"] == 0
    with pytest.raises(ValueError, match=r"max_new_tokens: chartqa 16, docvqa 128; run them apart"):
        SeveralTask({"chartqa": whole(ChartQATask), "docvqa": whole(DocVQATask)})


def record_of(row):
    from autoprune_lab.statistics.records import Record

    numbers = (None, 1, 1, 1.0, 1, 1, 0, 1, 1, 1.0, (1,))
    return Record(row.id, row.kind, row.prediction, row.answers, row.score, *numbers)


def test_their_configurations_make_them():
    from hydra.utils import instantiate

    for kind in EVERY:
        assert isinstance(instantiate(compose([f"task={kind.name}"]).config["task"]), kind)
    both = compose(["task=chartqa,seedbench"]).config["task"]
    assert list(both["tasks"]) == ["chartqa", "seedbench"]
