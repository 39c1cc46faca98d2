"""What the driving lessons ask for beside the right answer. All of it is thrown away afterwards.

The decoder learns to look in steps: at layers 2 and 3 the last prompt row finds what lies ahead, at 5 and 6 what the
side views add, and after layer 8 the whole plan can be read from it.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune_lab.testbed.driving.expert import ACTIONS
from autoprune_lab.testbed.driving.labels import N_PATCHES
from autoprune_lab.testbed.driving.layout import vocabulary
from autoprune_lab.testbed.driving.lessons import Lessons
from autoprune_lab.testbed.driving.render import CLASSES, GRID, GROUND, VIEWS
from autoprune_lab.testbed.driving.scene import KINDS
from autoprune_lab.testbed.driving.wording import LONG, SIDE
from autoprune_lab.testbed.training.looking import missed_looks
from autoprune_lab.testbed.training.reader import Reading
from autoprune_lab.testbed.training.token_code import PLACE_CODE, place_code, rms_loss, unit

AHEAD, ASIDE, PLAN = (2, 3), (5, 6), 8
WATCHED = frozenset({*AHEAD, *ASIDE, PLAN})
SOFT_X, SOFT_Y = 0.35, 0.2  # metres: how far a wrong coordinate is still half right

_VIEW_OF_PATCH = torch.arange(len(VIEWS)).repeat_interleave(N_PATCHES // len(VIEWS))


class Probes(nn.Module):
    """Linear read-outs that exist in training only."""

    def __init__(self, hidden: int, vision_hidden: int) -> None:
        super().__init__()
        self.classes = nn.Linear(hidden, len(CLASSES))
        self.ground = nn.Linear(hidden, len(GROUND))
        self.view = nn.Linear(hidden, len(VIEWS))
        self.place = nn.Linear(hidden, 2)
        self.side = nn.Linear(hidden, 1)
        self.presence = nn.Linear(vision_hidden, len(CLASSES) - 1)
        self.kind = nn.Linear(hidden, len(KINDS))
        self.cause = nn.Linear(hidden, 2)
        self.wait = nn.Linear(hidden, 4)
        self.action = nn.Linear(hidden, len(ACTIONS))
        self.plan = nn.Linear(hidden, 12)


def vision_loss(probes: Probes, projected: Tensor, cls: Tensor, lessons: Lessons) -> tuple[Tensor, Tensor]:
    """Dense labels of every patch, rms near 1, what each [CLS] knows; and figures of how well it goes.

    The figures: accuracy on patches of things, error of a thing's x and y in metres; recall of ground marks, error of
    the place across the road in metres; accuracy of the view.
    """
    seen = unit(projected)
    things, thing_figures = _things_loss(probes, seen, lessons)
    ground, ground_figures = _ground_loss(probes, seen, lessons)
    view = _VIEW_OF_PATCH.to(seen.device).expand(len(seen), -1)
    views = probes.view(seen).transpose(1, 2)
    by_view = torch.unflatten(F.one_hot(lessons.classes, len(CLASSES)), 1, (len(VIEWS), -1))
    present = by_view.amax(2).flatten(0, 1)[:, 1:]
    place = torch.unflatten(seen, 1, (len(VIEWS), -1))[..., :PLACE_CODE] - place_code(GRID).to(seen.device)
    loss = things + ground + F.cross_entropy(views, view) + place.square().mean() + 0.1 * rms_loss(projected)
    loss = loss + F.binary_cross_entropy_with_logits(probes.presence(unit(cls)), present.float())
    return loss, torch.stack([*thing_figures, *ground_figures, (views.argmax(1) == view).float().mean()]).detach()


def _things_loss(probes: Probes, seen: Tensor, lessons: Lessons) -> tuple[Tensor, list[Tensor]]:
    some = lessons.classes > 0
    logits = probes.classes(seen)
    weight = torch.where(some, 4.0, 1.0)
    loss = (F.cross_entropy(logits.transpose(1, 2), lessons.classes, reduction="none") * weight).mean()
    off = probes.place(seen)[some] - lessons.place[some]
    right = (logits.argmax(-1) == lessons.classes)[some].float().mean()
    metres = [off[:, 0].abs().mean() * 10, off[:, 1].abs().mean() * 5]
    return loss + 3 * F.smooth_l1_loss(off, torch.zeros_like(off)), [right, *metres]


def _ground_loss(probes: Probes, seen: Tensor, lessons: Lessons) -> tuple[Tensor, list[Tensor]]:
    logits = probes.ground(seen)
    known = ~lessons.side.isnan()
    across = probes.side(seen)[..., 0][known] - lessons.side[known]
    marked = lessons.ground[..., 1:] > 0
    found = (logits[..., 1:] > 0)[marked].float().mean()
    loss = F.binary_cross_entropy_with_logits(logits, lessons.ground) + 2 * across.square().mean()
    return loss, [found, across.abs().mean() * 5]


@cache
def coordinate_kernel() -> Tensor:
    """(V, V): the target distribution for each word; coordinates share theirs with their neighbours."""
    words = vocabulary()
    kernel = torch.eye(len(words))
    for axis, spread in ((LONG, SOFT_X), (SIDE, SOFT_Y)):
        values = torch.tensor([float(word) for word in axis])
        start = words.index(axis[0])
        block = (-((values[:, None] - values[None]) ** 2) / (2 * spread**2)).exp()
        kernel[start : start + len(axis), start : start + len(axis)] = block / block.sum(1, keepdim=True)
    return kernel


def answer_loss(reading: Reading, kernel: Tensor) -> Tensor:
    """Cross-entropy of the answer tokens; above its floor by what the kernel's entropy leaves."""
    wanted = kernel[reading.targets]
    return F.cross_entropy(reading.logits, wanted) + torch.xlogy(wanted, wanted).sum(-1).mean()


def looking_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """The looking heads of the last row fall where the situation points; minus log of the mass there."""
    looks = (AHEAD, lessons.look[:, :, 0]), (ASIDE, lessons.look[:, :, 1])
    return missed_looks(reading, len(lessons.prefix), looks)


def exit_loss(probes: Probes, reading: Reading, lessons: Lessons) -> Tensor:
    """What the last row has looked at can be read from it right after it looked; then the plan."""
    ahead, aside, plan = (unit(reading.hidden[layer][:, :, 0]) for layer in (AHEAD[-1], ASIDE[-1], PLAN))
    loss = F.cross_entropy(probes.kind(ahead).flatten(0, 1), lessons.kind.flatten())
    loss = loss + 3 * F.smooth_l1_loss(probes.cause(ahead), lessons.cause)
    loss = loss + F.cross_entropy(probes.wait(aside).flatten(0, 1), lessons.wait.flatten())
    loss = loss + F.cross_entropy(probes.action(plan).flatten(0, 1), lessons.action.flatten())
    return loss + 5 * F.smooth_l1_loss(probes.plan(plan), lessons.plan, beta=0.1)
