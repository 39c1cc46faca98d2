"""The embedded task where needs differ: crowded scenes, and questions that may need few or many looks at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial

from PIL import Image

from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.drawn import KEPT, TOGETHER, DrawnTask, drawn_sample, scene_and_question
from autoprune_lab.testbed.dense.draw import draw
from autoprune_lab.testbed.dense.questions import ask
from autoprune_lab.testbed.dense.scene import IMAGE_SIZE, Scene, make_scene
from autoprune_lab.testbed.dense.wording import ANSWERS, CHANCE, TRAILS
from autoprune_lab.testbed.shapes.questions import Question


@dataclass(frozen=True)
class DenseTask(DrawnTask):
    """`per_kind` samples of each of the ten kinds; answers balanced, splits disjoint, all from seeds."""

    name = "dense"

    def sample(self, kind: str, i: int) -> Sample:
        """Made once for all tasks; a trail's scene has no longer one."""
        return _sample(self.split, kind, i)

    def chance(self) -> Mapping[str, float]:
        """See CHANCE in testbed/dense/wording.py."""
        return CHANCE


@cache
def _sample(split: str, kind: str, i: int) -> Sample:
    _, asked = _scene(split, kind, i)
    return drawn_sample(split, kind, i, asked, partial(_pictures, split, kind, i), IMAGE_SIZE)


@lru_cache(TOGETHER)
def _scene(split: str, kind: str, i: int) -> tuple[Scene, Question]:
    hops = TRAILS.index(kind) if kind in TRAILS else None
    return scene_and_question(split, kind, i, ANSWERS, partial(make_scene, hops=hops), ask)


@lru_cache(KEPT)
def _pictures(split: str, kind: str, i: int) -> tuple[Image.Image]:
    scene, _ = _scene(split, kind, i)
    return (Image.fromarray(draw(scene)),)
