"""The generation_config of a checkpoint: how its authors decode. Only its token ids say anything about the model."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.models.errors import CheckpointError, one_line
from autoprune_lab.models.folder import read_json

if TYPE_CHECKING:
    from transformers import GenerationConfig

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


def ids_alone(config: "GenerationConfig") -> "GenerationConfig":
    """Greedy, cached decoding that ends and pads as `config` does."""
    from transformers import GenerationConfig

    return GenerationConfig(**{name: getattr(config, name, None) for name in TOKEN_IDS})  # type: ignore[no-untyped-call]


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
