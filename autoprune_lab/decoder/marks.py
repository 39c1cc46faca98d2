"""Marks: which tokens a decoder is told to be visual, where text has experts of its own (ERNIE 4.5 VL)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.costs import type_names
from autoprune_lab.decoder.layout import Prompt


def text_marked(anatomy: Anatomy, prompt: Prompt, arguments: Mapping[str, Any]) -> Int[np.ndarray, "batch"]:
    """How many of each prompt's text tokens go to the experts of pictures: those around a picture do.

    0, unasked, where all tokens cost the same. ValueError where a token of a picture is not marked: it would go to the
    experts of text, at other FLOPs.
    """
    if not any(layer.text_extra for layer in anatomy.geometry.each):
        return np.zeros_like(prompt.n_text)
    name, *_ = type_names(anatomy.decoder)
    marks: Tensor | None = arguments.get(name)
    pictured = prompt.pictured
    if marks is None:
        marks = pictured.new_zeros(pictured.shape)
    marks = marks.to(pictured.device) != 0
    if (pictured & ~marks).any():
        raise ValueError(
            f"{type(anatomy.model).__name__} has experts of its own for pictures, and {name} does not mark every token "
            "of the prompt's: give it as the model's own processor makes it"
        )
    stage = prompt.stage
    within = stage.valid & (prompt.last.flip(1).cumsum(1).flip(1) > 0)
    return (marks & within & ~stage.visual).sum(1).cpu().numpy()
