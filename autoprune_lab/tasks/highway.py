"""highway-env in a closed loop: every second three views of a highway in, one of its meta-actions out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial

import numpy as np
from PIL import Image

from autoprune_lab.metrics.highway import Ride, figures
from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Episode, Sample, Task, TaskError, check_choice
from autoprune_lab.tasks.drawn import KEPT
from autoprune_lab.tasks.pictures import Drawings
from autoprune_lab.testbed.highway.expert import decide
from autoprune_lab.testbed.highway.scene import IMAGE_SIZE, VIEWS, Moment
from autoprune_lab.testbed.highway.simulator import DENSITIES, Highway, draw, missing
from autoprune_lab.testbed.highway.wording import parse, question, told

KINDS = tuple(DENSITIES)
SPLITS = {"tune": 2**32, "report": 2**33}  # from where on traffic is seeded; training takes seeds below 2**31
APART = 2**20  # between the seeds of one kind and the next
SOON = 0.95  # seconds to a collision that are short, as NAVSIM has it
METRES, MOST_SECONDS = 400.0, 20  # to drive, in time: 20 m/s, more than who is always slow does
NOTHING = Ride(0.0, 0, 0.0, crashed=False, short_ttc=False, reward=0.0, unreadable=0.0)


@dataclass(frozen=True)
class HighwayTask(Task):
    """`per_kind` rides of METRES in sparse, busy and dense traffic, which need highway-env.

    A sample is what a ride begins with; its answer is the expert's action there. A ride's score is its driving score;
    it fails where it has not arrived after `seconds`, and ends at a collision.
    """

    split: str = "tune"
    per_kind: int = 20
    seconds: int = MOST_SECONDS

    name = "highway"
    max_new_tokens = 2  # the action, the end token

    def __post_init__(self) -> None:
        check_choice(self.split, SPLITS, self.per_kind)
        if self.seconds < 1:
            raise ValueError(f"task.seconds {self.seconds} must be at least 1, the time of one decision")

    def samples(self) -> tuple[Sample, ...]:
        """Kind by kind, `per_kind` each; sample i is the same whatever `per_kind`. TaskError without highway-env."""
        if lacking := missing():
            raise TaskError(f"task {self.name}: {lacking}")
        return tuple(_first(f"{self.split}-{kind}-{i}") for kind in KINDS for i in range(self.per_kind))

    def episode(self, sample: Sample) -> "HighwayEpisode":
        """The ride that begins so."""
        return HighwayEpisode(sample.id, self.seconds)

    def score(self, prediction: str, sample: Sample) -> float:
        """The driving score of an outcome; 0 for what is none."""
        return (Ride.read(prediction) or NOTHING).score

    def summary(self, rows: Sequence[Record]) -> Mapping[str, float]:
        """See `highway.figures`; beside them the decoder's prefill GFLOPs per decision, of which one is made a second.

        An unreadable answer counts as IDLE, a row without an outcome as a ride that did not begin.
        """
        cost = {"gflops_per_decision": float(np.mean([row.decoder_flops for row in rows])) / 1e9}
        return figures([Ride.read(row.prediction) or NOTHING for row in rows]) | cost


@dataclass
class HighwayEpisode(Episode):
    """One ride; `name` is SPLIT-KIND-NUMBER."""

    name: str
    seconds: int = MOST_SECONDS
    decided: int = 0
    unreadable: int = 0
    close: bool = False
    rewards: list[float] = field(default_factory=list)

    @cached_property
    def highway(self) -> Highway:
        """The ride under way."""
        return _highway(self.name)

    @property
    def is_over(self) -> bool:
        """Arrived, in a collision, or out of time."""
        return self.highway.crashed or self.highway.metres >= METRES or self.decided >= self.seconds

    def look(self) -> Sample | None:
        """What the road looks like now, in the wording of the ride; None at its end."""
        return None if self.is_over else _shown(self.name, self.highway.moment)

    def act(self, answer: str) -> None:
        """A second of the action; of IDLE where it cannot be read."""
        action = parse(answer)
        self.decided += 1
        self.unreadable += action is None
        self.close |= self.highway.closing < SOON
        self.rewards.append(self.highway.act(action or "IDLE"))

    def state(self) -> Mapping[str, float]:
        """Time and speed."""
        return {"seconds": float(self.decided), "speed, m/s": self.highway.moment.speed}

    def outcome(self) -> str:
        """A `Ride` as text."""
        highway, decided = self.highway, max(self.decided, 1)
        return Ride(
            completion=min(highway.metres / METRES, 1.0),
            seconds=self.decided,
            metres=highway.metres,
            crashed=highway.crashed,
            short_ttc=self.close,
            reward=sum(self.rewards) / decided,
            unreadable=self.unreadable / decided,
        ).told()


def ridden(name: str, decided: Callable[[Moment], str]) -> Ride:
    """What comes of a ride in which someone who sees moments, not pictures, decides."""
    episode = HighwayEpisode(name)
    while not episode.is_over:
        episode.act(decided(episode.highway.moment))
    ride = Ride.read(episode.outcome())
    assert ride is not None
    return ride


def expert(moment: Moment) -> str:
    """The expert's action, told the speed as a model is."""
    return decide(replace(moment, speed=float(told(moment.speed))))


def _highway(name: str) -> Highway:
    split, kind, number = name.split("-")
    return Highway(SPLITS[split] + KINDS.index(kind) * APART + int(number), DENSITIES[kind])


@lru_cache(KEPT)
def _first(name: str) -> Sample:
    moment = _highway(name).moment
    return replace(_shown(name, moment), answers=(expert(moment),))


def _shown(name: str, moment: Moment) -> Sample:
    _, kind, number = name.split("-")
    asked = question(moment.speed, np.random.default_rng((int(number), KINDS.index(kind))))
    return Sample(name, Drawings(partial(_pictures, moment), ((IMAGE_SIZE, IMAGE_SIZE),) * len(VIEWS)), asked, (), kind)


@lru_cache(256)  # asked for more than once while a batch is made
def _pictures(moment: Moment) -> tuple[Image.Image, ...]:
    return tuple(Image.fromarray(view) for view in np.split(draw(moment), len(VIEWS), axis=1))
