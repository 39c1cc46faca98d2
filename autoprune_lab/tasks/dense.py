"""The embedded task where needs differ: crowded scenes, and questions that may need few or many looks at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from autoprune_lab.tasks.base import Sample, Task, check_choice
from autoprune_lab.tasks.shapes import SPLITS
from autoprune_lab.testbed.dense.draw import draw
from autoprune_lab.testbed.dense.questions import ask
from autoprune_lab.testbed.dense.scene import make_scene
from autoprune_lab.testbed.dense.wording import ANSWERS, CHANCE, KINDS, TRAILS


@dataclass(frozen=True)
class DenseTask(Task):
    """`per_kind` samples of each of the ten kinds; answers balanced, splits disjoint, all from seeds."""

    split: str = "tune"
    per_kind: int = 50

    name = "dense"
    max_new_tokens = 4  # three digits and the end token

    def __post_init__(self) -> None:
        check_choice(self.split, SPLITS, self.per_kind)

    def samples(self) -> tuple[Sample, ...]:
        """Kind by kind, `per_kind` each; sample i is the same whatever `per_kind`."""
        return tuple(_sample(self.split, kind, i) for kind in KINDS for i in range(self.per_kind))

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text equals the answer; spaces between digits do not count."""
        return float("".join(prediction.split()) in sample.answers)

    def chance(self) -> Mapping[str, float]:
        """See CHANCE in testbed/dense/wording.py."""
        return CHANCE


@cache
def _sample(split: str, kind: str, i: int) -> Sample:
    """Scenes are drawn until one allows the answer whose turn it is; a trail's scene has no longer one."""
    rng = np.random.default_rng((SPLITS[split], KINDS.index(kind), i))
    wanted = ANSWERS[kind][i % len(ANSWERS[kind])] if ANSWERS[kind] else None
    question = None
    while question is None:
        scene = make_scene(rng, TRAILS.index(kind) if kind in TRAILS else None)
        question = ask(scene, kind, rng, wanted)
    picture = Image.fromarray(draw(scene))
    return Sample(f"{split}-{kind}-{i}", (picture,), question.text, (question.answer,), kind)
