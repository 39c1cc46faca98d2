"""What training asks for beside the right answer. All of it is thrown away afterwards.

The decoder learns to look in steps: layers 2 and 3 find the named thing, 4 and 5 the second one (and what is to be
counted), 6 carries it to the last row, 7 and 8 make the second hop (or read a digit), 10 and 11 the third.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune_lab.testbed.shapes.layout import vocabulary
from autoprune_lab.testbed.shapes.lessons import PREFIX, Lessons
from autoprune_lab.testbed.shapes.scene import COLOURS, GRID, SHAPES, SIZES
from autoprune_lab.testbed.shapes.wording import KINDS
from autoprune_lab.testbed.training.looking import LOOKING_HEADS, places
from autoprune_lab.testbed.training.reader import NONE, Reading
from autoprune_lab.testbed.training.token_code import PLACE_CODE, TINY, place_code, unit

FIRST, SECOND, ROUTE, HOP2, HOP3, GLANCE = (2, 3), (4, 5), (6,), (7, 8), (10, 11), (1, 2, 3, 4, 5)
WATCHED = frozenset({0, *FIRST, *SECOND, *ROUTE, *HOP2, *HOP3, *GLANCE})
NOUN, OTHER, LAST = 0, 1, 2  # rows of a segment
OFFSET = (3, 9)  # the two dimensions of that code that fall steadily with row and column
SIDE_WORDS = ("left", "right", "above", "below")
DENSE = (1 + len(SHAPES), 1 + len(COLOURS) * len(SIZES), 2, 11, 4)


class Probes(nn.Module):
    """Linear read-outs that exist in training only."""

    def __init__(self, hidden: int, vision_hidden: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(hidden, n) for n in DENSE)
        self.presence = nn.Linear(vision_hidden, len(SHAPES) * len(COLOURS))
        attributes = (len(SHAPES), len(COLOURS), len(SIZES))
        self.things = nn.ModuleList(nn.ModuleList(nn.Linear(hidden, n) for n in attributes) for _ in range(3))
        self.count = nn.Linear(hidden, 5)
        self.place = nn.Linear(hidden, PLACE_CODE)
        self.offset = nn.Linear(hidden, len(OFFSET))
        self.side = nn.Linear(hidden, len(SIDE_WORDS))
        self.early = nn.Linear(hidden, len(vocabulary()))
        self.digit = nn.Linear(hidden, len(vocabulary()))


def answer_loss(reading: Reading) -> Tensor:
    """Cross-entropy of the answer tokens, the end token included."""
    return F.cross_entropy(reading.logits, reading.targets)


def looking_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """The looking heads' rows fall where the question points."""
    counting = (lessons.kind == KINDS.index("count"))[..., None]
    reading_kind = (lessons.kind == KINDS.index("read"))[..., None]
    rows = torch.arange(lessons.look.shape[2], device=counting.device)
    first = (rows == NOUN) & ~counting
    second = (rows == OTHER) | ((rows == NOUN) & counting)
    loss = torch.zeros((), device=counting.device)
    for layer in FIRST:
        loss = loss + _miss(reading, layer, lessons.look, first & ~reading_kind, counting)
    for layer in SECOND:
        loss = loss + _miss(reading, layer, lessons.look, second & ~reading_kind, counting)
    for layer in HOP2:
        look = lessons.look.clone()
        look[:, :, LAST, :-1] += lessons.hop[:, :, 0]
        loss = loss + _miss(reading, layer, look, (rows >= LAST).expand(*counting.shape[:2], -1), counting)
    for layer in HOP3:
        look = torch.zeros_like(lessons.look)
        look[:, :, LAST, :-1] = lessons.hop[:, :, 1]
        loss = loss + _miss(reading, layer, look, (rows == LAST).expand(*counting.shape[:2], -1), counting)
    return loss / 2


def _miss(reading: Reading, layer: int, look: Tensor, rows: Tensor, counting: Tensor) -> Tensor:
    """Minus log of the mass on the wanted places; for counting, cross-entropy against equal shares."""
    seen = reading.attention[layer][:, LOOKING_HEADS]
    at = places(seen, PREFIX)
    mass = (at * (look > 0)[:, None]).sum(-1).clamp(min=TINY).log()
    share = (at.clamp(min=TINY).log() * look[:, None]).sum(-1)
    value = torch.where(counting[:, None], share + _entropy(look)[:, None], mass)
    active = (rows & (look.sum(-1) > 0))[:, None].expand_as(value)
    return -value[active].mean()


def _entropy(look: Tensor) -> Tensor:
    return -torch.xlogy(look, look).sum(-1)


