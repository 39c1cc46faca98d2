"""The generation_config of a checkpoint: how its authors decode. Only its token ids say anything about the model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.models.errors import CheckpointError, one_line
from autoprune_lab.models.folder import read_json

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel

FILE = "generation_config.json"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_generation(folder: Path) -> "GenerationConfig | None":
    """The folder's; of one that transformers refuses the token ids, with a warning; None where there is no file."""
    from transformers import GenerationConfig

    if not (folder / FILE).exists():
        return None
    check_token_ids(folder)
    try:
        return GenerationConfig.from_pretrained(folder)
    except Exception as error:  # a stranger's settings, none of which an evaluation uses
        warnings.warn(f"{folder / FILE} is refused, its token ids alone are used: {one_line(error)}", stacklevel=2)
        return GenerationConfig(**{name: read_json(folder / FILE).get(name) for name in TOKEN_IDS})  # type: ignore[no-untyped-call]


@contextmanager
def greedily(model: "PreTrainedModel") -> Iterator[None]:
    """Inside the block `generate` takes nothing but token ids from the model's generation_config.

    No beams, sampling, penalties, forced or suppressed tokens, other caches or outputs: `generate` fills from there
    whatever a call leaves open, so that overriding single values would miss those of other versions.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in TOKEN_IDS})  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own


class Certainty:
    """A logits processor that changes nothing: it keeps how probable the model holds the token that greedy takes next.

    One number a sample and step: no second pass, and memory that does not grow with the vocabulary.
    """

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """`scores` (batch, vocabulary), as they came."""
        self.steps.append(scores.amax(-1) - scores.logsumexp(-1))
        return scores

    def of(self, new: "Tensor", ends: Any) -> list[float]:
        """The probability of each answer, in [0, 1]: the product over its tokens, the one that ends it included.

        `new` (batch, steps) are the generated ids, `ends` the id or ids that end an answer, or None.
        """
        import torch

        ended = torch.isin(new, torch.as_tensor([] if ends is None else ends, device=new.device).to(new.dtype))
        said = ended.cumsum(1) - ended.long() == 0  # padding follows the end
        steps = torch.stack(self.steps, 1)
        return [float(one) for one in torch.where(said, steps, torch.zeros_like(steps)).sum(1).exp()]


def check_token_ids(folder: Path) -> None:
    """Raise CheckpointError for token ids that are no ids."""
    if (folder / FILE).exists():
        for name in TOKEN_IDS:
            value: Any = read_json(folder / FILE).get(name)
            ids = value if isinstance(value, list) else [] if value is None else [value]
            if not all(type(one) is int for one in ids):
                raise CheckpointError(
                    f"{folder / FILE} says {name}={value!r:.40}; expected an id, a list of ids or null"
                )
