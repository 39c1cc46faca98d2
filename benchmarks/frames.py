"""Does a film keep its answers under pruning as one picture does? `python -m benchmarks.frames`.

The shipped shapes model was trained on one picture a prompt. Here it is shown four, as frames through the path of
several images: the picture as the last of four frames behind three grey ones, or the same picture four times. The
question is the picture's own, so that one model, unpruned and pruned at one FLOPs ratio, answers about one frame and
about four.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.selection import scorers
from autoprune_lab.tasks.base import Sample, Task
from autoprune_lab.tasks.shapes import ShapesTask
from autoprune_lab.testbed.shapes.scene import IMAGE_SIZE
from policies.layerwise import LayerwisePolicy

Pictures = tuple[Image.Image, ...]
GREY = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), (128, 128, 128))
FORMS: Mapping[str, Callable[[Pictures], Pictures]] = {
    "one picture": lambda pictures: pictures,
    "grey, grey, grey, picture": lambda pictures: (GREY,) * 3 + pictures,
    "the picture four times": lambda pictures: pictures * 4,
}
RATIO = 0.5


@dataclass(frozen=True, eq=False)
class Filmed(Task):
    """The questions of `whole`, their pictures shown in a form."""

    whole: Task
    form: str
    name: str = "frames"
    max_new_tokens: int = 4

    def samples(self) -> tuple[Sample, ...]:
        """In the task's order."""
        return tuple(replace(one, images=FORMS[self.form](tuple(one.images))) for one in self.whole.samples())

    def score(self, prediction: str, sample: Sample) -> float:
        """As the task does."""
        return self.whole.score(prediction, sample)


def pruner(ratio: float) -> Pruner:
    """Halved at a quarter, a half and three quarters of the layers, scaled to the FLOPs ratio."""
    return Pruner(LayerwisePolicy(), Budget(flops_ratio=ratio), scorer=scorers.last_token_attention)


def measure(vlm: VLM, whole: Task, form: str, ratio: float = RATIO) -> dict[str, dict[str, float]]:
    """Accuracy in [0, 1] by kind, their mean, and the FLOPs ratio, of the unpruned and the pruned model."""
    prepared = prepare(vlm, Filmed(whole, form), batch_size=16)
    runs = {"unpruned": evaluate(vlm, prepared), "pruned": evaluate(vlm, prepared, pruner(ratio))}
    return {
        arm: {**run.by_kind(), "mean": run.score, "flops_ratio": run.flops_ratio, "n_vision": run.rows[0].n_vision}
        for arm, run in runs.items()
    }


def main() -> None:
    """Print a table and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--per-kind", type=int, default=25)
    arguments = parser.parse_args()
    vlm, whole = load_model("embedded:shapes-s0"), ShapesTask("report", arguments.per_kind)
    told, headed = {}, False
    for form in FORMS:
        told[form] = measure(vlm, whole, form)
        for arm, row in told[form].items():
            if not headed:
                print("| frames | | " + " | ".join(row) + " |\n|" + "---|" * (len(row) + 2))
                headed = True
            cells = [f"{row[name]:.3g}" if name == "n_vision" else f"{row[name]:.3f}" for name in row]
            print(f"| {form} | {arm} | " + " | ".join(cells) + " |", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
