"""Training material: packed scenes, each with many questions and with the places a reader would look at.

A lesson is one scene with `QUESTIONS` questions behind one picture. Each question is a segment that sees the picture
prefix and itself; its positions restart, so that every segment looks like a prompt of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune_lab.testbed.build import BOS, IMAGE, USER
from autoprune_lab.testbed.dense.draw import draw, patch_things
from autoprune_lab.testbed.dense.layout import vocabulary
from autoprune_lab.testbed.dense.questions import ask
from autoprune_lab.testbed.dense.scene import COLOURS, GRID, HOPS, SHAPES, SIZES, Scene, make_scene
from autoprune_lab.testbed.dense.wording import ANSWERS, KINDS, LONGEST, TRAILS
from autoprune_lab.testbed.shapes.questions import Question
from autoprune_lab.testbed.shapes.segment import ROWS, encoded
from autoprune_lab.testbed.training.reader import NONE

QUESTIONS = 12
LENGTH = LONGEST + 5  # longest question with ASSISTANT:, three digits and the end, in tokens
N_PATCHES = GRID * GRID
START = N_PATCHES  # column of <s> behind the patches: where a row looks that has nothing to look at
PREFIX = 2 + N_PATCHES  # <s> USER: and the picture
COUNT_SHARE = 4  # of <s> against 1 of each counted thing: what it gets then tells 8 from 9
WEIGHTS = {"exist": 1.0, "where": 0.7, "relation": 1.3, "few": 1.5, "many": 3.0, "read": 1.0, "trail": 5.0}
COUNTING = WEIGHTS | {"few": 4.0, "many": 10.0}  # to polish: it is learned last, and needs the most precise weights
HOP_WEIGHTS = (0.1, 0.2, 0.3, 0.4)  # of scenes by the hops of their trail: long ones are learned last
LONGEST_FIRST = 2 / 3  # how often a scene is asked for the longest of its trails


@dataclass(frozen=True)
class Lessons:
    """One batch; B scenes, Q questions of T tokens, R rows, H = hops of the longest trail, P patches."""

    pixels: Tensor  # B 3 120 120, in [-1, 1]
    tokens: Tensor  # B Q T
    targets: Tensor  # B Q T: the next token where an answer is learned, else NONE
    kind: Tensor  # B Q
    rows: Tensor  # B Q R: token index in the segment, 0 where there is none
    look: Tensor  # B Q R P+1: wanted attention over patches and (last) <s>, rows sum to 1, or 0 for "anything"
    hop: Tensor  # B Q H P+1: a trail's last row at each hop: on the next station, or on <s> when it has ended
    glance: Tensor  # B Q P: what may matter to the question: framed things, counted or named ones, the number
    stations: Tensor  # B Q H+1 3: (shape, colour, centre patch) of the named thing and after each hop, else NONE
    patches: Tensor  # B 6 P: dense labels shape, colour, centre, frame, digit, digit place (0 = none)
    presence: Tensor  # B 56: which kinds of thing are there

    @property
    def prefix(self) -> Sequence[int]:
        """Tokens before every question."""
        return PREFIX_TOKENS


_WORDS = {word: i for i, word in enumerate(vocabulary())}
PREFIX_TOKENS = [_WORDS[BOS], _WORDS[USER]] + [_WORDS[IMAGE]] * N_PATCHES


def make_lesson(rng: np.random.Generator, weights: Mapping[str, float] = WEIGHTS) -> Lessons:
    """One scene with its questions, unbatched; `weights` say how often a group of them is asked."""
    scene = make_scene(rng, int(rng.choice(HOPS + 1, p=HOP_WEIGHTS)))
    owner = patch_things(scene)
    shares = np.array(list(weights.values()))
    groups = rng.choice(list(weights), QUESTIONS, p=shares / shares.sum())
    questions = [_question(scene, str(group), rng) for group in groups]
    parts = [_segment(scene, owner, question) for question in questions]
    tokens, targets, rows, look, hop, glance, stations = (torch.stack(column) for column in zip(*parts, strict=True))
    pixels = torch.from_numpy(draw(scene)).permute(2, 0, 1).float() / 127.5 - 1
    kind = torch.tensor([KINDS.index(question.kind) for question in questions])
    return Lessons(pixels, tokens, targets, kind, rows, look, hop, glance, stations, *_dense(scene, owner))


def _question(scene: Scene, group: str, rng: np.random.Generator) -> Question:
    """Answers are as likely as the scene allows.

    A scene may have nothing to ask of a group, one in thousands no lone thing in a corner: it asks whether one exists.
    """
    for kind in (*(_trails(rng) if group == "trail" else [group]), "exist"):
        wanted = str(rng.choice(ANSWERS[kind])) if ANSWERS[kind] else None
        question = ask(scene, kind, rng, wanted) or ask(scene, kind, rng)
        if question is not None:
            return question
    raise AssertionError("a scene without things")


def _trails(rng: np.random.Generator) -> Sequence[str]:
    """The kinds of trail in the order in which a scene is asked for them."""
    return TRAILS[::-1] if rng.random() < LONGEST_FIRST else [str(kind) for kind in rng.permutation(TRAILS)]


def _segment(scene: Scene, owner: np.ndarray, question: Question) -> tuple[Tensor, ...]:
    tokens, targets, rows = encoded(question, _WORDS, LENGTH)
    look, hop = _look(scene, owner, question), _hop(owner, question)
    glance = _glance(scene, owner, question)
    return tokens, targets, rows, look, hop, glance, _stations(scene, question)


def _look(scene: Scene, owner: np.ndarray, question: Question) -> Tensor:
    """Where each row should look: at the named things, or at <s> where there are none."""
    look = torch.zeros(len(ROWS), N_PATCHES + 1)
    for row, noun in enumerate(question.nouns):
        if question.kind in ("few", "many"):
            for i in noun.things:
                look[row, scene.things[i].centre_patch] = 1
            look[row, START] = COUNT_SHARE
        elif noun.things:
            look[row, :START] = _shown(owner, noun.things)
        else:
            look[row, START] = 1
    if question.kind == "read":
        for i, patch in enumerate(scene.digit_patches):
            look[2 + i, patch] = 1
    return look / look.sum(1, keepdim=True).clamp(min=1)


def _hop(owner: np.ndarray, question: Question) -> Tensor:
    hop = torch.zeros(HOPS, N_PATCHES + 1)
    if question.kind in TRAILS:
        for i, thing in enumerate(question.hops):
            hop[i, :START] = _shown(owner, [thing])
        hop[len(question.hops) :, START] = 1
    return hop


def _glance(scene: Scene, owner: np.ndarray, question: Question) -> Tensor:
    if question.kind in TRAILS:
        return _shown(owner, [i for i, thing in enumerate(scene.things) if thing.framed])
    if question.kind == "read":
        glance = torch.zeros(N_PATCHES)
        glance[list(scene.digit_patches)] = 1
        return glance
    return _shown(owner, [i for noun in question.nouns for i in noun.things])


def _stations(scene: Scene, question: Question) -> Tensor:
    stations = torch.full((HOPS + 1, 3), NONE)
    if question.kind in ("few", "many", "read") or not question.nouns[0].things:
        return stations
    trail = [question.nouns[0].things[0], *question.hops]
    for i in range(HOPS + 1 if question.kind in TRAILS else 1):
        thing = scene.things[trail[min(i, len(trail) - 1)]]
        stations[i] = torch.tensor([SHAPES.index(thing.shape), COLOURS.index(thing.colour), thing.centre_patch])
    return stations


def _shown(owner: np.ndarray, things: Iterable[int]) -> Tensor:
    """1 at the patches that show one of the things, else 0."""
    chosen = np.zeros(int(owner.max()) + 2, dtype=np.float32)  # the last one is for -1, no thing
    chosen[list(things)] = 1
    return torch.from_numpy(chosen[owner])


def _dense(scene: Scene, owner: np.ndarray) -> tuple[Tensor, Tensor]:
    patches = torch.zeros(6, N_PATCHES, dtype=torch.long)
    presence = torch.zeros(len(SHAPES) * len(COLOURS))
    for i, thing in enumerate(scene.things):
        mine = torch.from_numpy(owner == i)
        shape, colour = SHAPES.index(thing.shape), COLOURS.index(thing.colour)
        patches[0, mine] = 1 + shape
        patches[1, mine] = 1 + colour + len(COLOURS) * SIZES.index(thing.size)
        patches[2, thing.centre_patch] = 1
        patches[3, mine] = 1 + thing.framed
        presence[shape * len(COLOURS) + colour] = 1
    for i, (digit, patch) in enumerate(zip(scene.number, scene.digit_patches, strict=True)):
        patches[4, patch] = 1 + int(digit)
        patches[5, patch] = 1 + i
    return patches, presence
