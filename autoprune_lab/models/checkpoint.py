"""Loads a vision-language checkpoint: the embedded one, a folder, or a hub id that is already in the local cache."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

EMBEDDED = "embedded:"
WEIGHTS = Path(__file__).parents[1] / "testbed" / "weights"


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; one line that names the file and the remedy."""


@dataclass(frozen=True)
class VLM:
    """A model in evaluation mode with its processor."""

    model: "PreTrainedModel"
    processor: "ProcessorMixin"
    name: str


def load_model(path: str, dtype: str = "float32", device: str = "cpu", attention: str = "sdpa") -> VLM:
    """Load a checkpoint by the stock transformers classes; safetensors only, no remote code, nothing downloaded.

    `path` is `embedded:NAME`, a `save_pretrained` folder, or a hub id in the local cache; `attention` is
    transformers' attention backend (`sdpa`, `eager`, ...). Raises CheckpointError as `check_checkpoint` does.
    """
    folder = check_checkpoint(path)
    import torch
    from transformers import AutoModelForImageTextToText

    number = getattr(torch, dtype, None)
    if not isinstance(number, torch.dtype):
        raise CheckpointError(f"dtype {dtype!r} is not a torch dtype; use float32, bfloat16 or float16")
    with _quiet():
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=number, attn_implementation=attention, use_safetensors=True
        )
    return VLM(model.to(device).eval(), load_processor(folder), path)


def load_processor(path: str | Path) -> "ProcessorMixin":
    """The checkpoint's processor alone: enough to count tokens, no weights read."""
    from transformers import AutoProcessor

    folder = path if isinstance(path, Path) else check_checkpoint(path)
    with _quiet():
        processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    return processor


def check_checkpoint(path: str) -> Path:
    """Find the folder and check it without loading weights.

    Raises CheckpointError when it is missing, empty, not a vision-language model, has no safetensors, or holds a
    truncated safetensors file.
    """
    folder = _find(path)
    config = folder / "config.json"
    if not any(folder.iterdir()):
        raise CheckpointError(f"checkpoint folder {path} is empty; expected config.json and *.safetensors")
    if not config.is_file():
        raise CheckpointError(f"checkpoint folder {path} has no config.json; is it a save_pretrained folder?")
    kind = _read_json(config).get("model_type", "")
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    if kind not in KNOWN:
        raise CheckpointError(f"{config} says model_type {kind!r}, which is not a vision-language model")
    for file in _weight_files(folder):
        _check_safetensors(file)
    return folder


def _find(path: str) -> Path:
    if path.startswith(EMBEDDED):
        folder = WEIGHTS / path.removeprefix(EMBEDDED)
        names = sorted(EMBEDDED + p.name for p in WEIGHTS.iterdir()) if WEIGHTS.is_dir() else []
        if not folder.is_dir():
            raise CheckpointError(f"no embedded model {path!r}; available: {', '.join(names) or 'none'}")
        return folder
    if Path(path).is_dir():
        return Path(path)
    if Path(path).is_absolute() or path.startswith(".") or path.count("/") != 1:
        raise CheckpointError(f"checkpoint folder {path} does not exist")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        raise CheckpointError(
            f"{path} is neither a folder nor in the hub cache; fetch it first: hf download {path}"
        ) from None


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"checkpoint folder {folder} has no *.safetensors weights")
    return files


def _check_safetensors(file: Path) -> None:
    """Compare the file's size with what its own header promises (8-byte length, JSON header, data)."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; the index names it")
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(f"{file} is truncated: {size} bytes, less than its header alone; copy it again")
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            raise CheckpointError(f"{file} is not a safetensors file: its header is not JSON") from None
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    if size != 8 + length + end:
        raise CheckpointError(
            f"{file} is truncated: {size} bytes, its header promises {8 + length + end}; copy it again"
        )


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return content


class _quiet:  # noqa: N801
    """No progress bars and no notes about missing torchvision while loading."""

    def __enter__(self) -> None:
        from transformers.utils import logging as hf

        self.bars, self.level = hf.is_progress_bar_enabled(), hf.get_verbosity()
        hf.disable_progress_bar()
        hf.set_verbosity(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        from transformers.utils import logging as hf

        hf.set_verbosity(self.level)
        if self.bars:
            hf.enable_progress_bar()
