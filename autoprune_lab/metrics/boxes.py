"""Scores of boxes around things: RefCOCO's. A box is (left, top, right, bottom)."""

import re
from collections.abc import Sequence

Box = tuple[float, float, float, float]

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_BOX = re.compile(rf"\[\s*{_NUMBER},\s*{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\s*\]")
RIGHT = 0.5  # intersection over union from which on a box is the right one


def box_of(text: str) -> Box | None:
    """The first [a, b, c, d] in a text; None where there is none.

    Source: lmms-eval (tasks/refcoco/utils_rec.py), which takes no box for one of no size at the corner.
    """
    found = _BOX.search(text)
    if found is None:
        return None
    left, top, right, bottom = map(float, found.groups())
    return left, top, right, bottom


def overlap(one: Box | None, other: Box) -> float:
    """Intersection over union, in [0, 1]; 0 without a box, and for one whose corners are exchanged."""
    if one is None:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (_area(one) + _area(other) - common)


def box_figures(pairs: Sequence[tuple[Box | None, Box]]) -> dict[str, float]:
    """From (predicted, expected) boxes: mean IoU, and the share with an IoU of 0.3, 0.5 and 0.7 or more."""
    found = [overlap(predicted, expected) for predicted, expected in pairs]
    shares = {f"ACC@{least}": sum(iou >= least for iou in found) / len(found) for least in (0.3, RIGHT, 0.7)}
    return {"IoU": sum(found) / len(found)} | shares


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
