"""The embedded driving task: three views, a command and a speed; the answer is a meta-action and six waypoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import numpy as np
from PIL import Image

from autoprune_lab.metrics.trajectory import PlanError, figures, nearness, plan_error
from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Sample, Task, check_choice
from autoprune_lab.tasks.drawn import KEPT, TOGETHER, Seeded
from autoprune_lab.tasks.pictures import Drawings
from autoprune_lab.testbed.driving.expert import STEP, Situation, drive, situations
from autoprune_lab.testbed.driving.render import IMAGE_SIZE, VIEWS, draw
from autoprune_lab.testbed.driving.scene import EGO, KINDS, Scene, make_scene
from autoprune_lab.testbed.driving.wording import N_WAYPOINTS, answer, parse, question

# First entry of every seed; training draws from single-number seeds (testbed/training).
SPLITS = {"tune": 5, "report": 6}
STANDING = ("stop", np.zeros((N_WAYPOINTS, 2)))  # what an unreadable answer makes of the car


@dataclass(frozen=True)
class DrivingTask(Task):
    """`per_kind` samples of each of six kinds of scene; splits disjoint, all from seeds."""

    split: str = "tune"
    per_kind: int = 50

    name = "driving"
    max_new_tokens = 2 + 2 * N_WAYPOINTS  # the action, the coordinates, the end token

    def __post_init__(self) -> None:
        check_choice(self.split, SPLITS, self.per_kind)

    def samples(self) -> Seeded:
        """Kind by kind, `per_kind` each; sample i is the same whatever `per_kind`."""
        return Seeded(partial(_sample, self.split), KINDS, self.per_kind)

    def score(self, prediction: str, sample: Sample) -> float:
        """The plan's `nearness` to the expert's; 0 for what is no plan.

        Smoother than the meta-action's accuracy, so that fewer samples rank two settings; bounded, unlike a distance.
        """
        plan, truth = parse(prediction), parse(sample.answers[0])
        assert truth is not None
        return nearness(plan[1] if plan else None, truth[1])

    def chance(self) -> Mapping[str, float]:
        """Of the one plan a command and a speed that does best over all scenes, without the pictures."""
        from autoprune_lab.testbed.driving.blind import blind_answer  # here: it simulates some thousand scenes

        found = {}
        for kind in KINDS:
            samples = [_sample(self.split, kind, i) for i in range(self.per_kind)]
            answers = [blind_answer(situation_of(sample.id)) for sample in samples]
            found[kind] = float(np.mean([self.score(*pair) for pair in zip(answers, samples, strict=True)]))
        return found

    def summary(self, rows: Sequence[Record]) -> Mapping[str, float]:
        """Figures of open-loop planning (see `trajectory.figures`), meta-action accuracy, share of unreadable answers.

        An unreadable answer counts as a car that stands still.
        """
        plans = [parse(row.prediction) for row in rows]
        truths = [parse(row.answers[0]) for row in rows]
        errors = [error_of(row.id, plan or STANDING) for row, plan in zip(rows, plans, strict=True)]
        right = [plan is not None and truth is not None and plan[0] == truth[0]
                 for plan, truth in zip(plans, truths, strict=True)]  # fmt: skip
        return figures(errors, STEP) | {
            "action_accuracy": float(np.mean(right)),
            "unreadable": float(np.mean([plan is None for plan in plans])),
        }


def error_of(sample_id: str, plan: tuple[str, np.ndarray]) -> PlanError:
    """A plan against the expert's, and against the agents of the sample's scene."""
    scene, situation = moment(sample_id)
    truth = parse(answer("keep", drive(scene, situation).waypoints))
    assert truth is not None
    agents = [scene.boxes(STEP * (t + 1)) for t in range(N_WAYPOINTS)]
    return plan_error(plan[1], truth[1], agents, EGO)


def situation_of(sample_id: str) -> Situation:
    """Command and speed of a sample."""
    return moment(sample_id)[1]


@lru_cache(TOGETHER)
def moment(sample_id: str) -> tuple[Scene, Situation]:
    """Scene and situation behind a sample's id, SPLIT-KIND-NUMBER."""
    split, kind, number = sample_id.split("-")
    rng = np.random.default_rng((SPLITS[split], KINDS.index(kind), int(number)))
    scene = make_scene(rng, kind)
    options = situations(scene)
    return scene, options[int(rng.integers(len(options)))]


@cache
def _sample(split: str, kind: str, i: int) -> Sample:
    name = f"{split}-{kind}-{i}"
    scene, situation = moment(name)
    plan = drive(scene, situation)
    asked = question(situation, np.random.default_rng((i, KINDS.index(kind))))
    pictures = Drawings(partial(_pictures, name), ((IMAGE_SIZE, IMAGE_SIZE),) * len(VIEWS))
    return Sample(name, pictures, asked, (answer(plan.action, plan.waypoints),), kind)


@lru_cache(KEPT)
def _pictures(name: str) -> tuple[Image.Image, ...]:
    scene, _ = moment(name)
    return tuple(Image.fromarray(picture.image) for picture in draw(scene))
