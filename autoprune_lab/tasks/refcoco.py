"""RefCOCO: which thing in the picture does a phrase mean? Answered with a box."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune_lab.metrics.boxes import RIGHT, Box, box_figures, box_of, overlap
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.fields import Given, UnfitError, each, text
from autoprune_lab.tasks.pictures import PictureError
from autoprune_lab.tasks.reading import find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/*.parquet", "*.parquet")
HALVES = ("val", "testA", "testB")
ASKED = (
    "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). "
    "All values are floating point numbers bounded between 0 and 1. Please provide the bounding box coordinate of the "
    "region this sentence describes: "
)
COCO = re.compile(r"COCO_[a-z]+\d+_\d+")  # what names a picture; the number of the thing in it follows


@dataclass(frozen=True)
class RefCOCOTask(Benchmark):
    """`lmms-lab/RefCOCO`, `lmms-lab/RefCOCOplus` or `lmms-lab/RefCOCOg`. Each phrase is a sample.

    The kinds are the halves that the benchmark reports: val, testA (people) and testB (other things); for RefCOCOg val
    and test. Boxes are parts of the picture's sides, from 0 to 1: an answer in pixels, or without a box, is wrong.

    Source: arXiv 1608.00272; prompt and figures as lmms-eval (refcoco_bbox_rec).
    """

    path: str = "lmms-lab/RefCOCO"

    name = "refcoco"
    max_new_tokens = 64

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        needed = ("question_id", "answer", "bbox", "file_name")
        for half, files in _halves(matching(find_data(self.path), PARQUET)).items():

            def make(given: Given, half: str = half) -> Iterator[Row]:
                name, file = given.label("question_id"), given.text("file_name")
                found, box = COCO.match(file), json.dumps(_box(given))
                image = found.group() if found else file
                for k, phrase in enumerate(given.texts("answer")):
                    asked = ASKED + text(phrase, "answer").strip()
                    yield Row(f"{half}-{name}-{k}", given.pictures, asked, (box,), half, image)

            yield from each(read_parquet(files, needed), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when intersection over union is at least 0.5 (ACC@0.5)."""
        return float(overlap(box_of(prediction), _expected(sample.answers)) >= RIGHT)

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Of each half the mean IoU, and the shares of boxes at three thresholds."""
        found: dict[str, float] = {}
        for half in dict.fromkeys(row.kind for row in rows):
            mine = [(box_of(row.prediction), _expected(row.answers)) for row in rows if row.kind == half]
            found |= {f"{half}: {name}": value for name, value in box_figures(mine).items()}
        return found


def _halves(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each half that is reported, by its name; "test" only where it is not testA and testB."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(file.name.partition("-")[0], []).append(file)
    reported = HALVES if "testA" in found else (*HALVES, "test")
    if chosen := {half: found[half] for half in reported if half in found}:
        return chosen
    raise TaskError(f"{files[0].parent} has no val-*.parquet nor testA-*.parquet; it has {files[0].name}")


def _box(given: Given) -> Box:
    """Left, top, right and bottom as parts of the picture's sides. Raises UnfitError."""
    sides = given.values.get("bbox")
    if not isinstance(sides, list) or len(sides) != 4 or not all(type(side) in (int, float) for side in sides):
        raise UnfitError("bbox that is not four numbers")
    left, top, width, height = sides
    if not (width > 0 and height > 0):
        raise UnfitError("bbox without size")
    try:
        across, down = given.pictures[0].check()
    except PictureError:
        raise UnfitError("a picture that cannot be read, so that its box has no measure") from None
    return left / across, top / down, (left + width) / across, (top + height) / down


def _expected(answers: Sequence[str]) -> Box:
    left, top, right, bottom = json.loads(answers[0])
    return left, top, right, bottom
