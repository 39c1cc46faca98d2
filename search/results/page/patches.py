"""Which patches of a few report samples the front's points keep, for the page to paint; made once, at a study's end."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autoprune_lab.decoder.places import UnknownPlacesError
from autoprune_lab.errors import one_line
from autoprune_lab.evaluation.kept_patches import depths, show
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.base import Sample
from search.results.study_result import PATCHES
from search.study.model_evaluator import ModelEvaluator

MOST = 4  # samples
SMALL = 200  # pixels; larger pictures are photographs, and go as JPEG


def write(folder: Path, evaluator: ModelEvaluator, pruners: Mapping[int, Pruner]) -> None:
    """Write patches.json: pictures, and by trial and sample how many layers each patch enters; or why none."""
    found = painted(evaluator, pruners)
    (folder / PATCHES).write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


def painted(evaluator: ModelEvaluator, pruners: Mapping[int, Pruner]) -> dict[str, Any]:
    """What `write` writes."""
    try:
        shown = show(evaluator.vlm, _of_each_kind(evaluator.prepared.samples))
    except UnknownPlacesError as error:
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
    kept = {str(number): depths(evaluator.vlm, shown, pruner).tolist() for number, pruner in pruners.items()}
    return {"samples": samples, "layers": evaluator.geometries[0].n_layers, "depths": kept}


def _of_each_kind(samples: Sequence[Sample]) -> list[Sample]:
    """The first sample of each kind, at most MOST kinds, spread over all."""
    firsts = list({sample.kind: sample for sample in reversed(samples)}.values())[::-1]
    places = np.linspace(0, len(firsts) - 1, min(len(firsts), MOST)).round().astype(int)
    return [firsts[place] for place in places]


def _uri(picture: np.ndarray) -> str:
    """The picture as a page holds it."""
    kind = "png" if max(picture.shape) <= SMALL else "jpeg"
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