def routing_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """The last row fetches what the named thing's row found: head 2 the first noun, head 3 the second."""
    loss = torch.zeros((), device=reading.rows.device)
    named = lessons.kind != KINDS.index("read")
    two = lessons.kind == KINDS.index("relation")
    for layer in ROUTE:
        seen = reading.attention[layer][:, :, :, LAST]
        for head, row, asked in ((2, NOUN, named), (3, OTHER, two)):
            mass = seen[:, head].gather(-1, reading.rows[:, :, row, None])[..., 0]
            loss = loss - mass[asked].clamp(min=TINY).log().mean()
    return loss


def glance_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """In the early layers one head of the last row looks over everything that is painted on the background."""
    painted = ((lessons.patches[:, 0] > 0) | (lessons.patches[:, 3] > 0))[:, None]
    loss = torch.zeros((), device=painted.device)
    for layer in GLANCE:
        mass = (reading.attention[layer][:, 3, :, LAST, 2:PREFIX] * painted).sum(-1)
        loss = loss - mass.clamp(min=TINY).log().mean()
    return loss / len(GLANCE)


def exit_loss(probes: Probes, reading: Reading, lessons: Lessons) -> Tensor:
    """What a row has looked at can be read from it right after it looked."""
    loss = torch.zeros((), device=lessons.kind.device)
    for i, (layer, row) in enumerate(((FIRST[-1], NOUN), (HOP2[-1], LAST), (HOP3[-1], LAST))):
        found = unit(reading.hidden[layer][:, :, row])
        heads: Any = probes.things[i]
        for j, head in enumerate(heads):
            loss = loss + F.cross_entropy(
                head(found).flatten(0, 1), lessons.things[:, :, i, j].flatten(), ignore_index=NONE
            )
    answer = lessons.targets.gather(-1, lessons.rows[:, :, 2:])  # what follows the last row and the digit rows
    at_once = (lessons.kind != KINDS.index("same")) & (lessons.kind != KINDS.index("chain"))
    is_read = lessons.kind == KINDS.index("read")
    early = unit(reading.hidden[ROUTE[-1]][:, :, LAST])[at_once & ~is_read]
    loss = loss + F.cross_entropy(probes.early(early), answer[..., 0][at_once & ~is_read])
    digits = unit(reading.hidden[HOP2[-1]][:, :, LAST:])[is_read]
    loss = loss + F.cross_entropy(probes.digit(digits).flatten(0, 1), answer[is_read].flatten(), ignore_index=NONE)
    counting = lessons.kind == KINDS.index("count")
    counted = probes.count(unit(reading.hidden[SECOND[-1]][:, :, NOUN])[counting])
    zero = vocabulary().index("0")
    return loss + F.cross_entropy(counted, answer[..., 0][counting] - zero)


def place_loss(probes: Probes, reading: Reading, lessons: Lessons) -> Tensor:
    """Where the named things are can be read from their nouns' rows."""
    single = (lessons.kind != KINDS.index("count")) & (lessons.kind != KINDS.index("read"))
    loss = torch.zeros((), device=lessons.kind.device)
    for layer, row in ((FIRST[-1], NOUN), (SECOND[-1], OTHER)):
        share = lessons.look[:, :, row, :-1]
        asked = single & (share.sum(-1) > 0)
        wanted = share[asked] @ place_code(GRID).to(share.device)
        loss = loss + (probes.place(unit(reading.hidden[layer][:, :, row]))[asked] - wanted).square().mean()
    return loss


def relation_loss(probes: Probes, reading: Reading, lessons: Lessons) -> Tensor:
    """The last row knows the offset between the two things, which side is asked for, and soon the answer."""
    asked = lessons.kind == KINDS.index("relation")
    if not asked.any():
        return torch.zeros((), device=asked.device)
    codes = lessons.look[:, :, [NOUN, OTHER], :-1][asked] @ place_code(GRID)[:, list(OFFSET)].to(asked.device)
    words = torch.tensor([vocabulary().index(word) for word in SIDE_WORDS], device=asked.device)
    side = (lessons.tokens[asked][..., None] == words).any(1).long().argmax(-1)
    fetched = unit(reading.hidden[ROUTE[-1]][:, :, LAST][asked])
    offset: Tensor = (probes.offset(fetched) - (codes[:, 1] - codes[:, 0])).square().mean()
    answer = lessons.targets.gather(-1, lessons.rows[:, :, LAST, None])[asked][:, 0]
    later = probes.digit(unit(reading.hidden[HOP2[-1]][:, :, LAST][asked]))
    return offset + 0.3 * F.cross_entropy(probes.side(fetched), side) + 0.3 * F.cross_entropy(later, answer)
