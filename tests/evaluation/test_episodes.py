"""Closed loops are answered step by step, all episodes together; records are as those of any task."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from autoprune_lab.evaluation.answers import Answers
from autoprune_lab.evaluation.episodes import one_row, played_out
from autoprune_lab.evaluation.evaluate import evaluate, read_complexities, read_decisions
from autoprune_lab.evaluation.prompts import at_once, prepare
from autoprune_lab.evaluation.streaming import Stream
from autoprune_lab.metrics.closed_loop import Drive
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection.scorers import prefill_attention
from autoprune_lab.selection.vla_pruner import CombineThenFilter
from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Episode, Sample, TaskError
from autoprune_lab.tasks.downsampled import DownsampledTask
from autoprune_lab.tasks.driving import DrivingTask
from autoprune_lab.tasks.driving_closed_loop import DrivingClosedLoopTask
from autoprune_lab.tasks.several import SeveralTask
from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.driving.layout import layout
from policies.fixed import FixedPolicy
from policies.staircase_blend import StaircaseBlendPolicy

FLOPS = (100, 40, 10)


@dataclass
class Countdown(Episode):
    """Shows `left` samples, one after the other."""

    name: str
    left: int
    heard: list[str] = field(default_factory=list)

    def look(self):
        return Sample(self.name, (), str(self.left), (), "down") if self.left else None

    def act(self, answer):
        self.heard.append(answer)
        self.left -= 1

    def outcome(self):
        return "".join(self.heard)


def decision(text: str, flops: int = 100, complexity: float | None = None) -> Record:
    return Record("", "", text, (), 0.0, complexity, 4, 2, 3.0, flops, 200, 1, 5, 10, 2.5, (4, 3), 0.5)


def test_episodes_go_on_together_and_where_one_ends_the_next_begins():
    asked = []

    def decide(episodes, samples):
        assert [episode.name for episode in episodes] == [sample.id for sample in samples]
        asked.append([sample.id + sample.question for sample in samples])
        return [decision(sample.question) for sample in samples]

    played = played_out([Countdown("a", 1), Countdown("b", 3), Countdown("c", 2), Countdown("d", 0)], decide, size=2)
    assert asked == [["a1", "b3"], ["b2", "c2"], ["b1", "c1"]]
    assert [outcome for outcome, _ in played] == ["1", "321", "21", ""]
    assert [len(rows) for _, rows in played] == [1, 3, 2, 0]


def test_a_row_has_the_mean_of_its_decisions():
    rows = [decision("a", 100, 1.0), decision("b", 51, 2.0)]
    row = one_row(Sample("x", (), "", ("right",), "kind"), "outcome", 0.5, rows)
    assert (row.id, row.kind, row.prediction, row.answers, row.score) == ("x", "kind", "outcome", ("right",), 0.5)
    assert (row.decoder_flops, row.unpruned_flops, row.complexity, row.tokens) == (76, 200, 1.5, (4, 3))
    assert one_row(Sample("x", (), "", (), ""), "", 0.0, [decision("a")]).complexity is None
    with pytest.raises(ValueError, match="over before it began"):
        one_row(Sample("x", (), "", (), ""), "", 0.0, [])


@pytest.fixture(scope="module")
def novice() -> VLM:
    small = layout(n_layers=6, hidden=16)
    return VLM(build_untrained(small, 0).eval(), build_processor(small), "novice")


@pytest.fixture(scope="module")
def task() -> DrivingClosedLoopTask:
    return DrivingClosedLoopTask("report", 1, seconds=1.0)


def test_a_closed_loop_gives_a_record_an_episode_of_any_batch_size(novice, task):
    pruner = Pruner(FixedPolicy(2), Budget(flops_ratio=0.6))
    found = [evaluate(novice, prepare(novice, task, size), pruner) for size in (6, 4)]
    assert [row.id for row in found[0].rows] == [sample.id for sample in task.samples()]
    assert found[0].rows == pytest.approx(found[1].rows) or [r.prediction for r in found[0].rows] == [
        r.prediction for r in found[1].rows
    ]
    assert 0.55 < found[0].flops_ratio <= 0.6
    drives = [Drive.read(row.prediction) for row in found[0].rows]
    assert all(drive is not None and drive.unreadable == 1 and drive.seconds <= 1 for drive in drives)
    assert task.summary(found[0].rows)["gflops_per_second"] == pytest.approx(
        2 * np.mean([row.decoder_flops for row in found[0].rows]) / 1e9
    )
    whole = evaluate(novice, prepare(novice, task, 6))
    assert whole.flops_ratio == 1
    assert whole.rows[0].tokens == (192,) * 6


VLA_PRUNER = Pruner(FixedPolicy(2), Budget(flops_ratio=0.6), prefill_attention, recovery=CombineThenFilter())


def played_by(vlm, prepared, pruner, monkeypatch):
    """The records, and the histories that episodes end with, by name."""
    begun, begin = {}, DrivingClosedLoopTask.episode
    monkeypatch.setattr(
        DrivingClosedLoopTask, "episode", lambda task, sample: begun.setdefault(sample.id, begin(task, sample))
    )
    records = evaluate(vlm, prepared, pruner)
    monkeypatch.undo()
    return records, {name: episode.history for name, episode in begun.items()}


def test_what_decisions_looked_at_is_kept_by_their_episode_alone(novice, monkeypatch):
    drives = DrivingClosedLoopTask("report", 1, seconds=2.5)  # 5 decisions of each
    together, histories = played_by(novice, prepare(novice, drives, 6), VLA_PRUNER, monkeypatch)
    assert all(len(history) == 3 and history[0].shape == (192,) for history in histories.values())
    parted, others = played_by(novice, prepare(novice, drives, 4), VLA_PRUNER, monkeypatch)
    assert [row.prediction for row in together.rows] == [row.prediction for row in parted.rows]
    for name, history in histories.items():
        np.testing.assert_allclose(np.stack(history), np.stack(others[name]), atol=1e-6)
    _, without = played_by(novice, prepare(novice, drives, 6), Pruner(FixedPolicy(2)), monkeypatch)
    assert {*without.values()} == {()}


def test_a_history_changes_which_tokens_stay_from_the_second_decision_on(novice):
    drives = [DrivingClosedLoopTask("report", 1).episode(sample) for sample in DrivingClosedLoopTask().samples()[:2]]
    batch = at_once(novice, DrivingTask(), [drive.look() for drive in drives]).batches[0]

    def kept(history):
        with VLA_PRUNER.attach(novice.model, keep_indices=True, history=history) as trace:
            novice.model.generate(**batch.arguments(), max_new_tokens=14, do_sample=False)
        return trace.samples

    first, outside = kept([(), ()]), kept(None)
    assert [one.kept[-1].tolist() for one in first] == [one.kept[-1].tolist() for one in outside]
    second = kept([first[0].history, ()])
    assert second[0].kept[-1].tolist() != first[0].kept[-1].tolist()
    assert second[1].kept[-1].tolist() == first[1].kept[-1].tolist()


def test_blocks_are_played_one_after_the_other(novice):
    prepared, told = prepare(novice, DrivingClosedLoopTask("tune", 2, seconds=0.5), 6, blocks=2), []
    records = evaluate(novice, prepared, after_block=told.append)
    assert [(len(block.outcome.rows), len(block.so_far.rows), block.is_last) for block in told] == [
        (6, 6, False),
        (6, 12, True),
    ]
    assert [row.id for row in records.rows] == [sample.id for sample in prepared.samples]


def test_a_stream_plays_the_same_drives(novice, task, tmp_path):
    answers = Answers(tmp_path / "unpruned")
    Stream(novice, task, 6).answer({answers: None})
    answers.merge(tmp_path / "unpruned.parquet")
    mine = evaluate(novice, prepare(novice, task, 6))
    assert [row.prediction for row in answers.records().rows] == [row.prediction for row in mine.rows]


ADAPTIVE = Pruner(StaircaseBlendPolicy(0.0, 0.2, ((1 / 3,), (1 / 3,)), ((1.0,), (0.1,))), MeanBudget(flops_ratio=0.7))


def test_every_decision_of_the_unpruned_model_is_read(novice):
    drives = DrivingClosedLoopTask("report", 1, seconds=2.5)
    prepared = prepare(novice, drives, 4)
    bits, geometries = read_decisions(novice, prepared, ADAPTIVE)
    assert len(bits) == len(geometries) == 6 * 5
    assert {geometry.n_vision for geometry in geometries} == {192}
    firsts = read_complexities(novice, prepared, ADAPTIVE)
    np.testing.assert_allclose(bits[::5], firsts, atol=1e-6)
    played = evaluate(novice, prepared, replace(ADAPTIVE, budget=Budget(flops_ratio=1)))
    assert [row.complexity for row in played.rows] == pytest.approx(bits.reshape(6, 5).mean(1).tolist(), rel=1e-5)
    with pytest.raises(TaskError, match="is no closed loop"):
        read_decisions(novice, prepare(novice, DrivingTask("report", 1), 6), ADAPTIVE)


def test_a_stream_calibrates_a_mean_budget_on_every_decision(novice):
    drives = DrivingClosedLoopTask("report", 1, seconds=2.5)
    stream, prepared = Stream(novice, drives, 6), prepare(novice, drives, 6)
    told = stream.calibrated(ADAPTIVE)
    assert told == ADAPTIVE.calibrated(*read_decisions(novice, prepared, ADAPTIVE))
    spent = evaluate(novice, prepared, told)
    assert spent.flops_ratio == pytest.approx(0.7, abs=0.003)  # the novice stands still, pruned or not
    assert len({row.decoder_flops for row in spent.rows}) > 1
    even = Pruner(FixedPolicy(2), MeanBudget(flops_ratio=0.7))
    assert stream.calibrated(even) == even.calibrated(np.zeros(6), prepared.geometries)


def test_what_a_closed_loop_cannot_do_is_refused(novice, task):
    prepared = prepare(novice, task, 6)
    assert (read_complexities(novice, prepared, Pruner(FixedPolicy(2))) == 0).all()
    with pytest.raises(TaskError, match="not known before"):
        evaluate(novice, prepared, complexities=np.zeros(6))
    with pytest.raises(TaskError, match="not known before"):
        evaluate(novice, prepared, judge=lambda said, place: 1.0)
    mixed = SeveralTask({"open": DrivingTask(), "closed": DrivingClosedLoopTask()}, per_kind=6)
    with pytest.raises(TaskError, match="task of its own"):
        evaluate(novice, prepare(novice, mixed, 6))
    sample = task.samples()[0]
    with pytest.raises(TaskError, match="smaller pictures"):
        DownsampledTask(task, {sample.id: 0.5}).episode(sample)
    assert replace(task, split="tune").episode(task.samples()[0]) is not None
