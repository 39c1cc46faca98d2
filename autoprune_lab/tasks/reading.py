"""Reads benchmark files: parquet of the hub's datasets, and JSON or tables beside image folders."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.fields import Given
from autoprune_lab.tasks.pictures import ParquetPicture
from autoprune_lab.tasks.regular import read_regular, refuse_special
from autoprune_lab.tasks.selection import Where

EXTRA = "cells beyond the header's columns"


def find_data(path: str, field: str = "task.path") -> Path:
    """A file or folder, or the local copy of a dataset of the hub. Raises TaskError that says how to fetch it.

    `field`: where the path was typed, for the message.
    """
    place = Path(path).expanduser()
    if place.exists():
        return place
    if place.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
        raise TaskError(f"{field} {path} does not exist")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, repo_type="dataset", local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        raise TaskError(
            f"{field} {path} is neither a file, a folder nor a dataset in the hub cache; "
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
    if not place.is_dir():
        return [place]
    for pattern in patterns:
        if files := sorted(place.glob(pattern)):
            return files
    raise TaskError(f"{place} has no {' nor '.join(patterns)}")


def read_parquet(
    files: Sequence[Path], needed: Sequence[str], image: str | Sequence[str] | None = "image"
) -> Iterator[Given]:
    """Every row, with where its pictures are, one for each column in `image`. Raises TaskError for a missing column."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    order = 0
    shown = [image] if isinstance(image, str) else image or ()
    for file in files:
        number = 0
        try:
            refuse_special(file)
            with pq.ParquetFile(file) as source:
                columns = source.schema_arrow.names
                _check_columns(file, columns, [*needed, *shown])
                kept = [name for name in columns if name not in shown]
                for group in range(source.num_row_groups):
                    for row, values in enumerate(source.read_row_group(group, columns=kept).to_pylist()):
                        pictures = tuple(ParquetPicture(file, group, row, column) for column in shown)
                        number += 1
                        yield Given(Where(str(file), "row", number), order, values, pictures)
                        order += 1
        except TaskError:
            raise
        except (ArrowException, OSError, ValueError, OverflowError) as error:
            raise TaskError(f"{file} is not a readable parquet file: {' '.join(str(error).split())}") from error


def read_jsonl(file: Path) -> Iterator[Given]:
    """One object a line. Raises TaskError that names the line that is no JSON; one that is no object has no fields."""
    order = 0
    for number, line in enumerate(read_text(file).split("\n"), start=1):  # a string may hold other ends of lines
        if line.strip():
            yield _object(Where(str(file), "line", number), order, _parsed(line, f"{file}, line {number} is not JSON"))
            order += 1


def read_json(file: Path) -> Any:
    """A JSON file's content. Raises TaskError."""
    return _parsed(read_text(file), f"{file} is not valid JSON")


def read_json_rows(file: Path, key: str | None = None) -> Iterator[Given]:
    """The rows of a JSON file that is a list, or has one under a key. Raises TaskError."""
    content = read_json(file)
    rows = content.get(key) if key is not None and isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise TaskError(f"{file} holds no list of rows{f' {key}' if key else ''}")
    yield from objects(file, rows)


def read_json_notes(file: Path) -> dict[str, Given]:
    """The rows of a JSON file that is an object of objects, by their names. Raises TaskError."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise TaskError(f"{file} holds no object of rows by name")
    return dict(zip(content, objects(file, content.values()), strict=True))


def objects(file: Path, rows: Iterable[Any]) -> Iterator[Given]:
    """Rows of a file that has been read."""
    for order, values in enumerate(rows):
        yield _object(Where(str(file), "row", order + 1), order, values)


def read_table(file: Path, needed: Sequence[str]) -> Iterator[Given]:
    """Every row of a tab-separated file with a header. Raises TaskError, for a missing column too."""
    import csv

    csv.field_size_limit(1 << 30)  # a cell may hold a picture in base64
    try:
        refuse_special(file)
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t", restkey=EXTRA)
            _check_columns(file, list(rows.fieldnames or ()), needed)
            for order, values in enumerate(rows):
                yield Given(Where(str(file), "row", order + 1), order, values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"cannot read {file}: {error}") from None


def read_text(file: Path) -> str:
    """A regular file's text, which is UTF-8 and may begin with a byte order mark. Raises TaskError."""
    try:
        return read_regular(file).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {file}: {error}") from None


def _object(where: Where, order: int, values: Any) -> Given:
    return Given(where, order, values if isinstance(values, dict) else {})


def _parsed(text: str, otherwise: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{otherwise}: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict. Raises ValueError where a name stands twice: nobody knows which value is meant."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it says {twice!r} twice in one object")
    return made


def _check_columns(where: Path | str, there: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in there]:
        raise TaskError(f"{where} has no {', '.join(missing)}; it has {', '.join(there)}")
    if len(set(there)) < len(there):
        raise TaskError(f"{where} has two columns of one name: {', '.join(there)}")
