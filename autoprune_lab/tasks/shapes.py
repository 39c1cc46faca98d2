"""The embedded task: questions about rendered scenes that need one, two or three looks at the picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.drawn import DrawnTask, drawn_sample
from autoprune_lab.testbed.shapes.draw import draw
from autoprune_lab.testbed.shapes.questions import ask
from autoprune_lab.testbed.shapes.scene import make_scene
from autoprune_lab.testbed.shapes.wording import ANSWERS, CHANCE


@dataclass(frozen=True)
class ShapesTask(DrawnTask):
    """`per_kind` samples of each of the eight kinds; answers balanced, splits disjoint, all from seeds."""

    name = "shapes"

    def sample(self, kind: str, i: int) -> Sample:
        """Made once for all tasks."""
        return _sample(self.split, kind, i)

    def chance(self) -> Mapping[str, float]:
        """See CHANCE in testbed/shapes/wording.py."""
        return CHANCE


@cache
def _sample(split: str, kind: str, i: int) -> Sample:
    return drawn_sample(split, kind, i, ANSWERS, make_scene, ask, draw)
