"""Training material: one scene's pictures with several situations packed behind them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune_lab.testbed.build import ASSISTANT, BOS, EOS, IMAGE, USER
from autoprune_lab.testbed.driving.expert import ACTIONS, Judgement, Plan, Situation, drive, judge, situations
from autoprune_lab.testbed.driving.labels import N_PATCHES, Labels, label, looks
from autoprune_lab.testbed.driving.layout import vocabulary
from autoprune_lab.testbed.driving.render import Picture, draw
from autoprune_lab.testbed.driving.scene import KINDS, Scene, make_scene
from autoprune_lab.testbed.driving.wording import LONG, SIDE, answer, question
from autoprune_lab.testbed.training.reader import NONE

SLIP, SLIP_AHEAD, SLIP_ASIDE = 0.5, 3, 1  # how often, and by how many steps at most
QUESTIONS = 5
LENGTH = 40  # longest question with its answer, in tokens
_WORDS = {word: i for i, word in enumerate(vocabulary())}
PREFIX_TOKENS = (_WORDS[BOS], _WORDS[USER], *[_WORDS[IMAGE]] * N_PATCHES)


@dataclass(frozen=True)
class Lessons:
    """One batch; B scenes, V views, Q situations of T tokens, P patches of all views."""

    pixels: Tensor  # B V 3 64 64, in [-1, 1]
    tokens: Tensor  # B Q T
    targets: Tensor  # B Q T: the next token where an answer is learned, else NONE
    kind: Tensor  # B Q
    rows: Tensor  # B Q 1: the last prompt token's index in the segment
    look: Tensor  # B Q 2 P+1: wanted attention of the two looks over patches and (last) <s>; sums to 1
    cause: Tensor  # B Q 2: distance of what decides / 10, curvature * 50
    wait: Tensor  # B Q: 0 go on, 1 stop or wait, 2 change to the left, 3 to the right
    action: Tensor  # B Q
    plan: Tensor  # B Q 12: waypoints, x / 10 and y / 4
    classes: Tensor  # B P
    ground: Tensor  # B P 5
    place: Tensor  # B P 2
    side: Tensor  # B P, NaN where unknown

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens before every question."""
        return PREFIX_TOKENS


def make_lesson(rng: np.random.Generator) -> Lessons:
    """One scene with QUESTIONS situations, unbatched."""
    scene = make_scene(rng, KINDS[int(rng.integers(len(KINDS)))])
    pictures = draw(scene)
    options = situations(scene)
    chosen = [options[int(i)] for i in rng.integers(len(options), size=QUESTIONS)]
    asked = [Asked(s, drive(scene, s), judge(scene, s.command)) for s in chosen]
    return lesson_of(scene, pictures, label(scene, pictures), asked, rng)


@dataclass(frozen=True, eq=False)
class Asked:
    """A situation, the expert's plan, and the rule that it follows."""

    situation: Situation
    plan: Plan
    rule: Judgement


def lesson_of(
    scene: Scene, pictures: tuple[Picture, ...], labels: Labels, asked: Sequence[Asked], rng: np.random.Generator
) -> Lessons:
    """One picture of each view with so many situations behind them, unbatched."""
    columns = [torch.stack(column) for column in zip(*(_segment(scene, a, labels, rng) for a in asked), strict=True)]
    pixels = torch.from_numpy(np.stack([picture.image for picture in pictures])).permute(0, 3, 1, 2) / 127.5 - 1
    dense = (labels.classes, labels.ground.astype(np.float32), labels.place.astype(np.float32),
             labels.side.astype(np.float32))  # fmt: skip
    tokens, targets, *rest = columns
    kinds = torch.full((len(asked),), KINDS.index(scene.kind))
    return Lessons(pixels.float(), tokens, targets, kinds, *rest, *map(torch.from_numpy, dense))


def _segment(scene: Scene, one: Asked, labels: Labels, rng: np.random.Generator) -> tuple[Tensor, ...]:
    situation, plan, rule = one.situation, one.plan, one.rule
    asked, said = question(situation, rng).split(), answer(plan.action, plan.waypoints).split()
    ids = [_WORDS[word] for word in (*asked, ASSISTANT, *said, EOS)]
    tokens, targets, last = torch.zeros(LENGTH, dtype=torch.long), torch.full((LENGTH,), NONE), len(asked)
    tokens[: len(ids)] = torch.tensor(ids)
    targets[last : len(ids) - 1] = tokens[last + 1 : len(ids)]
    coordinates = slice(last + 2, len(ids) - 1)
    tokens[coordinates] = _slipped(rng, tokens[coordinates])
    seen = torch.from_numpy(looks(scene, situation.command, labels, rule)).float()
    look = torch.cat([seen, (seen.sum(1, keepdim=True) == 0).float()], 1)
    wait = 2 + (rule.change < 0) if rule.change else int(rule.stop is not None)
    numbers = plan.waypoints / (10, 4)
    return (tokens, targets, torch.tensor([last]), look / look.sum(1, keepdim=True), _cause(scene), torch.tensor(wait),
            torch.tensor(ACTIONS.index(plan.action)), torch.from_numpy(numbers.ravel()).float())  # fmt: skip


def _slipped(rng: np.random.Generator, coordinates: Tensor) -> Tensor:
    """The waypoints that the model reads, every second coordinate a few steps of GRAIN beside the one it is to say.

    A model that is always shown the right waypoints continues them instead of looking at the road; left to itself it
    then continues its own small errors.
    """
    n = len(coordinates) // 2
    low, high = (torch.tensor([_WORDS[axis[end]] for axis in (LONG, SIDE)]).repeat(n) for end in (0, -1))
    furthest = np.resize((SLIP_AHEAD, SLIP_ASIDE), 2 * n)
    slips = np.where(rng.random(2 * n) < SLIP, rng.integers(-furthest, furthest + 1), 0)
    return (coordinates + torch.from_numpy(slips)).clamp(low, high)


def _cause(scene: Scene) -> Tensor:
    ahead = scene.agents[0].ahead if scene.kind in ("lead", "blocked") else None
    distance = ahead or scene.junction or scene.zebra or 25.0  # behind the car in a closed loop: below 0
    return torch.tensor([max(distance, -5.0) / 10, scene.curvature * 50], dtype=torch.float)
