"""Which rows of a benchmark a task uses: two halves that share no picture, and a fixed sample of each kind."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from autoprune_lab.tasks.pictures import Picture
from autoprune_lab.tasks.videos import Footage

SPLITS = ("tune", "report", "all")


class Where(NamedTuple):
    """A row of a file: `unit` is row or line, `number` counts from 1."""

    file: str
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


@dataclass(frozen=True)
class Row:
    """One question as a benchmark's files have it, prompt included; `where` it stands, for messages.

    `image_id` is the same for the same picture; rows of one `group` (by default a row alone) stay together.
    """

    id: str
    pictures: tuple[Picture, ...]
    question: str
    answers: tuple[str, ...]
    kind: str
    image_id: str
    group: str = ""
    where: Where | None = None
    videos: tuple[Footage, ...] = ()
    state: tuple[float, ...] = ()


@dataclass(frozen=True)
class UnfitRow:
    """A row that cannot be asked or scored, and why; with its `group`, where it has one, the whole group goes."""

    where: Where
    reason: str
    group: str = ""


def in_split(row: Row, split: str) -> bool:
    """Half of the pictures are for `tune`, the others for `report`, by a hash of the image id."""
    return split == "all" or split == SPLITS[_number(row.image_id) % 2]


def choose(rows: Sequence[Row], split: str, per_kind: int | None) -> list[Row]:
    """The split's rows, at most `per_kind` of each kind but at least a group, in the order in which the rows came.

    Whole groups are taken, by a hash of their name: a larger `per_kind` adds rows and drops none, no seed is needed.
    """
    inside = [row for row in rows if in_split(row, split)]
    if per_kind is None:
        return inside
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in inside:
        groups[row.kind, row.group or row.id].append(row)
    taken = dict.fromkeys((row.kind for row in inside), 0)
    chosen = set()
    for kind, group in sorted(groups, key=lambda key: (_number("order", *key), key)):
        before = taken[kind]
        taken[kind] += len(groups[kind, group])  # counts on past the bound: no later, smaller group slips in
        if before == 0 or taken[kind] <= per_kind:
            chosen.add((kind, group))
    return [row for row in inside if (row.kind, row.group or row.id) in chosen]


def _number(*words: str) -> int:
    return int.from_bytes(sha256("\0".join(words).encode()).digest()[:8], "big")
