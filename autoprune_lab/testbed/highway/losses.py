"""What the highway lessons ask for beside the right answer. All of it is thrown away afterwards.

The decoder learns to look in steps: at layers 2 and 3 the last prompt row finds who is ahead, at 5 and 6 who is in the
lanes beside, and after layer 8 the action can be read from it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune_lab.testbed.highway.expert import ACTIONS
from autoprune_lab.testbed.highway.labels import CLASSES, GRID, GROUND
from autoprune_lab.testbed.highway.lessons import Lessons
from autoprune_lab.testbed.highway.scene import VIEWS
from autoprune_lab.testbed.training.looking import missed_looks
from autoprune_lab.testbed.training.reader import Reading
from autoprune_lab.testbed.training.token_code import PLACE_CODE, place_code, rms_loss, unit

AHEAD, ASIDE, ACTION = (2, 3), (5, 6), 8
WATCHED = frozenset({*AHEAD, *ASIDE, ACTION})


class Probes(nn.Module):
    """Linear read-outs that exist in training only."""

    def __init__(self, hidden: int, vision_hidden: int) -> None:
        super().__init__()
        self.classes = nn.Linear(hidden, len(CLASSES))
        self.ground = nn.Linear(hidden, len(GROUND))
        self.view = nn.Linear(hidden, len(VIEWS))
        self.place = nn.Linear(hidden, 2)
        self.presence = nn.Linear(vision_hidden, 1)
        self.own = nn.Linear(hidden, 1)
        self.beside = nn.Linear(hidden, 4)
        self.action = nn.Linear(hidden, len(ACTIONS))
        self.worth = nn.Linear(hidden, len(ACTIONS))


def vision_loss(probes: Probes, projected: Tensor, cls: Tensor, lessons: Lessons) -> tuple[Tensor, Tensor]:
    """Dense labels of every patch, rms near 1, whether each [CLS] knows of others; and figures of how well it goes.

    The figures: accuracy on patches of cars, error of a car's ahead and left in metres, recall of the road's edges,
    accuracy of the view.
    """
    seen, some = unit(projected), lessons.classes > 0
    logits, ground = probes.classes(seen), probes.ground(seen)
    weight = torch.where(some, 4.0, 1.0)
    loss = (F.cross_entropy(logits.transpose(1, 2), lessons.classes, reduction="none") * weight).mean()
    off = probes.place(seen)[some] - lessons.place[some]
    loss = loss + 3 * F.smooth_l1_loss(off, torch.zeros_like(off))
    loss = loss + F.binary_cross_entropy_with_logits(ground, lessons.ground)
    view = torch.arange(len(VIEWS), device=seen.device).repeat_interleave(GRID * GRID).expand(len(seen), -1)
    views = probes.view(seen).transpose(1, 2)
    place = torch.unflatten(seen, 1, (len(VIEWS), -1))[..., :PLACE_CODE] - place_code(GRID).to(seen.device)
    loss = loss + F.cross_entropy(views, view) + place.square().mean() + 0.1 * rms_loss(projected)
    others = torch.unflatten(lessons.classes == 1, 1, (len(VIEWS), -1)).any(-1).float().flatten()
    loss = loss + F.binary_cross_entropy_with_logits(probes.presence(unit(cls))[:, 0], others)
    right = (logits.argmax(-1) == lessons.classes)[some].float().mean()
    metres = [off[:, 0].abs().mean() * 10, off[:, 1].abs().mean() * 5]
    found = (ground[..., 1] > 0)[lessons.ground[..., 1] > 0].float().mean()
    return loss, torch.stack([right, *metres, found, (views.argmax(1) == view).float().mean()]).detach()


def answer_loss(reading: Reading) -> Tensor:
    """Cross-entropy of the action and of the end."""
    return F.cross_entropy(reading.logits, reading.targets)


def looking_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """The looking heads of the last row fall where the moment points; minus log of the mass there."""
    looks = (AHEAD, lessons.look[:, None, 0]), (ASIDE, lessons.look[:, None, 1])
    return missed_looks(reading, len(lessons.prefix), looks)


def exit_loss(probes: Probes, reading: Reading, lessons: Lessons) -> Tensor:
    """What the last row has looked at can be read from it right after it looked; then the action."""
    ahead, aside, action = (unit(reading.hidden[layer][:, :, 0]) for layer in (AHEAD[-1], ASIDE[-1], ACTION))
    gaps = lessons.gaps[:, None].expand(-1, ahead.shape[1], -1)
    loss = 3 * F.smooth_l1_loss(probes.own(ahead), gaps[..., :1])
    loss = loss + 3 * F.smooth_l1_loss(probes.beside(aside), gaps[..., 2:])
    loss = loss + F.cross_entropy(probes.action(action).flatten(0, 1), lessons.action.flatten())
    return loss + 5 * F.smooth_l1_loss(probes.worth(action), lessons.worth, beta=0.1)
