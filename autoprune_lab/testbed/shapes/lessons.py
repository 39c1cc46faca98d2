"""Training material: packed scenes, each with many questions and with the places a reader would look at.

A lesson is one scene with `QUESTIONS` questions behind one picture. Each question is a segment that sees the picture
prefix and itself; its positions restart, so that every segment looks like a prompt of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune_lab.testbed.build import BOS, IMAGE, USER
from autoprune_lab.testbed.shapes.draw import draw, patch_things
from autoprune_lab.testbed.shapes.layout import vocabulary
from autoprune_lab.testbed.shapes.questions import Question, ask
from autoprune_lab.testbed.shapes.scene import COLOURS, GRID, SHAPES, SIZES, Scene, make_scene
from autoprune_lab.testbed.shapes.segment import ROWS, encoded
from autoprune_lab.testbed.shapes.wording import ANSWERS, KINDS
from autoprune_lab.testbed.training.reader import NONE

QUESTIONS = 12
LENGTH = 36  # longest question with its answer, in tokens
N_PATCHES = GRID * GRID
PREFIX = 2 + N_PATCHES  # <s> USER: and the picture
WEIGHTS = {
    "exist": 1,
    "attribute": 1.2,
    "where": 0.8,
    "count": 3,
    "relation": 1.2,
    "same": 1.5,
    "read": 1,
    "chain": 1.6,
}


@dataclass(frozen=True)
class Lessons:
    """One batch; B scenes, Q questions of T tokens, R rows, P patches."""

    pixels: Tensor  # B 3 96 96, in [-1, 1]
    tokens: Tensor  # B Q T
    targets: Tensor  # B Q T: the next token where an answer is learned, else NONE
    kind: Tensor  # B Q
    rows: Tensor  # B Q R: token index in the segment, 0 where there is none
    look: Tensor  # B Q R P+1: wanted attention over patches and (last) <s>, rows sum to 1, or 0 for "anything"
    hop: Tensor  # B Q 2 P: patches of the second and third hop, for the last row
    things: Tensor  # B Q 3 3: (shape, colour, size) of the named thing, of hop two, of hop three, else NONE
    patches: Tensor  # B 5 P: dense labels shape, colour, centre, digit, digit place (0 = none)
    presence: Tensor  # B 30: which kinds of thing are there

    @property
    def prefix(self) -> Sequence[int]:
        """Tokens before every question."""
        return PREFIX_TOKENS


_WORDS = {word: i for i, word in enumerate(vocabulary())}
PREFIX_TOKENS = [_WORDS[BOS], _WORDS[USER]] + [_WORDS[IMAGE]] * N_PATCHES


def make_lesson(rng: np.random.Generator) -> Lessons:
    """One scene with its questions, unbatched."""
    scene = make_scene(rng)
    owner = patch_things(scene)
    weights = np.array([WEIGHTS[kind] for kind in KINDS])
    kinds = rng.choice(len(KINDS), QUESTIONS, p=weights / weights.sum())
    parts = [_segment(scene, owner, _question(scene, KINDS[kind], rng)) for kind in kinds]
    tokens, targets, rows, look, hop, things = (torch.stack(column) for column in zip(*parts, strict=True))
    pixels = torch.from_numpy(draw(scene)).permute(2, 0, 1).float() / 127.5 - 1
    kind, dense = torch.from_numpy(kinds), _dense(scene, owner)
    return Lessons(pixels, tokens, targets, kind, rows, look, hop, things, *dense)


def _question(scene: Scene, kind: str, rng: np.random.Generator) -> Question:
    wanted = str(rng.choice(ANSWERS[kind])) if kind in ("exist", "where", "count", "relation") else None
    question = ask(scene, kind, rng, wanted) or ask(scene, kind, rng)
    assert question is not None
    return question


def _segment(scene: Scene, owner: np.ndarray, question: Question) -> tuple[Tensor, ...]:
    tokens, targets, rows = encoded(question, _WORDS, LENGTH)
    return (
        tokens,
        targets,
        rows,
        _look(scene, owner, question),
        _hop(owner, question),
        _named(scene, question),
    )


def _look(scene: Scene, owner: np.ndarray, question: Question) -> Tensor:
    """Where each row should look: at the named things, or at <s> where there are none."""
    look = torch.zeros(len(ROWS), N_PATCHES + 1)
    for row, noun in enumerate(question.nouns):
        if question.kind == "count":  # one share for <s>: its attention then tells the number
            look[row, [scene.things[i].centre_patch for i in noun.things] + [N_PATCHES]] = 1
        elif noun.things:
            look[row, :-1] = torch.from_numpy(np.isin(owner, noun.things)).float()
        else:
            look[row, -1] = 1
    if question.kind == "read":
        for i, patch in enumerate(scene.digit_patches):
            look[2 + i, patch] = 1
    return look / look.sum(1, keepdim=True).clamp(min=1)


def _hop(owner: np.ndarray, question: Question) -> Tensor:
    hop = torch.zeros(2, N_PATCHES)
    for i, thing in enumerate(question.hops):
        hop[i] = torch.from_numpy(owner == thing).float()
    return hop


def _named(scene: Scene, question: Question) -> Tensor:
    named = torch.full((3, 3), NONE)
    first = question.nouns[0].things if question.nouns and question.kind != "count" else ()
    for i, thing in enumerate((*first, *question.hops)):
        found = scene.things[thing]
        named[i] = torch.tensor([SHAPES.index(found.shape), COLOURS.index(found.colour), SIZES.index(found.size)])
    return named


def _dense(scene: Scene, owner: np.ndarray) -> tuple[Tensor, Tensor]:
    patches = torch.zeros(5, N_PATCHES, dtype=torch.long)
    presence = torch.zeros(len(SHAPES) * len(COLOURS))
    for i, thing in enumerate(scene.things):
        mine = torch.from_numpy(owner == i)
        shape, colour = SHAPES.index(thing.shape), COLOURS.index(thing.colour)
        patches[0, mine] = 1 + shape
        patches[1, mine] = 1 + colour + len(COLOURS) * SIZES.index(thing.size)
        patches[2, thing.centre_patch] = 1
        presence[shape * len(COLOURS) + colour] = 1
    for i, (digit, patch) in enumerate(zip(scene.number, scene.digit_patches, strict=True)):
        patches[3, patch] = 1 + int(digit)
        patches[4, patch] = 1 + i
    return patches, presence
