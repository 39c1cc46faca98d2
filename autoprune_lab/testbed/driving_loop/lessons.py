"""Training material of the closed loop: what a car meets on its way, also when it has strayed, and the way back."""

from dataclasses import replace

import numpy as np

from autoprune_lab.testbed.driving import lessons
from autoprune_lab.testbed.driving.expert import Situation
from autoprune_lab.testbed.driving.labels import label
from autoprune_lab.testbed.driving.lessons import QUESTIONS, Asked, Lessons, lesson_of
from autoprune_lab.testbed.driving.render import draw
from autoprune_lab.testbed.driving.scene import COMMANDS, EGO, KINDS, TOP_SPEED
from autoprune_lab.testbed.driving_loop.pilot import Moment, pilot, rule_of
from autoprune_lab.testbed.driving_loop.trip import Trip, make_start

OPEN = 0.25  # share of lessons that are the open loop's
SHARES = (0.1, 0.1, 0.2, 0.1, 0.2, 0.3)  # of KINDS among the drives: more of those that go wrong most
PER_DRIVE, STORE = 6, 48  # moments taken of each drive; how many wait, so that neighbours come apart
SLOW, SLOW_WEIGHT = 0.5, 0.25  # m/s; moments of waiting are many and alike
STRAY, STRAY_ONCE, PACE_OFF = 0.03, 0.06, 0.2  # of a drive and of a plan, in radians; of a plan, share of its length
BEND_OFF = 0.4  # of a drive, log of the factor by which its turns are taken too wide or too narrow
FASTER = 3  # m/s by which the other situations behind the same pictures differ, at most

_waiting: list[Moment] = []


def make_lesson(rng: np.random.Generator) -> Lessons:
    """A scene of the open loop, or a moment of a drive, with QUESTIONS situations."""
    if rng.random() < OPEN:
        return lessons.make_lesson(rng)
    return closed_lesson(rng)


def closed_lesson(rng: np.random.Generator) -> Lessons:
    """A moment of a drive, with QUESTIONS situations."""
    while len(_waiting) < STORE:
        _waiting.extend(moments(rng))
    moment = _waiting.pop(int(rng.integers(len(_waiting))))
    pictures = draw(moment.scene, moment.left, moment.heading)
    labels = label(moment.scene, pictures, moment.left, moment.heading)
    asked = [_asked(moment)] + [_asked(_varied(moment, rng)) for _ in range(QUESTIONS - 1)]
    return lesson_of(moment.scene, pictures, labels, asked, rng)


def moments(rng: np.random.Generator) -> list[Moment]:
    """Some moments of a drive by an expert whose plans are followed badly.

    Source: arXiv 1703.09327 (noise in the expert's actions, so that its way back is seen).
    """
    trip = Trip.begin(make_start(rng, KINDS[int(rng.choice(len(KINDS), p=SHARES))]))
    bias, bend, met = rng.normal(0, STRAY), np.exp(rng.normal(0, BEND_OFF)), list[Moment]()
    while not trip.is_over:
        met.append(trip.moment)
        plan = pilot(trip.moment).waypoints
        off = np.tan(bias + rng.normal(0, STRAY_ONCE))
        strayed = np.column_stack([plan[:, 0], bend * plan[:, 1] + off * plan[:, 0]])
        trip.follow(strayed * (1 + rng.normal(0, PACE_OFF)))
    weights = np.array([SLOW_WEIGHT if moment.speed < SLOW else 1.0 for moment in met])
    chosen = rng.choice(len(met), min(PER_DRIVE, len(met)), replace=False, p=weights / weights.sum())
    return [met[int(i)] for i in chosen]


def _asked(moment: Moment) -> Asked:
    told = replace(moment, speed=float(moment.situation.speed))  # the speed that the driver is told
    return Asked(told.situation, pilot(told), rule_of(told))


def _varied(moment: Moment, rng: np.random.Generator) -> Moment:
    """At another speed, from which the rules can still be obeyed; before a junction perhaps with another command."""
    scene = moment.scene
    command = moment.command
    if scene.junction is not None and scene.junction > 3 and abs(moment.heading) < 0.2:
        commands = COMMANDS[1:] if scene.kind == "turn" else COMMANDS
        command = commands[int(rng.integers(len(commands)))]
    other = replace(moment, command=command)
    rule, now = rule_of(other), moment.situation.speed
    top = 6.0 if command != "straight" else float(TOP_SPEED)
    if rule.stop is not None:
        top = min(top, np.sqrt(7 * max(rule.stop, 0.0)) + 1)
    if rule.leader is not None:
        top = min(top, rule.leader.v_ahead + np.sqrt(7 * max(rule.leader.ahead - EGO[0] - 1, 0.0)) + 1)
    speed = int(np.clip(now + rng.integers(-FASTER, FASTER + 1), 0, max(int(top), now)))
    return replace(other, speed=float(Situation(command, speed).speed))
