"""Evaluation batch by batch: the records of the in-memory way, whatever stops it and however many share it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import weakref

import layouts
import pandas as pd
import pyarrow.parquet as pq
import pytest
from answering import answering

from autoprune_lab.evaluation import prompts, streaming
from autoprune_lab.evaluation.answers import Answer, Answers, AnswersError
from autoprune_lab.evaluation.evaluate import evaluate, read_complexities
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.evaluation.streaming import Shard, Stream
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.statistics.records import LeftOut, Record
from autoprune_lab.tasks import drawn
from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.pictures import Album
from autoprune_lab.tasks.shapes import ShapesTask
from policies.logistic_adaptive import LogisticAdaptivePolicy

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.6))
TASK = ShapesTask("tune", 3)
SIZE = 2  # of a batch


def narrow() -> VLM:
    return answering(n_layers=5)


@pytest.fixture(scope="module")
def vlm():
    return narrow()


@pytest.fixture(scope="module")
def in_memory(vlm):
    return evaluate(vlm, prepare(vlm, TASK, batch_size=SIZE), PRUNER).rows


@pytest.fixture
def stream(vlm):
    return Stream(vlm, TASK, SIZE)


@pytest.fixture
def answers(tmp_path):
    return Answers(tmp_path / "pruned")


@pytest.fixture
def prepared_ones(monkeypatch):
    """The samples of every batch that is prepared."""
    seen = []

    def watched(vlm, part, **how):
        seen.append(part.chosen)
        return prepare(vlm, part, **how)

    monkeypatch.setattr(streaming, "prepare", watched)
    return seen


def test_the_records_are_those_of_the_way_in_memory(vlm, stream, answers, in_memory, tmp_path):
    unpruned = Answers(tmp_path / "unpruned")
    stream.answer({answers: PRUNER, unpruned: None}, every=0.0)
    assert len(list(answers.folder.iterdir())) == len(stream.batches) > 3
    assert answers.records().rows == in_memory
    assert unpruned.records().rows == evaluate(vlm, prepare(vlm, TASK, batch_size=SIZE)).rows
    answers.merge(tmp_path / "all.parquet")
    frame = pd.read_parquet(tmp_path / "all.parquet")
    assert frame["id"].tolist() == [sample.id for sample in TASK.samples()]
    assert frame["tokens"].map(len).tolist() == [5] * len(frame)
    assert len(pd.read_parquet(answers.folder)) == len(frame)  # all parts have one schema


def test_shards_share_the_work_and_merge_to_the_same_records(stream, answers, in_memory, prepared_ones):
    for index in (3, 1, 2):
        stream.answer({answers: PRUNER}, Shard(index, 3))
    assert len(list(answers.folder.iterdir())) == 3
    assert sum(map(len, prepared_ones)) == len(in_memory)
    assert answers.records().rows == in_memory


@pytest.mark.parametrize(("index", "of"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_that_there_is_not_is_refused(index, of):
    with pytest.raises(ValueError, match=f"shard {index}/{of}"):
        Shard(index, of)


def test_after_ctrl_c_only_the_rest_is_answered(stream, answers, in_memory, prepared_ones, monkeypatch):
    def stop_in_third(vlm, prepared, pruner):
        if len(prepared_ones) == 3:
            raise KeyboardInterrupt
        return evaluate(vlm, prepared, pruner)

    monkeypatch.setattr(streaming, "evaluate", stop_in_third)
    with pytest.raises(KeyboardInterrupt):
        stream.answer({answers: PRUNER})
    monkeypatch.setattr(streaming, "evaluate", evaluate)
    kept = answers.places()
    assert kept == set(stream.batches[0] + stream.batches[1])
    prepared_ones.clear()
    dataclasses.replace(stream, batch_size=3).answer({answers: PRUNER})  # the batch size may change on the way
    assert sum(map(len, prepared_ones)) == len(in_memory) - len(kept)
    assert [row.prediction for row in answers.records().rows] == [row.prediction for row in in_memory]


DYING = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from autoprune_lab.evaluation.answers import Answers
from autoprune_lab.evaluation.streaming import Stream
from test_streaming import PRUNER, SIZE, TASK, narrow

write, written = pq.write_table, []

def die_in_third(table, stream):
    written.append(table)
    if len(written) == 3:
        stream.write(b"PAR1half of a part")
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write(table, stream)

pq.write_table = die_in_third
Stream(narrow(), TASK, SIZE).answer({Answers(Path(sys.argv[1])): PRUNER}, every=0.0)
"""


