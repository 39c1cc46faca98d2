"""What can be known of a checkpoint and a task's prompts before weights are read, in seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.pictures import Album, sizes

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def extremes(samples: Sequence[Sample], most: int = 64) -> list[Sample]:
    """All samples whose pictures are in memory; of those in files `most`, so that few pictures are decoded.

    These have the longest questions, the smallest and the largest pictures: the ends of what a prompt costs.
    """
    opened = [sample for sample in samples if not isinstance(sample.images, Album)]
    closed = [sample for sample in samples if isinstance(sample.images, Album)]
    if len(closed) <= most:
        return list(samples)
    by_text = sorted(closed, key=lambda sample: -len(sample.question))
    by_size = sorted(closed, key=lambda sample: sum(width * height for width, height in sizes(sample.images)))
    picked = [*by_text[: most // 2], *by_size[: most // 4], *by_size[-(most // 4) :]]
    return opened + list({sample.id: sample for sample in picked}.values())


def text_config(folder: Path, trust_remote_code: bool = False) -> "tuple[PretrainedConfig, int]":
    """The decoder's config, and the id of the image token. Raises CheckpointError where there is none."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    token = getattr(config, "image_token_id", None)
    if type(token) is not int or not 0 <= token < 2**31:
        raise CheckpointError(f"{folder / 'config.json'} names no image_token_id: this model cannot be pruned here")
    return config.get_text_config(), token
