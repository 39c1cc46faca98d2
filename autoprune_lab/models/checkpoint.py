"""Loads a vision-language checkpoint: the embedded one, a folder, or a hub id that is already in the local cache."""

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.models.errors import CheckpointError, is_of_code, one_line
from autoprune_lab.models.fit import check_fit, refuse_gaps
from autoprune_lab.models.folder import CONFIG, find_folder, read_config, weight_files
from autoprune_lab.models.generation import check_token_ids, read_generation
from autoprune_lab.models.headers import read_headers
from autoprune_lab.models.placement import Placement
from autoprune_lab.models.visual_tokens import prompt_config, visual_token_ids

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

    class GenerativeModel(PreTrainedModel):  # type: ignore[no-untyped-call]
        """What `model.generate` needs a type checker to know: transformers types no model so that it may call it."""

        generate: Callable[..., Any]
        get_image_features: Callable[..., Any]


@dataclass(frozen=True)
class VLM:
    """A model in evaluation mode with its processor."""

    model: "GenerativeModel"
    processor: "ProcessorMixin"
    name: str


def load_model(
    path: str,
    dtype: str = "float32",
    device: str = "cpu",
    attention: str = "sdpa",
    device_map: str | Mapping[str, str | int] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    strict: bool = True,
) -> VLM:
    """Load a checkpoint by the stock transformers classes; safetensors only, nothing downloaded.

    `path` is `embedded:NAME`, a `save_pretrained` folder, or a hub id in the local cache, there at `revision`;
    `attention` is transformers' attention backend (`sdpa`, `eager`, ...); for the rest see `Placement`.
    With `trust_remote_code` Python files of the checkpoint run on this machine: read them first.
    Without `strict` tensors may be missing, which transformers then fills at random, of another shape, or too many.
    Raises CheckpointError as `check_checkpoint` and `Placement.check` do.
    """
    placement = Placement(dtype, device, attention, device_map)
    placement.check()
    folder = check_checkpoint(path, revision, trust_remote_code, strict)
    processor = load_processor(folder, trust_remote_code)
    return VLM(_load_weights(folder, placement, trust_remote_code, strict), processor, path)


def _load_weights(folder: Path, placement: Placement, trust_remote_code: bool, strict: bool) -> "GenerativeModel":
    import torch
    from transformers import AutoModelForImageTextToText

    device = placement.where()
    try:
        with _quiet():
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                folder,
                dtype=placement.number(),
                attn_implementation=placement.attention,
                device_map=placement.device_map,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                generation_config=read_generation(folder),
                ignore_mismatched_sizes=True,  # told by refuse_gaps
                output_loading_info=True,
            )
        model, info = loaded
        _judge(folder, info, strict)
        ready: GenerativeModel = (model if placement.device_map is not None else model.to(device)).eval()
        return ready
    except torch.OutOfMemoryError:
        raise CheckpointError(
            f"{folder} does not fit on {device} in {placement.dtype}: use dtype=bfloat16, a smaller model, "
            "device=cpu, or device_map=auto"
        ) from None
    except CheckpointError:
        raise
    except Exception as error:
        if is_of_code(error, trust_remote_code):
            raise
        raise CheckpointError(f"cannot load {folder}: {one_line(error)}") from error


def _judge(folder: Path, info: Mapping[str, Any], strict: bool) -> None:
    """Refuse what was not read, or made up, or say so where the caller means it."""
    try:
        refuse_gaps(folder, info)
    except CheckpointError as gaps:
        if strict:
            raise
        warnings.warn(str(gaps), stacklevel=4)


def load_processor(path: str | Path, trust_remote_code: bool = False) -> "ProcessorMixin":
    """The checkpoint's processor alone: enough to count tokens, no weights read."""
    from autoprune_lab.models.processor import stock_processor

    folder = path if isinstance(path, Path) else check_checkpoint(path)
    with _quiet():
        return stock_processor(folder, trust_remote_code)


def model_config(folder: Path, trust_remote_code: bool = False) -> "tuple[PretrainedConfig, tuple[int, ...]]":
    """The model's config, and the ids of visual tokens. Raises CheckpointError where there is none."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    token = getattr(prompt_config(config), "image_token_id", None)
    if type(token) is not int or not 0 <= token < 2**31:
        raise CheckpointError(f"{folder / 'config.json'} names no image_token_id: this model cannot be pruned here")
    return config, visual_token_ids(config)


def check_checkpoint(
    path: str, revision: str | None = None, trust_remote_code: bool = False, strict: bool = True
) -> Path:
    """Find the folder and check it without reading weights: settings, kind, headers, and that the tensors fit.

    Raises CheckpointError where `load_model` would fail, or would make up weights that are not there (not so if not
    `strict`).
    """
    folder = find_folder(path, revision)
    config = read_config(folder)
    _check_kind(folder / CONFIG, config, trust_remote_code)
    tensors = read_headers(weight_files(folder))
    check_token_ids(folder)
    if strict and not (trust_remote_code and "auto_map" in config):  # of its own code nothing is known
        with _quiet():
            check_fit(folder, config, tensors)
    return folder


def _check_kind(file: Path, config: Mapping[str, Any], trust_remote_code: bool) -> None:
    """Is it a model that transformers knows, or may bring its own code?"""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    kind = config.get("model_type", "")
    if str(kind) in KNOWN or (trust_remote_code and "auto_map" in config):
        return
    if "auto_map" in config:
        raise CheckpointError(
            f"{file}: model_type {kind!r} runs only with the checkpoint's own Python code; take a checkpoint of "
            "the transformers library (often named -hf), or read that code and set trust_remote_code=true"
        )
    raise CheckpointError(f"{file} says model_type {kind!r}, which is not a vision-language model")


class _quiet:  # noqa: N801
    """No progress bars and no notes about missing torchvision while loading."""

    def __enter__(self) -> None:
        from transformers.utils import logging as hf

        self.bars, self.level = hf.is_progress_bar_enabled(), hf.get_verbosity()
        hf.disable_progress_bar()  # type: ignore[no-untyped-call]
        hf.set_verbosity(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        from transformers.utils import logging as hf

        hf.set_verbosity(self.level)
        if self.bars:
            hf.enable_progress_bar()  # type: ignore[no-untyped-call]
