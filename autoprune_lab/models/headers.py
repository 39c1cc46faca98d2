"""What a safetensors file says of its tensors; the tensors themselves are not read."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autoprune_lab.models.errors import CheckpointError, one_line

METADATA = "__metadata__"
Header = dict[str, dict[str, Any]]


def read_header(file: Path) -> Header:
    """Each tensor's `dtype`, `shape` and `data_offsets` by its name.

    Raises CheckpointError for a file that safetensors refuses, and for a name that stands there twice.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():  # a pipe would be waited for
        raise CheckpointError(f"{file} is no file")
    try:
        with safe_open(file, "pt"):  # checks sizes, shapes, number formats, and that offsets cover the file once
            pass
        with file.open("rb") as stream:
            text = stream.read(int.from_bytes(stream.read(8), "little"))
    except (SafetensorError, OSError) as error:
        size = f"{file.stat().st_size} bytes" if file.is_file() else "no file"
        raise CheckpointError(
            f"{file} ({size}) is truncated or not a safetensors file: {one_line(error)}; copy it again"
        ) from error
    header: Header = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, file))
    header.pop(METADATA, None)
    return header


def read_headers(files: Iterable[Path]) -> Header:
    """Of all shards together. Raises CheckpointError as `read_header` does, and for a tensor in two of them."""
    tensors: Header = {}
    home: dict[str, Path] = {}
    for file in files:
        for name, entry in read_header(file).items():
            if name in tensors:
                raise CheckpointError(f"{file} holds {name}, and so does {home[name].name}: which of the two is meant?")
            tensors[name], home[name] = entry, file
    return tensors


def _once(pairs: list[tuple[str, Any]], file: Path) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise CheckpointError(f"{file} names {twice} twice in its header; write it anew")
    return names