def test_a_kill_in_the_middle_of_a_part_leaves_a_readable_folder(stream, answers, in_memory):
    words = [sys.executable, "-c", DYING, str(answers.folder)]
    killed = subprocess.run(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(answers.folder.iterdir())) == 3  # two parts and a half
    assert answers.places() == set(stream.batches[0] + stream.batches[1])
    stream.answer({answers: PRUNER})
    assert answers.records().rows == in_memory


def test_one_batch_of_features_is_in_memory_at_a_time(stream, answers, monkeypatch):
    alive, most = [], []
    encode = prompts.VisionEncoder.__call__

    def watched(self, inputs):
        most.append(sum(one() is not None for one in alive))
        made = encode(self, inputs)
        alive.append(weakref.ref(made["mm_encoder_outputs"]["image"]["pooler_output"][0]))
        return made

    monkeypatch.setattr(prompts.VisionEncoder, "__call__", watched)
    stream.answer({answers: PRUNER})
    assert len(most) == len(stream.batches)
    assert max(most) == 0


@pytest.fixture
def long(monkeypatch, stream):
    """A task of 24 samples counts as long, its batches are made of six samples; what of it is made from here on."""
    made, make = [], ShapesTask.sample
    monkeypatch.setattr(ShapesTask, "sample", lambda self, kind, i: made.append((kind, i)) or make(self, kind, i))
    for module in (drawn, streaming):
        monkeypatch.setattr(module, "TOGETHER", 6)
    assert len(stream.samples) == 24
    made.clear()  # where types are checked as they run, one was made
    return made


def assert_alike(rows, others):
    """Equal, though the samples had other neighbours in their batches, and sums were taken in another order."""
    for row, other in zip(rows, others, strict=True):
        for name in ("complexity", "confidence"):
            assert getattr(row, name) == pytest.approx(getattr(other, name), rel=1e-5)
        assert dataclasses.replace(row, complexity=other.complexity, confidence=other.confidence) == other


def test_of_a_long_task_few_samples_are_made_before_the_first_answer(stream, answers, in_memory, long, monkeypatch):
    n_made = []
    monkeypatch.setattr(streaming, "evaluate", lambda *given: n_made.append(len({*long})) or evaluate(*given))
    stream.answer({answers: PRUNER})
    assert n_made == [6] * 3 + [12] * 3 + [18] * 3 + [24] * 3
    assert_alike(answers.records().rows, in_memory)


def test_shards_share_a_long_task_and_what_is_done_is_not_made_again(stream, answers, in_memory, prepared_ones, long):
    stream.answer({answers: PRUNER}, Shard(2, 2))
    assert answers.places() == {*range(1, 24, 2)}
    assert len({*long}) == 12
    stream.answer({answers: PRUNER})
    assert sum(map(len, prepared_ones)) == len(in_memory)
    assert_alike(answers.records().rows, in_memory)
    long.clear()
    stream.answer({answers: PRUNER})
    assert not long


@pytest.mark.parametrize("opening", [None, 40])
def test_a_budget_over_the_mean_is_calibrated_as_in_memory(vlm, stream, opening):
    pruner = dataclasses.replace(
        PRUNER, budget=MeanBudget(flops_ratio=0.6, opening=opening), opening_scorer=scorers.feature_norm
    )
    prepared = prepare(vlm, TASK, batch_size=SIZE)
    bits = read_complexities(vlm, prepared, pruner)
    assert stream.calibrated(pruner) == pruner.calibrated(bits, prepared.geometries)
    assert stream.calibrated(PRUNER) is PRUNER


@dataclasses.dataclass(frozen=True)
class Damaged(ShapesTask):
    """The task with pictures of some samples that pass a look at header and end, and cannot be decoded."""

    places: tuple[int, ...] = ()

    def samples(self):
        def damaged(sample):
            content = layouts.damaged_png(sample.images[0].size)
            return dataclasses.replace(sample, images=Album((layouts.BytesPicture(content, f"{sample.id}.png"),)))

        return tuple(damaged(s) if i in self.places else s for i, s in enumerate(super().samples()))


@pytest.fixture
def damaged(stream):
    """A whole batch, and one sample of another."""
    places = (*stream.batches[1], stream.batches[3][0])
    return Damaged("tune", 3, places)


def to_six_digits(rows):
    """The rows; a sample whose neighbour in the batch is left out runs alone, and sums are taken in another order."""
    read = ("complexity", "confidence")
    return [dataclasses.replace(row, **{name: float(f"{getattr(row, name):.5e}") for name in read}) for row in rows]


