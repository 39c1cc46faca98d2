"""Which patches of a few report samples the front's points keep, for the page to paint; made once, at a study's end."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autoprune_lab.errors import one_line
from autoprune_lab.evaluation.kept_patches import depths, of_each_kind, show
from autoprune_lab.pruner import Pruner
from search.results.study_result import PATCHES
from search.study.model_evaluator import ModelEvaluator

SMALL = 200  # pixels; larger pictures are photographs, and go as JPEG


def write(folder: Path, evaluator: ModelEvaluator, pruners: Mapping[int, Pruner]) -> None:
    """Write patches.json: pictures, and by trial and sample how many layers each patch enters; or why none."""
    found = painted(evaluator, pruners)
    (folder / PATCHES).write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


def painted(evaluator: ModelEvaluator, pruners: Mapping[int, Pruner]) -> dict[str, Any]:
    """What `write` writes. A study's results do not depend on its pictures: whatever goes wrong is named instead."""
    try:
        shown = show(evaluator.vlm, of_each_kind(evaluator.prepared.samples))
    except Exception as error:  # of any family's processor
        return {"why": one_line(error)}
    rows, columns = shown.grid
    samples = [
        {
            "id": sample.id,
            "kind": sample.kind,
            "question": sample.question,
            "answer": next(iter(sample.answers), ""),
            "picture": _uri(picture),
            "rows": rows,
            "columns": columns,
        }
        for sample, picture in zip(shown.samples, shown.pictures, strict=True)
    ]
    kept: dict[str, list[list[int]]] = {}
    whys: dict[str, str] = {}
    for number, pruner in pruners.items():
        try:
            kept[str(number)] = depths(evaluator.vlm, shown, pruner).tolist()
        except Exception as error:  # a budget that these prompts cannot meet, say
            whys[str(number)] = one_line(error)
    return {"samples": samples, "layers": evaluator.geometries[0].n_layers, "depths": kept, "whys": whys}


def _uri(picture: np.ndarray) -> str:
    """The picture as a page holds it."""
    kind = "png" if max(picture.shape) <= SMALL else "jpeg"
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
