"""Greedy decoding, whatever the checkpoint's generation_config asks for."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from autoprune_lab.decoder.shadow import shadowed
from autoprune_lab.models.generation import ids_alone


@contextmanager
def greedily(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block `generate` takes nothing but token ids from the model's generation_config.

    No beams, sampling, penalties, forced or suppressed tokens, other caches or outputs: `generate` fills from there
    whatever a call leaves open, so that overriding single values would miss those of other versions.
    """
    with shadowed(model, "generation_config", ids_alone(model.generation_config)):
        yield
