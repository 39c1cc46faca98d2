"""The embedded task: questions about rendered scenes that need one, two or three looks at the picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial

from PIL import Image

from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.drawn import KEPT, TOGETHER, DrawnTask, drawn_sample, scene_and_question
from autoprune_lab.testbed.shapes.draw import draw
from autoprune_lab.testbed.shapes.questions import Question, ask
from autoprune_lab.testbed.shapes.scene import IMAGE_SIZE, Scene, make_scene
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
    _, asked = _scene(split, kind, i)
    return drawn_sample(split, kind, i, asked, partial(_pictures, split, kind, i), IMAGE_SIZE)


@lru_cache(TOGETHER)
def _scene(split: str, kind: str, i: int) -> tuple[Scene, Question]:
    return scene_and_question(split, kind, i, ANSWERS, make_scene, ask)


@lru_cache(KEPT)
def _pictures(split: str, kind: str, i: int) -> tuple[Image.Image]:
    scene, _ = _scene(split, kind, i)
    return (Image.fromarray(draw(scene)),)
