"""Finds a checkpoint's folder and the files that transformers reads of it; tells other forms of folders by name."""

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path, PurePosixPath
from typing import Any

from autoprune_lab.models.errors import CheckpointError, one_line

EMBEDDED = "embedded:"
WEIGHTS = Path(__file__).parents[1] / "testbed" / "weights"
MARKS = (BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE)
WHOLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
SETTINGS = (  # some of them transformers passes over in silence when they are broken
    CONFIG,
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
)
READ = (".json", ".safetensors", ".jinja", ".model", ".txt", ".py")  # what transformers may open
ORIGINAL = ("mm_vision_tower", "mm_projector_type", "mm_hidden_size")  # fields of the original LLaVA code


def find_folder(path: str, revision: str | None = None) -> Path:
    """`embedded:NAME`, a folder, or a hub id in the local cache. Raises CheckpointError where there is none."""
    if path.startswith(EMBEDDED):
        folder = WEIGHTS / path.removeprefix(EMBEDDED)
        names = sorted(EMBEDDED + p.name for p in WEIGHTS.iterdir()) if WEIGHTS.is_dir() else []
        if path not in names:
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


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json says. Raises CheckpointError where one of the folder's settings is missing or no JSON object."""
    if not any(folder.iterdir()):
        raise CheckpointError(f"checkpoint folder {folder} is empty; expected {CONFIG} and {WHOLE}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"checkpoint folder {folder} has no {CONFIG}; {_form(folder)}")
    _refuse_special(folder)
    settings = {name: read_json(folder / name) for name in SETTINGS if (folder / name).exists()}
    config = settings[CONFIG]
    if old := [name for name in ORIGINAL if name in config]:
        raise CheckpointError(
            f"{folder / CONFIG} is one of the original LLaVA code ({old[0]}), which transformers cannot read: take the "
            "converted checkpoint, often named -hf"
        )
    return config


def _refuse_special(folder: Path) -> None:
    """Raise CheckpointError for a pipe, which would be waited for, or a link that leads nowhere, among what is read."""
    for file in sorted(folder.iterdir()):
        if file.suffix in READ and not (file.is_file() or file.is_dir()):
            raise CheckpointError(
                f"{file} is no file, but a pipe, a device or a link that leads nowhere: copy it again"
            )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers loads: one, or those that the index names.

    Raises CheckpointError, which says what the folder holds instead, and for an adapter beside them.
    """
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"checkpoint folder {folder} holds an adapter (adapter_config.json): merge it into its model and save "
            "that, or take the adapter's files away"
        )
    names = _shards(folder / INDEX) if (folder / INDEX).exists() else []
    if (folder / WHOLE).exists():  # transformers takes it, index or not
        return [folder / WHOLE]
    if not names:
        raise CheckpointError(
            f"checkpoint folder {folder} has no *.safetensors weights to read, neither {WHOLE} nor {INDEX}; "
            f"{_form(folder)}"
        )
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing; {INDEX} names it")
    if not isinstance(read_json(folder / INDEX).get("metadata"), dict):
        raise CheckpointError(f"{folder / INDEX} has no metadata, which transformers wants: copy it again")
    return [folder / name for name in names]


def _shards(index: Path) -> list[str]:
    """The files that an index names, all inside its folder."""
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError(f"{index} has no weight_map, which says the shard of every tensor; copy it again")
    for name in named.values():
        inside = isinstance(name, str) and name.endswith(".safetensors") and PurePosixPath(name).name == name
        if not inside:
            raise CheckpointError(f"{index} names {name!r:.80}, which is no *.safetensors file of its folder")
    return sorted(set(named.values()))


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError for anything else."""
    if not file.is_file():
        raise CheckpointError(f"{file} is not a file")
    try:
        text = file.read_bytes()
        if text.startswith(MARKS):  # transformers would not read it either
            raise ValueError("it begins with a byte order mark; save it as UTF-8 without one")
        content = json.loads(text.decode("utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {one_line(error)}") from error
    except RecursionError:
        raise CheckpointError(f"{file} is not valid JSON: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no JSON object, but a {type(content).__name__}")
    return content


def _form(folder: Path) -> str:
    """What a folder without the expected files holds instead, and what to do about it."""
    if (folder / WHOLE).exists() or (folder / INDEX).exists():
        return "is it a save_pretrained folder?"
    forms = {
        "adapter_*": "an adapter alone: merge it into its model and save that",
        "model.*.safetensors": f"one of a variant: rename {{}} to {WHOLE}",
        "model-*-of-*.safetensors": f"shards without their index: copy {INDEX} as well",
        "consolidated*.safetensors": "another layout: take the checkpoint that holds transformers' own",
        "*.safetensors": f"under another name: is it a save_pretrained folder? {WHOLE} is expected",
        "*.bin": "pickles, which are never opened: convert them to safetensors",
        "*.pt*": "pickles, which are never opened: convert them to safetensors",
        "*.gguf": "a GGUF file: take the safetensors checkpoint",
    }
    for pattern, form in forms.items():
        if found := sorted(file.name for file in folder.glob(pattern)):
            return f"it holds {found[0]}, {form.format(found[0])}"
    return "is it a save_pretrained folder?"
