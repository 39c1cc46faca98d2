"""Rides of highway-env as a task: what an episode counts, and what is said where it is not installed."""

import pytest

from autoprune_lab.metrics.highway import Ride
from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.highway import KINDS, METRES, HighwayEpisode, HighwayTask, expert, ridden
from autoprune_lab.testbed.highway.expert import ACTIONS
from autoprune_lab.testbed.highway.simulator import missing

needs_highway = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def played(name: str, answer: str, seconds: int = 20) -> Ride:
    episode = HighwayEpisode(name, seconds)
    while episode.look() is not None:
        episode.act(answer)
    ride = Ride.read(episode.outcome())
    assert ride is not None
    return ride


@needs_highway
def test_samples_are_what_rides_begin_with():
    samples = HighwayTask("tune", 2).samples()
    assert [sample.id for sample in samples] == [f"tune-{kind}-{i}" for kind in KINDS for i in (0, 1)]
    assert {(image.size) for sample in samples for image in sample.images[:]} == {(64, 64)}
    assert {sample.answers[0] for sample in samples} <= {*ACTIONS}
    shown = HighwayEpisode("tune-busy-1").look()
    assert shown.question == samples[3].question
    assert [image.tobytes() for image in shown.images[:]] == [image.tobytes() for image in samples[3].images[:]]
    assert samples[0].images[0].tobytes() != HighwayTask("report", 1).samples()[0].images[0].tobytes()


@needs_highway
@pytest.mark.parametrize("kind", KINDS)
def test_the_expert_arrives(kind):
    ride = ridden(f"tune-{kind}-0", expert)
    assert ride.succeeds
    assert ride.metres >= METRES


@needs_highway
def test_who_is_always_slow_is_late_and_who_is_always_fast_crashes():
    slow, fast = played("tune-busy-0", "SLOWER"), played("tune-dense-0", "FASTER")
    assert (slow.crashed, slow.seconds) == (False, 20)
    assert 0.6 < slow.score < 1
    assert fast.crashed
    assert fast.short_ttc
    assert fast.seconds < 20
    assert (slow.succeeds, fast.succeeds) == (False, False)


@needs_highway
def test_an_unreadable_answer_is_idle_and_counted():
    rides = [played("tune-busy-0", answer, seconds=3) for answer in ("IDLE", "go on")]
    assert [ride.unreadable for ride in rides] == [0, 1]
    assert rides[0].metres == rides[1].metres == pytest.approx(75, abs=1)
    assert HighwayTask().score(rides[0].told(), HighwayTask("tune", 1).samples()[0]) == rides[0].score > 0


def test_a_ride_of_no_decision_is_refused():
    with pytest.raises(ValueError, match=r"task\.seconds 0 must be at least 1"):
        HighwayTask(seconds=0)


def test_without_highway_env_samples_say_what_to_install(monkeypatch):
    monkeypatch.setattr("autoprune_lab.testbed.highway.simulator.find_spec", lambda name: None)
    with pytest.raises(TaskError, match="task highway: highway-env is not installed: pip install"):
        HighwayTask().samples()