def test_what_cannot_be_shown_is_left_out_and_the_others_answered_as_ever(vlm, damaged, answers, in_memory, tmp_path):
    good = tuple(row for place, row in enumerate(in_memory) if place not in damaged.places)
    prepared = prepare(vlm, damaged, batch_size=SIZE)
    assert list(prepared.left_out) == sorted(damaged.places)
    records = evaluate(vlm, prepared, PRUNER)
    assert to_six_digits(records.rows) == to_six_digits(good)
    ids = [damaged.samples()[place].id for place in sorted(damaged.places)]
    assert [left.id for left in records.left_out] == ids
    assert all(f"{left.id}.png cannot be decoded" in left.reason for left in records.left_out)
    stream = Stream(vlm, damaged, SIZE)
    assert stream.batches == Stream(vlm, TASK, SIZE).batches
    unpruned = Answers(tmp_path / "unpruned")
    stream.answer({answers: PRUNER, unpruned: None})
    for kept in (answers, unpruned):
        assert list(kept.left_out()) == sorted(damaged.places)
        assert kept.places() == set(range(len(in_memory))) - set(damaged.places)
    assert answers.records().rows == records.rows
    assert [left.id for left in answers.records().left_out] == ids
    answers.merge(tmp_path / "all.parquet")
    assert [left["id"] for left in json.loads((tmp_path / "all.left_out.json").read_text())] == ids


def test_what_was_left_out_is_not_tried_again(vlm, damaged, answers, prepared_ones):
    stream = Stream(vlm, damaged, SIZE)
    stream.answer({answers: None}, Shard(1, 2))
    stream.answer({answers: None}, Shard(2, 2))
    assert sum(map(len, prepared_ones)) == len(stream.samples)
    prepared_ones.clear()
    stream.answer({answers: None})
    assert not prepared_ones


def test_a_budget_over_the_mean_is_calibrated_on_what_can_be_shown(vlm, damaged):
    pruner = dataclasses.replace(PRUNER, budget=MeanBudget(flops_ratio=0.6))
    prepared = prepare(vlm, damaged, batch_size=SIZE)
    bits = read_complexities(vlm, prepared, dataclasses.replace(pruner, budget=None))
    assert Stream(vlm, damaged, SIZE).calibrated(pruner) == pruner.calibrated(bits, prepared.geometries)


def test_a_task_of_which_nothing_can_be_shown_is_refused(vlm):
    nothing = Damaged("tune", 1, tuple(range(8)))
    with pytest.raises(TaskError, match=r"task shapes: none of 8 samples can be shown to the model; .*be decoded"):
        prepare(vlm, nothing)
    with pytest.raises(TaskError, match="none of 8 samples can be shown"):
        prompts.prompt_lengths(vlm.processor, (vlm.model.config.image_token_id,), nothing.samples())
    some = Damaged("tune", 1, (0, 3)).samples()
    assert len(prompts.prompt_lengths(vlm.processor, (vlm.model.config.image_token_id,), some)) == 6


def test_a_list_of_what_was_left_out_that_cannot_be_read_is_named(answers):
    answers.leave_out({3: LeftOut("a", "why")})
    (part,) = answers.folder.iterdir()
    part.write_text("[{")
    with pytest.raises(AnswersError, match=f"{part.name} cannot be read: delete it"):
        answers.left_out()


def _record(name: str, complexity: float | None) -> Record:
    return Record(name, "a", "yes", (), 1.0, complexity, 10, 4, 5.0, 50, 100, 1, 25, 50, 4.5, (5, 5))


def test_records_come_back_as_they_were(answers):
    rows = (_record("blind", 0.0), _record("not adaptive", None))
    answers.add([Answer(1, rows[1], 0.5)])
    answers.add([Answer(0, rows[0], 0.25)])
    answers.add([Answer(0, rows[0], 0.25), Answer(1, rows[1], 0.5)])  # two processes at once
    assert answers.records().rows == rows
    assert answers.records().seconds == 0.75


def test_a_part_that_cannot_be_read_is_named(answers):
    answers.add([Answer(0, _record("a", 1.0), 0.5)])
    (part,) = answers.folder.iterdir()
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(AnswersError, match=f"{part.name} cannot be read: delete it"):
        answers.places()


def test_parts_from_before_confidences_were_kept_are_read(answers):
    rows = [_record("a", 1.0), _record("b", 2.0)]
    answers.add([Answer(0, rows[0], 0.5)])
    (part,) = answers.folder.iterdir()
    pq.write_table(pq.read_table(part).drop_columns(["confidence"]), part)
    answers.add([Answer(1, rows[1], 0.5)])
    assert answers.records().rows == tuple(rows)
