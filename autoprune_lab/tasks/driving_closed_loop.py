"""The embedded driving task in a closed loop: every half second three views in, a plan out, which moves the car."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial

import numpy as np
from PIL import Image

from autoprune_lab.metrics.closed_loop import Drive, figures
from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Episode, Sample, Task, check_choice
from autoprune_lab.tasks.drawn import KEPT
from autoprune_lab.tasks.pictures import Drawings
from autoprune_lab.testbed.driving.expert import STEP
from autoprune_lab.testbed.driving.render import IMAGE_SIZE, VIEWS, draw
from autoprune_lab.testbed.driving.scene import KINDS
from autoprune_lab.testbed.driving.wording import N_WAYPOINTS, answer, parse, question
from autoprune_lab.testbed.driving_loop.pilot import Moment, pilot
from autoprune_lab.testbed.driving_loop.trip import MOST_SECONDS, Start, Trip, make_start

# First entry of every seed; the open loop has 5 and 6, training single-number seeds.
SPLITS = {"tune": 7, "report": 8}
STAND = np.zeros((N_WAYPOINTS, 2))  # what an unreadable answer makes of the car
NOTHING = Drive(0.0, 0.0, "", ran_red=False, left_road=False, short_ttc=False, comfort=0.0)


@dataclass(frozen=True)
class DrivingClosedLoopTask(Task):
    """`per_kind` drives of each of six kinds of scene, from different seeds than those of the open loop.

    A sample is what a drive begins with; its answer is the expert's plan there. A drive's score is its driving score;
    it fails where it has not arrived after `seconds`.
    """

    split: str = "tune"
    per_kind: int = 20
    seconds: float = MOST_SECONDS

    name = "driving_closed_loop"
    max_new_tokens = 2 + 2 * N_WAYPOINTS  # the action, the coordinates, the end token

    def __post_init__(self) -> None:
        check_choice(self.split, SPLITS, self.per_kind)
        if not self.seconds >= STEP:
            raise ValueError(f"task.seconds {self.seconds} must be at least {STEP}, the time of one decision")

    def samples(self) -> tuple[Sample, ...]:
        """Kind by kind, `per_kind` each; sample i is the same whatever `per_kind`."""
        return tuple(_first(f"{self.split}-{kind}-{i}") for kind in KINDS for i in range(self.per_kind))

    def episode(self, sample: Sample) -> "DrivingEpisode":
        """The drive that begins so."""
        return DrivingEpisode(sample.id, self.seconds)

    def score(self, prediction: str, sample: Sample) -> float:
        """The driving score of an outcome; 0 for what is none."""
        return (Drive.read(prediction) or NOTHING).score

    def summary(self, rows: Sequence[Record]) -> Mapping[str, float]:
        """See `closed_loop.figures`; beside them the decoder's prefill GFLOPs per decision and per second of driving.

        An unreadable answer counts as a plan to stand still, a row without an outcome as a drive that did not begin.
        """
        per_decision = float(np.mean([row.decoder_flops for row in rows])) / 1e9
        cost = {"gflops_per_decision": per_decision, "gflops_per_second": per_decision / STEP}
        return figures([Drive.read(row.prediction) or NOTHING for row in rows]) | cost


@dataclass
class DrivingEpisode(Episode):
    """One drive; `name` is SPLIT-KIND-NUMBER."""

    name: str
    seconds: float = MOST_SECONDS
    unreadable: list[bool] = field(default_factory=list)

    @cached_property
    def trip(self) -> Trip:
        """The drive under way."""
        return Trip.begin(_start(self.name), self.seconds)

    def look(self) -> Sample | None:
        """What the three cameras see now, in the wording of the drive; None at its end."""
        return None if self.trip.is_over else _shown(self.name, self.trip.moment)

    def act(self, answer: str) -> None:
        """Follow the plan for half a second; stand still where it cannot be read."""
        plan = parse(answer)
        self.unreadable.append(plan is None)
        self.trip.follow(STAND if plan is None else plan[1])

    def state(self) -> Mapping[str, float]:
        """Time and speed."""
        return {"seconds": self.trip.seconds, "speed, m/s": self.trip.moment.speed}

    def outcome(self) -> str:
        """A `Drive` as text."""
        return replace(self.trip.outcome(), unreadable=float(np.mean(self.unreadable))).told()


def drive_by_expert(name: str) -> Drive:
    """What the expert makes of a drive, its plans worded and read as a model's are."""
    episode = DrivingEpisode(name)
    while not episode.trip.is_over:
        plan = pilot(episode.trip.moment)
        episode.act(answer(plan.action, plan.waypoints))
    return episode.trip.outcome()


@lru_cache(KEPT)
def _start(name: str) -> Start:
    split, kind, number = name.split("-")
    return make_start(np.random.default_rng((SPLITS[split], KINDS.index(kind), int(number))), kind)


@lru_cache(KEPT)
def _first(name: str) -> Sample:
    moment = _start(name).moment
    plan = pilot(moment)
    return replace(_shown(name, moment), answers=(answer(plan.action, plan.waypoints),))


def _shown(name: str, moment: Moment) -> Sample:
    _, kind, number = name.split("-")
    asked = question(moment.situation, np.random.default_rng((int(number), KINDS.index(kind))))
    return Sample(name, Drawings(partial(_pictures, moment), ((IMAGE_SIZE, IMAGE_SIZE),) * len(VIEWS)), asked, (), kind)


@lru_cache(256)  # asked for more than once while a batch is made
def _pictures(moment: Moment) -> tuple[Image.Image, ...]:
    drawn = draw(moment.scene, moment.left, moment.heading)
    return tuple(Image.fromarray(picture.image) for picture in drawn)
