"""Answers on disk: one parquet row a sample, in parts that are written whole or not at all."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.statistics.records import LeftOut, Record, Records

TYPES = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    float | None: pa.float64(),
    tuple[str, ...]: pa.list_(pa.string()),
    tuple[int, ...]: pa.list_(pa.int64()),
}
ROW = [(name, TYPES[hint]) for name, hint in get_type_hints(Record).items()]
SCHEMA = pa.schema([("place", pa.int64()), *ROW, ("seconds", pa.float64())])
PLACE = ["place"]
LATER = ("confidence",)  # columns that parts written by earlier versions lack


class AnswersError(ValueError):
    """A folder of answers cannot be read; one line that names the file and the remedy."""


class Answer(NamedTuple):
    """A record, the sample's place in the task, and its share of the seconds that its batch took."""

    place: int
    record: Record
    seconds: float


@dataclass(frozen=True)
class Answers:
    """One arm's answers in a folder of its own, and what it left out. Several processes may add parts at once."""

    folder: Path

    def places(self) -> set[int]:
        """Places in the task of the samples that are answered."""
        return {place for file in self._parts() for place in _read(file, PLACE)["place"].to_pylist()}

    def add(self, answers: Iterable[Answer]) -> None:
        """Write one part. A process that dies on the way leaves a .part file, which nobody reads."""
        rows = [{"place": place, "seconds": seconds} | asdict(record) for place, record, seconds in answers]
        if rows:
            file = self._new(row["place"] for row in rows)
            write_whole(file.with_suffix(".parquet"), pa.Table.from_pylist(rows, SCHEMA))

    def leave_out(self, samples: Mapping[int, LeftOut]) -> None:
        """Keep, by their place in the task, the samples that cannot be answered, and why."""
        if samples:
            rows = [{"place": place} | asdict(sample) for place, sample in samples.items()]
            with atomic_write(self._new(samples).with_suffix(".json")) as half:
                half.write_text(json.dumps(rows), encoding="utf-8")

    def left_out(self) -> dict[int, LeftOut]:
        """Those, in the task's order."""
        found = dict[int, LeftOut]()
        for file in sorted(self.folder.glob("*.json")):
            try:
                rows = json.loads(file.read_text(encoding="utf-8"))
                found |= {int(row["place"]): LeftOut(row["id"], row["reason"]) for row in rows}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise _unreadable(file) from error
        return dict(sorted(found.items()))

    def records(self) -> Records:
        """All that is answered, each sample once, in the task's order; ValueError where nothing is."""
        frame = self._table().to_pandas()
        found = Records.from_frame(frame.drop(columns=["place", "seconds"]), float(frame["seconds"].sum()))
        return replace(found, left_out=tuple(self.left_out().values()))

    def merge(self, file: Path) -> None:
        """Write all that is answered into one file, each sample once, in the task's order.

        What was left out goes into FILE.left_out.json beside it, where anything was.
        """
        write_whole(file, self._table().drop_columns(["place"]))
        if left_out := [asdict(sample) for sample in self.left_out().values()]:
            with atomic_write(file.with_suffix(".left_out.json")) as half:
                half.write_text(json.dumps(left_out, indent=1), encoding="utf-8")

    def _table(self) -> pa.Table:
        """A sample that two processes answered counts once."""
        table = pa.concat_tables([SCHEMA.empty_table(), *(_read(file) for file in self._parts())])
        first: dict[int, int] = {}
        for row, place in enumerate(table["place"].to_pylist()):
            first.setdefault(place, row)
        return table.take([first[place] for place in sorted(first)])

    def _new(self, places: Iterable[int]) -> Path:
        """A part of these places, without its suffix; its folder is made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / sha256(repr(sorted(places)).encode()).hexdigest()[:16]

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))


def write_whole(file: Path, table: pa.Table) -> None:
    """Write a parquet file that is there whole, or not at all."""
    with atomic_write(file) as half, half.open("wb") as stream:
        pq.write_table(table, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _read(file: Path, columns: list[str] | None = None) -> Any:
    try:
        with pq.ParquetFile(file) as source:
            table = source.read(columns)
        return table if columns else _completed(table).cast(SCHEMA)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(file) from error


def _completed(table: pa.Table) -> pa.Table:
    """With empty cells in the columns that came later, in the schema's order."""
    for name in set(LATER) - set(table.column_names):
        table = table.append_column(name, pa.nulls(len(table)))
    return table.select(SCHEMA.names) if set(SCHEMA.names) == set(table.column_names) else table


def _unreadable(file: Path) -> AnswersError:
    return AnswersError(f"{file} cannot be read: delete it, and its samples will be answered again")
