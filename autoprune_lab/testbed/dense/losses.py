"""What training asks for beside the right answer. All of it is thrown away afterwards.

The decoder learns to look in steps: layers 2 and 3 find the named thing, 4 and 5 the second one, 2 to 5 what is to
be counted, 6 carries it to the last row, which goes on from there: 7 and 8 make the first hop of a trail (or read a
digit), 10 and 11 the second, 13 and 14 the third. Meanwhile one head of the last row looks over all that may matter.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune_lab.testbed.dense.layout import vocabulary
from autoprune_lab.testbed.dense.lessons import PREFIX, Lessons
from autoprune_lab.testbed.dense.scene import COLOURS, GRID, SHAPES, SIZES
from autoprune_lab.testbed.dense.wording import FEW, KINDS, MANY, TRAILS
from autoprune_lab.testbed.shapes.losses import OFFSET, SIDE_WORDS
from autoprune_lab.testbed.training.looking import LOOKING_HEADS, places
from autoprune_lab.testbed.training.reader import NONE, Reading
from autoprune_lab.testbed.training.token_code import PLACE_CODE, TINY, place_code, unit

FIRST, SECOND, ROUTE, GLANCE = (2, 3), (4, 5), 6, (2, 3, 4, 5)
HOP = ((7, 8), (10, 11), (13, 14))
KNOWN = (ROUTE, *(layers[-1] for layers in HOP))  # after these the last row knows the station it has come to
WATCHED = frozenset({0, *FIRST, *SECOND, ROUTE, *(layer for layers in HOP for layer in layers)})
GLANCE_HEAD = 3
EVENLY = 0.5  # how much it counts that counted things are looked at alike
NOUN, OTHER, LAST = 0, 1, 2  # rows of a segment
DENSE = (1 + len(SHAPES), 1 + len(COLOURS) * len(SIZES), 2, 3, 11, 4)
_COUNTED = tuple(KINDS.index(kind) for kind in ("few", "many"))
_READ, _RELATION = KINDS.index("read"), KINDS.index("relation")
# How many hops before the answer can be known; `read` goes its own way.
_HOPS = torch.tensor(
    [TRAILS.index(kind) if kind in TRAILS else len(HOP) + 1 if kind == "read" else 0 for kind in KINDS]
)


class Probes(nn.Module):
    """Linear read-outs that exist in training only."""

    def __init__(self, hidden: int, vision_hidden: int) -> None:
        super().__init__()
        words = len(vocabulary())
        self.dense = nn.ModuleList(nn.Linear(hidden, n) for n in DENSE)
        self.presence = nn.Linear(vision_hidden, len(SHAPES) * len(COLOURS))
        self.named = nn.ModuleList(nn.Linear(hidden, n) for n in (len(SHAPES), len(COLOURS), PLACE_CODE))
        self.stations = nn.ModuleList(
            nn.ModuleList(nn.Linear(hidden, n) for n in (len(SHAPES), len(COLOURS), PLACE_CODE)) for _ in KNOWN
        )
        self.answers = nn.ModuleList(nn.Linear(hidden, words) for _ in KNOWN)
        self.second_place = nn.Linear(hidden, PLACE_CODE)
        self.count = nn.Linear(hidden, len(FEW) + len(MANY))
        self.offset = nn.Linear(hidden, len(OFFSET))
        self.side = nn.Linear(hidden, len(SIDE_WORDS))
        self.digit = nn.Linear(hidden, words)


def looking_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """The looking heads' rows fall where the question points."""
    counted = torch.isin(lessons.kind, torch.tensor(_COUNTED))
    is_read = lessons.kind == _READ
    loss = torch.zeros((), device=counted.device)
    for layer in FIRST:
        loss = loss + _miss(reading, layer, NOUN, lessons.look[:, :, NOUN], ~counted & ~is_read)
    for layer in SECOND:
        loss = loss + _miss(reading, layer, OTHER, lessons.look[:, :, OTHER], lessons.kind == _RELATION)
    for layer in FIRST + SECOND:  # the mean of what four layers see is nearer the number than that of two
        loss = loss + _share(reading, layer, NOUN, lessons.look[:, :, NOUN], counted)
    for hop, layers in enumerate(HOP):
        for layer in layers:
            loss = loss + _miss(reading, layer, LAST, lessons.hop[:, :, hop], lessons.hop[:, :, hop].sum(-1) > 0)
    for layer in HOP[0]:
        for row in range(LAST, lessons.look.shape[2]):
            loss = loss + _miss(reading, layer, row, lessons.look[:, :, row], lessons.look[:, :, row].sum(-1) > 0) / 3
    return loss / 2


def _places(reading: Reading, layer: int, row: int) -> Tensor:
    """Attention of the looking heads over the patches and, last, <s>: B heads Q P+1."""
    seen = reading.attention[layer][:, LOOKING_HEADS, :, row]
    return places(seen, PREFIX)


def _miss(reading: Reading, layer: int, row: int, look: Tensor, asked: Tensor) -> Tensor:
    """Minus log of the mass on the wanted places, mean over the questions that are `asked`."""
    mass = (_places(reading, layer, row) * (look > 0)[:, None]).sum(-1).clamp(min=TINY).log()
    return -mass.transpose(1, 2)[asked].mean() if asked.any() else mass.new_zeros(())


