"""Where the prompts end in a call that holds more than prompts: candidates of assisted decoding, or an answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

NPrompt = int | Sequence[int]
"""Real tokens of every prompt, or of each prompt of a batch."""


def check_n_prompt(n_prompt: Any) -> None:
    """Raise ValueError for a prompt without tokens, and for what is no whole number."""
    asked = np.asarray(1 if n_prompt is None else n_prompt)
    if asked.dtype.kind not in "iu" or not asked.size or (asked < 1).any():
        raise ValueError(
            f"n_prompt={n_prompt} must be whole numbers of at least 1: it counts a prompt's tokens, padding left out"
        )


def first_positions(real: Bool[Tensor, "batch positions"], width: int) -> Bool[Tensor, "batch positions"]:
    """The first `width` positions, padding and all."""
    return torch.arange(real.shape[1], device=real.device).expand_as(real) < width


def first_tokens(real: Bool[Tensor, "batch positions"], n_prompt: NPrompt) -> Bool[Tensor, "batch positions"]:
    """Each row up to its `n_prompt`-th real token; ValueError for a row that has fewer, and for another batch size."""
    asked, held = np.asarray(n_prompt), real.sum(1).cpu().numpy()
    if asked.ndim and asked.shape != held.shape:
        raise ValueError(f"n_prompt holds {asked.size} numbers for a batch of {held.size}: give one a sample")
    if (asked > held).any():
        i = int((asked > held).argmax())
        raise ValueError(
            f"n_prompt={np.broadcast_to(asked, held.shape)[i]}, but sample {i} has {held[i]} tokens without padding"
        )
    return real.cumsum(1) <= torch.as_tensor(asked, device=real.device).reshape(-1, 1)
