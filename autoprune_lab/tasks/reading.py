"""Reads benchmark files: parquet of the hub's datasets, and JSON or tables beside image folders."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.pictures import ParquetPicture


def find_data(path: str) -> Path:
    """A file or folder, or the local copy of a dataset of the hub. Raises TaskError that says how to fetch it."""
    place = Path(path).expanduser()
    if place.exists():
        return place
    if place.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
        raise TaskError(f"task.path {path} does not exist")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, repo_type="dataset", local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        raise TaskError(
            f"task.path {path} is neither a file, a folder nor a dataset in the hub cache; "
            f"fetch it first: hf download --repo-type dataset {path}"
        ) from None


def question_file(place: Path, name: str) -> Path | None:
    """The question file of that name in a folder, or the given file itself unless it is parquet; else None."""
    file = place / name if place.is_dir() else place
    return file if file.is_file() and file.suffix != ".parquet" else None


def existing(given: str | None, default: Path, field: str) -> Path:
    """The path of a field of the task, or its usual place. Raises TaskError where there is nothing."""
    place = default if given is None else Path(given).expanduser()
    if not place.exists():
        raise TaskError(f"{place} does not exist; say where it is with task.{field}=PATH")
    return place


def matching(place: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of the first pattern that matches any, or the file itself. Raises TaskError when none does."""
    if place.is_file():
        return [place]
    for pattern in patterns:
        if files := sorted(place.glob(pattern)):
            return files
    raise TaskError(f"{place} has no {' nor '.join(patterns)}")


def read_parquet(
    files: Sequence[Path], needed: Sequence[str], image: str | None = "image"
) -> Iterator[tuple[dict[str, Any], tuple[ParquetPicture, ...]]]:
    """Every row without its picture, and where its picture is. Raises TaskError for a missing column."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    for file in files:
        try:
            with pq.ParquetFile(file) as source:
                columns = source.schema_arrow.names
                _check_columns(file, columns, [*needed, *([image] if image else [])])
                kept = [name for name in columns if name != image]
                for group in range(source.num_row_groups):
                    for row, values in enumerate(source.read_row_group(group, columns=kept).to_pylist()):
                        yield values, (ParquetPicture(file, group, row, image),) if image else ()
        except (ArrowException, OSError) as error:
            raise TaskError(f"{file} is not a readable parquet file: {' '.join(str(error).split())}") from error


def read_jsonl(file: Path, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One object a line. Raises TaskError that names the line."""
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError:
            raise TaskError(f"{file}, line {number} is not JSON") from None
        if not isinstance(values, dict):
            raise TaskError(f"{file}, line {number} is not a JSON object")
        _check_columns(f"{file}, line {number}", list(values), needed)
        yield values


def read_json(file: Path) -> Any:
    """A JSON file's content. Raises TaskError."""
    try:
        return json.loads(_text(file))
    except ValueError as error:
        raise TaskError(f"{file} is not valid JSON: {error}") from None


def read_table(file: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    """Every row of a tab-separated file with a header. Raises TaskError for a missing column."""
    import csv

    csv.field_size_limit(1 << 30)  # a cell may hold a picture in base64
    with file.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        _check_columns(file, list(rows.fieldnames or ()), needed)
        yield from rows


def one_of(values: Mapping[str, Any], *names: str) -> Any:
    """The first of these that is there and not None; else None."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {file}: {error}") from None


def _check_columns(where: Path | str, there: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in there]:
        raise TaskError(f"{where} has no {', '.join(missing)}; it has {', '.join(there)}")
