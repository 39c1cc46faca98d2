"""Loads a vision-language checkpoint: the embedded one, a folder, or a hub id that is already in the local cache."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.models.errors import CheckpointError, one_line
from autoprune_lab.models.placement import Placement

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

EMBEDDED = "embedded:"
WEIGHTS = Path(__file__).parents[1] / "testbed" / "weights"


@dataclass(frozen=True)
class VLM:
    """A model in evaluation mode with its processor."""

    model: "PreTrainedModel"
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
) -> VLM:
    """Load a checkpoint by the stock transformers classes; safetensors only, nothing downloaded.

    `path` is `embedded:NAME`, a `save_pretrained` folder, or a hub id in the local cache, there at `revision`;
    `attention` is transformers' attention backend (`sdpa`, `eager`, ...); for the rest see `Placement`.
    With `trust_remote_code` Python files of the checkpoint run on this machine: read them first.
    Raises CheckpointError as `check_checkpoint` and `Placement.check` do.
    """
    placement = Placement(dtype, device, attention, device_map)
    placement.check()
    folder = check_checkpoint(path, revision, trust_remote_code)
    return VLM(_load_weights(folder, placement, trust_remote_code), load_processor(folder, trust_remote_code), path)


def _load_weights(folder: Path, placement: Placement, trust_remote_code: bool) -> "PreTrainedModel":
    import torch
    from transformers import AutoModelForImageTextToText

    device = placement.where()
    try:
        with _quiet():
            model = AutoModelForImageTextToText.from_pretrained(
                folder,
                dtype=placement.number(),
                attn_implementation=placement.attention,
                device_map=placement.device_map,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
            )
        return (model if placement.device_map is not None else model.to(device)).eval()
    except torch.OutOfMemoryError:
        raise CheckpointError(
            f"{folder} does not fit on {device} in {placement.dtype}: use dtype=bfloat16, a smaller model, "
            "device=cpu, or device_map=auto"
        ) from None
    except (ImportError, ValueError) as error:
        raise CheckpointError(f"cannot load {folder}: {one_line(error)}") from error


def load_processor(path: str | Path, trust_remote_code: bool = False) -> "ProcessorMixin":
    """The checkpoint's processor alone: enough to count tokens, no weights read."""
    from autoprune_lab.models.processor import stock_processor

    folder = path if isinstance(path, Path) else check_checkpoint(path)
    with _quiet():
        return stock_processor(folder, trust_remote_code)


def check_checkpoint(path: str, revision: str | None = None, trust_remote_code: bool = False) -> Path:
    """Find the folder and check it without loading weights.

    Raises CheckpointError when it is missing, empty, not a vision-language model, has no safetensors, or holds a
    truncated safetensors file.
    """
    folder = _find(path, revision)
    if not any(folder.iterdir()):
        raise CheckpointError(f"checkpoint folder {path} is empty; expected config.json and *.safetensors")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"checkpoint folder {path} has no config.json; is it a save_pretrained folder?")
    _check_kind(folder / "config.json", trust_remote_code)
    for file in _weight_files(folder):
        _check_safetensors(file)
    return folder


def _check_kind(file: Path, trust_remote_code: bool) -> None:
    """Is it a model that transformers knows, or may bring its own code?"""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    config: dict[str, Any] = _read_json(file)
    kind = config.get("model_type", "")
    if kind in KNOWN or (trust_remote_code and "auto_map" in config):
        return
    if "auto_map" in config:
        raise CheckpointError(
            f"{file}: model_type {kind!r} runs only with the checkpoint's own Python code; take a checkpoint of "
            "the transformers library (often named -hf), or read that code and set trust_remote_code=true"
        )
    raise CheckpointError(f"{file} says model_type {kind!r}, which is not a vision-language model")


def _find(path: str, revision: str | None) -> Path:
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
        return Path(snapshot_download(path, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        wanted = f"{path} --revision {revision}" if revision else path
        raise CheckpointError(
            f"{path} is neither a folder nor in the hub cache; fetch it first: hf download {wanted}"
        ) from None


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin"))
        why = "; its *.bin files are pickles, which are never opened: convert them to safetensors" if pickled else ""
        raise CheckpointError(f"checkpoint folder {folder} has no *.safetensors weights{why}")
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