def _share(reading: Reading, layer: int, row: int, look: Tensor, asked: Tensor) -> Tensor:
    """Divergence of the attention from the wanted shares, mean over the questions that are `asked`.

    And the squared log of what each place gets against <s>, over what it should: a sum of ten needs every part.
    """
    if not asked.any():
        return look.new_zeros(())
    look, seen = look[asked][:, None], _places(reading, layer, row).transpose(1, 2)[asked].clamp(min=TINY).log()
    divergence = torch.xlogy(look, look).sum(-1) - (seen * look).sum(-1)
    places = look[..., :-1] > 0
    off = (seen - seen[..., -1:])[..., :-1] - (look[..., :-1].clamp(min=TINY).log() - look[..., -1:].log())
    loss: Tensor = divergence.mean() + EVENLY * off[places.expand_as(off)].square().sum() / places.sum().clamp(min=1)
    return loss


def routing_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """The last row fetches what the named thing's row found: head 2 the first noun, head 3 the second."""
    loss = torch.zeros((), device=reading.rows.device)
    seen = reading.attention[ROUTE][:, :, :, LAST]
    for head, row, asked in ((2, NOUN, lessons.kind != _READ), (3, OTHER, lessons.kind == _RELATION)):
        mass = seen[:, head].gather(-1, reading.rows[:, :, row, None])[..., 0]
        loss = loss - mass[asked].clamp(min=TINY).log().sum() / asked.sum().clamp(min=1)
    return loss


def glance_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """In the early layers one head of the last row looks over everything that may matter to the question."""
    asked = lessons.glance.sum(-1) > 0
    loss = torch.zeros((), device=asked.device)
    for layer in GLANCE:
        mass = (reading.attention[layer][:, GLANCE_HEAD, :, LAST, 2:PREFIX] * lessons.glance).sum(-1)
        loss = loss - mass[asked].clamp(min=TINY).log().mean()
    return loss / len(GLANCE)


def exit_loss(probes: Probes, reading: Reading, lessons: Lessons) -> Tensor:
    """What a row has looked at can be read from it right after it looked; so can an answer that needs no more."""
    loss = _station_loss(probes.named, unit(reading.hidden[FIRST[-1]][:, :, NOUN]), lessons.stations[:, :, 0])
    answer = lessons.targets.gather(-1, lessons.rows[:, :, 2:])  # what follows the last row and the digit rows
    for i, layer in enumerate(KNOWN):
        found = unit(reading.hidden[layer][:, :, LAST])
        loss = loss + _station_loss(probes.stations[i], found, lessons.stations[:, :, i])
        known = _HOPS.to(found.device)[lessons.kind] <= i
        loss = loss + F.cross_entropy(probes.answers[i](found[known]), answer[..., 0][known])
    is_read = lessons.kind == _READ
    if is_read.any():
        digits = unit(reading.hidden[HOP[0][-1]][:, :, LAST:])[is_read]
        loss = loss + F.cross_entropy(probes.digit(digits).flatten(0, 1), answer[is_read].flatten(), ignore_index=NONE)
    counted = torch.isin(lessons.kind, torch.tensor(_COUNTED))
    if counted.any():
        numbers = probes.count(unit(reading.hidden[SECOND[-1]][:, :, NOUN])[counted])
        loss = loss + F.cross_entropy(numbers, answer[..., 0][counted] - vocabulary().index("0"))
    return loss


def _station_loss(heads: Any, found: Tensor, stations: Tensor) -> Tensor:
    """Shape, colour and place of the station that a row stands for: (B, Q, hidden) and (B, Q, 3)."""
    asked = stations[..., 0] != NONE
    found, stations = found[asked], stations[asked]
    if not len(found):
        return found.new_zeros(())
    place = (heads[2](found) - place_code(GRID).to(found.device)[stations[:, 2]]).square().mean()
    loss: Tensor = place + sum(F.cross_entropy(heads[i](found), stations[:, i]) for i in range(2))
    return loss


def relation_loss(probes: Probes, reading: Reading, lessons: Lessons) -> Tensor:
    """The second noun's row knows its place; the last row the offset of the two and the side that is asked for."""
    asked = lessons.kind == _RELATION
    if not asked.any():
        return torch.zeros((), device=asked.device)
    codes = lessons.look[:, :, [NOUN, OTHER], :-1][asked] @ place_code(GRID).to(asked.device)
    second = probes.second_place(unit(reading.hidden[SECOND[-1]][:, :, OTHER][asked]))
    words = torch.tensor([vocabulary().index(word) for word in SIDE_WORDS], device=asked.device)
    side = (lessons.tokens[asked][..., None] == words).any(1).long().argmax(-1)
    fetched = unit(reading.hidden[ROUTE][:, :, LAST][asked])
    offset = (probes.offset(fetched) - (codes[:, 1] - codes[:, 0])[:, list(OFFSET)]).square().mean()
    place = (second - codes[:, 1]).square().mean()
    loss: Tensor = place + offset + 0.3 * F.cross_entropy(probes.side(fetched), side)
    return loss
