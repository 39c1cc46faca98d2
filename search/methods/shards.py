"""Which part of an evaluation this process answers: as it was told, or as the launcher of several processes says."""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from search.config.errors import ConfigError

if TYPE_CHECKING:
    from autoprune_lab.evaluation.streaming import Shard

WORDS = re.compile(r"(\d+)/(\d+)")


def shard(told: str | None, environment: Mapping[str, str] = os.environ) -> "Shard":
    """The shard of the words I/N; without any, that of RANK and WORLD_SIZE, which `accelerate launch` and torchrun set.

    Raises ConfigError for words that name no shard.
    """
    from autoprune_lab.evaluation.streaming import Shard

    if told is None:
        return Shard(int(environment.get("RANK", 0)) + 1, int(environment.get("WORLD_SIZE", 1)))
    found = WORDS.fullmatch(told)
    try:
        if found is None:
            raise ValueError("write I/N, I from 1 to N")
        return Shard(int(found[1]), int(found[2]))
    except ValueError as error:
        raise ConfigError(f"--shard {told}: {error}; for example --shard 1/4") from error


def take_gpu(environment: Mapping[str, str] = os.environ) -> None:
    """Under such a launcher, let `cuda` mean this process's own GPU."""
    if "LOCAL_RANK" not in environment:
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(environment["LOCAL_RANK"]) % torch.cuda.device_count())


def is_first_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Is it the one process of this host that shows how far it is?"""
    return environment.get("LOCAL_RANK", "0") == "0"
