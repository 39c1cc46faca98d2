"""The closed loop at a study's end: who plays at which cost, what is kept, and that nothing is played twice."""

from dataclasses import dataclass, replace

import pytest
from fake_evaluator import FakeReportEvaluator, finished

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from policies.fixed import FixedPolicy
from search.config.schema import ReportSettings
from search.results.episodes import episodes_table, evaluate_episodes, forget
from search.results.study_result import EPISODES, StudyResult, artifacts
from search.tracking.report_metrics import report_metrics

ARMS = {"fixed": Pruner(FixedPolicy(4)), "late": Pruner(FixedPolicy(14))}
PLAYED = {"_target_": "a.closed.Loop"}


@dataclass(frozen=True)
class Ended:
    """A finished study's folder, and how its episodes are played."""

    result: StudyResult
    tuned: dict[int, Pruner]

    def play(self, opened, **changes):
        settings = ReportSettings(episodes=PLAYED, **changes)
        return evaluate_episodes(self.result.folder, settings, self.result.front, self.tuned, ARMS, opened)


@pytest.fixture
def ended(tmp_path):
    result = finished(tmp_path, "s", "search=tpe", "policy=fixed", "report.ratios=[0.35]")
    tuned = {int(label): Pruner.load(result.folder / "tuned" / f"trial-{label}.yaml") for label in result.front.labels}
    return Ended(result, tuned)


def test_the_knee_plays_and_others_get_its_flops(ended):
    evaluator = FakeReportEvaluator()
    frame = ended.play(lambda: evaluator).set_index("arm")
    knee = int(ended.result.front.labels[ended.result.front.knee()])
    assert evaluator.runs[0] == ended.tuned[knee]
    spent = frame.loc["front", "flops_ratio"]
    assert evaluator.runs[1] == replace(ARMS["fixed"], budget=Budget(flops_ratio=spent))
    assert (frame.loc["front", "trial"], frame.loc["fixed", "reference"]) == (knee, f"trial {knee}")
    gap = frame.loc["fixed", "score"] - frame.loc["front", "score"]
    assert frame.loc["fixed", "difference"] == pytest.approx(gap)
    assert frame.loc["late", "note"].startswith("unreachable")
    assert frame.loc["fixed", "figure/collision_rate"] == pytest.approx(1 - frame.loc["fixed", "score"])


def test_what_was_played_is_read_again_until_something_changes(ended):
    first = ended.play(FakeReportEvaluator)
    assert ended.play(lambda: pytest.fail("played twice"))["score"].tolist() == pytest.approx(
        first["score"].tolist(), nan_ok=True
    )
    with pytest.raises(ZeroDivisionError):
        ended.play(lambda: 1 // 0, arms={"fixed": ["policy=fixed"]})
    forget(ended.result.folder)
    assert ended.result.episodes.empty


def test_the_table_has_a_column_an_arm_that_could_play(ended):
    lines = episodes_table(ended.play(FakeReportEvaluator)).splitlines()
    assert "unreachable" in next(line for line in lines if line.startswith("late"))
    head, _, figure = lines[-3:]
    assert head.split()[0:2] == ["figure", "unpruned"]
    assert "late" not in head
    assert figure.split()[0] == "collision_rate"


def test_they_are_artifacts_and_metrics_and_a_film_that_fails_is_named(ended):
    frame = ended.play(FakeReportEvaluator).set_index("arm")
    assert {EPISODES, "episodes.json", "episodes_records.parquet"} <= set(artifacts(ended.result.folder))
    assert "episode.gif" not in artifacts(ended.result.folder)
    assert '"why": ' in (ended.result.folder / "episodes.json").read_text()  # the fake has no model
    told = report_metrics(ended.result.folder)
    assert told["episodes/fixed"] == pytest.approx(frame.loc["fixed", "score"])
    assert told["episodes/collision_rate"] == pytest.approx(frame.loc["front", "figure/collision_rate"])
    assert "episodes/late" not in told
