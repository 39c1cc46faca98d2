"""Training material of the highway: moments of rides by a straying expert, and cars put anywhere on the road."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autoprune_lab.testbed.build import ASSISTANT, BOS, EOS, IMAGE, USER
from autoprune_lab.testbed.highway.expert import ACTIONS, decide, worth
from autoprune_lab.testbed.highway.labels import N_PATCHES, gaps, label, looks
from autoprune_lab.testbed.highway.layout import vocabulary
from autoprune_lab.testbed.highway.scene import AHEAD, BEHIND, LANE, LANES, LENGTH, SPEEDS, VIEWS, Car, Moment
from autoprune_lab.testbed.highway.simulator import DENSITIES, Highway, draw
from autoprune_lab.testbed.highway.wording import question, told
from autoprune_lab.testbed.training.reader import NONE

QUESTIONS = 6  # speeds behind one picture
LENGTH_TOKENS = 16  # longest question with its answer
RIDDEN = 0.4  # share of lessons that are of rides
SECONDS, STRAY = 20, 0.15  # decisions of a ride; share of them that are any action
STORE = 48  # moments that wait, so that neighbours come apart
IDLE_KEPT = 0.35  # of moments in which nothing is to be done, which are many and alike
BESIDE = 0.2  # share of cars that are between two lanes
_WORDS = {word: i for i, word in enumerate(vocabulary())}
PREFIX_TOKENS = (_WORDS[BOS], _WORDS[USER], *[_WORDS[IMAGE]] * N_PATCHES)

_waiting: list[Moment] = []


@dataclass(frozen=True)
class Lessons:
    """One batch; B moments, V views, Q speeds of T tokens, P patches of all views."""

    pixels: Tensor  # B V 3 64 64, in [-1, 1]
    tokens: Tensor  # B Q T
    targets: Tensor  # B Q T: the next token where an answer is learned, else NONE
    rows: Tensor  # B Q 1: the last prompt token's index in the segment
    action: Tensor  # B Q
    worth: Tensor  # B Q 5: of every action, metres / 100, at least -2
    look: Tensor  # B 2 P+1: wanted attention of the two looks over patches and (last) <s>; sums to 1
    gaps: Tensor  # B 6, see `labels.gaps`
    classes: Tensor  # B P
    ground: Tensor  # B P 2
    place: Tensor  # B P 2

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens before every question."""
        return PREFIX_TOKENS


def make_lesson(rng: np.random.Generator) -> Lessons:
    """A moment of a ride, or of a road that cars were put on, with QUESTIONS speeds; unbatched."""
    return ridden_lesson(rng) if rng.random() < RIDDEN else lesson_of(scattered(rng), rng)


def ridden_lesson(rng: np.random.Generator) -> Lessons:
    """A moment of a ride, with QUESTIONS speeds; its left and right may be exchanged."""
    while len(_waiting) < STORE:
        _waiting.extend(moments(rng))
    moment = _waiting.pop(int(rng.integers(len(_waiting))))
    return lesson_of(mirrored(moment) if rng.random() < 0.5 else moment, rng)


def moments(rng: np.random.Generator) -> list[Moment]:
    """Those of a ride by an expert who is not always obeyed, so that its way back is seen.

    Source: arXiv 1703.09327 (noise in the expert's actions).
    """
    ride = Highway(int(rng.integers(2**31)), float(rng.choice(list(DENSITIES.values()))))
    met = []
    for _ in range(SECONDS):
        moment = ride.moment
        action = decide(moment)
        if action != "IDLE" or rng.random() < IDLE_KEPT:
            met.append(moment)
        ride.act(action if rng.random() > STRAY else ACTIONS[int(rng.integers(len(ACTIONS)))])
        if ride.crashed:
            break
    return met


def scattered(rng: np.random.Generator) -> Moment:
    """Cars anywhere on the road, but not on the ego car."""
    lane, left = int(rng.integers(LANES)), _aside(rng)
    cars, apart = [], rng.uniform(12, 50)
    for other in range(LANES):
        at = -BEHIND - rng.uniform(0, apart)
        while (at := at + LENGTH + 2 + rng.exponential(apart)) < AHEAD:
            beside = (lane - other) * LANE - left + _aside(rng)
            if abs(at) > LENGTH + 1 or abs(beside) > 2.5:
                cars.append(Car(float(at), float(beside), float(rng.normal(0, 0.02))))
    speed = float(rng.uniform(SPEEDS[0], SPEEDS[-1]))
    return Moment(lane, left, float(rng.normal(0, 0.02)), speed, tuple(cars), float(rng.uniform(0, 500)))


def mirrored(moment: Moment) -> Moment:
    """Left and right exchanged."""
    cars = tuple(Car(car.ahead, -car.left, -car.heading) for car in moment.cars)
    return replace(
        moment, lane=LANES - 1 - moment.lane, left=-moment.left, heading=-moment.heading, cars=cars
    )  # fmt: skip


def lesson_of(moment: Moment, rng: np.random.Generator) -> Lessons:
    """One picture of each view with QUESTIONS speeds behind them, the first the moment's own; unbatched."""
    speeds = [moment.speed, *rng.uniform(SPEEDS[0] - 1, SPEEDS[-1] + 1, QUESTIONS - 1)]
    segments = [_segment(moment, float(speed), rng) for speed in speeds]
    tokens, targets, rows, action, worths = (torch.stack(column) for column in zip(*segments, strict=True))
    labels = label(moment)
    views = np.stack(np.split(draw(moment), len(VIEWS), axis=1))
    pixels = torch.from_numpy(views).permute(0, 3, 1, 2) / 127.5 - 1
    seen = torch.from_numpy(looks(moment, labels)).float()
    look = torch.cat([seen, (seen.sum(1, keepdim=True) == 0).float()], 1)
    return Lessons(
        pixels=pixels.float(),
        tokens=tokens,
        targets=targets,
        rows=rows,
        action=action,
        worth=worths,
        look=look / look.sum(1, keepdim=True),
        gaps=torch.from_numpy(gaps(moment)).float(),
        classes=torch.from_numpy(labels.classes),
        ground=torch.from_numpy(labels.ground).float(),
        place=torch.from_numpy(labels.place).float(),
    )


def _segment(moment: Moment, speed: float, rng: np.random.Generator) -> tuple[Tensor, ...]:
    known = replace(moment, speed=float(told(speed)))  # the speed that the driver is told
    action, worths = decide(known), worth(known)
    asked = question(speed, rng).split()
    ids = [_WORDS[word] for word in (*asked, ASSISTANT, action, EOS)]
    tokens, targets, last = torch.zeros(LENGTH_TOKENS, dtype=torch.long), torch.full((LENGTH_TOKENS,), NONE), len(asked)
    tokens[: len(ids)] = torch.tensor(ids)
    targets[last : len(ids) - 1] = tokens[last + 1 : len(ids)]
    metres = torch.tensor([worths[name] for name in ACTIONS]) / 100
    return tokens, targets, torch.tensor([last]), torch.tensor(ACTIONS.index(action)), metres.clamp(min=-2)


def _aside(rng: np.random.Generator) -> float:
    """Metres beside a lane's middle."""
    return float(rng.uniform(-LANE / 2, LANE / 2) if rng.random() < BESIDE else rng.normal(0, 0.1))
