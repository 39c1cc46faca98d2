"""Pictures that are opened when they are looked at: a benchmark of thousands costs no memory before that."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from autoprune_lab.tasks.base import TaskError

if TYPE_CHECKING:
    from PIL.Image import Image

ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}  # first bytes of JPEG and PNG, and what stands near the end


class PictureError(TaskError):
    """A picture that is broken; one line."""


class MissingPictureError(PictureError):
    """A picture that is not there."""


class Picture(ABC):
    """An encoded picture somewhere."""

    @abstractmethod
    def read(self) -> bytes:
        """The encoded picture. Raises PictureError when it is missing."""

    @abstractmethod
    def __str__(self) -> str:
        """Where it is, for messages."""

    def open(self) -> "Image":
        """Decode, in RGB. Raises PictureError when it is broken."""
        from PIL import Image

        try:
            return Image.open(io.BytesIO(self.read())).convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise PictureError(f"{self} cannot be decoded: {error}") from error

    def check(self) -> tuple[int, int]:
        """(width, height); decodes only where the file does not end as JPEG and PNG files do.

        Raises PictureError as `open` does.
        """
        from PIL import Image

        content = self.read()
        try:
            size = Image.open(io.BytesIO(content)).size
        except (OSError, SyntaxError, ValueError) as error:
            raise PictureError(f"{self} cannot be decoded: {error}") from error
        end = ENDS.get(content[:2])
        if end is None or end not in content[-64:]:
            self.open()
        return size

    def digest(self) -> str:
        """The same for the same content."""
        return sha256(self.read()).hexdigest()[:16]


@dataclass(frozen=True)
class FilePicture(Picture):
    """A picture in a file of its own."""

    path: Path

    def read(self) -> bytes:
        """The file's content."""
        try:
            return self.path.read_bytes()
        except OSError:
            raise MissingPictureError(f"{self.path} is missing") from None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class BytesPicture(Picture):
    """A picture held in memory, still encoded."""

    content: bytes = field(repr=False)
    name: str

    def read(self) -> bytes:
        """The content itself."""
        return self.content

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ParquetPicture(Picture):
    """A picture in the struct column {bytes, path} of a parquet file: row `row` of row group `group`."""

    file: Path
    group: int
    row: int
    column: str = "image"

    def read(self) -> bytes:
        """Its bytes; the whole row group is read, and the last few are kept."""
        content = _column(self.file, self.group, self.column)[self.row]["bytes"].as_py()
        if content is None:
            raise MissingPictureError(f"{self} holds no picture")
        return bytes(content)

    def __str__(self) -> str:
        return f"{self.file}, row group {self.group}, row {self.row}"


@lru_cache(maxsize=4)
def _column(file: Path, group: int, column: str) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as source:
        return source.read_row_group(group, columns=[column]).column(column)


@dataclass(frozen=True)
class Album(Sequence["Image"]):
    """Pictures as a sequence of images, each decoded when it is asked for."""

    pictures: tuple[Picture, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int) -> "Image": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[Image]": ...
    def __getitem__(self, index: int | slice) -> "Image | Sequence[Image]":
        return Album(self.pictures[index]) if isinstance(index, slice) else self.pictures[index].open()

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of each, from its header."""
        return tuple(picture.check() for picture in self.pictures)


def sizes(images: "Sequence[Image]") -> tuple[tuple[int, int], ...]:
    """(width, height) of each picture, without decoding an album's."""
    return images.sizes if isinstance(images, Album) else tuple(image.size for image in images)
