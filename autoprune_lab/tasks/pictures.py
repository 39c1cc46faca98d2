"""Pictures that are opened when they are looked at: a benchmark of thousands costs no memory before that."""

import io
import warnings
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from autoprune_lab.errors import one_line
from autoprune_lab.tasks.errors import TaskError
from autoprune_lab.tasks.regular import is_inside, read_regular
from autoprune_lab.tasks.shown import orientation, shown

if TYPE_CHECKING:
    from PIL.Image import Image

ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}  # first bytes of JPEG and PNG, and what stands near the end
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


class PictureError(TaskError):
    """A picture that is broken, or cannot be shown; one line."""


class MissingPictureError(PictureError):
    """A picture that is not there."""


class OutsidePictureError(PictureError):
    """A picture outside the folder that the user named."""


class Picture(ABC):
    """An encoded picture somewhere."""

    @abstractmethod
    def read(self) -> bytes:
        """The encoded picture. Raises PictureError when it is missing."""

    @abstractmethod
    def __str__(self) -> str:
        """Where it is, for messages."""

    def open(self) -> "Image":
        """Decode, in RGB, as a viewer shows it (`shown`). Raises PictureError when it is broken."""
        content = self.read()
        with self._decoding() as image_of:
            return shown(image_of(io.BytesIO(content)))

    def check(self) -> tuple[int, int]:
        """(width, height) as shown; decodes only where the file does not end as JPEG and PNG files do.

        Raises PictureError as `open` does.
        """
        content = self.read()
        with self._decoding() as image_of:
            image = image_of(io.BytesIO(content))
            size = image.size[::-1] if orientation(image) in SIDEWAYS else image.size
        end = ENDS.get(content[:2])
        if end is None or end not in content[-64:]:
            self.open()
        return size

    def digest(self) -> str:
        """The same for the same content."""
        return sha256(self.read()).hexdigest()[:16]

    @contextmanager
    def _decoding(self) -> "Iterator[Callable[[io.BytesIO], Image]]":
        """Gives Pillow's `open`. Whatever it raises becomes a PictureError, its limit of pixels included."""
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings(), _nothing_made_up():
                warnings.simplefilter("ignore")  # odd metadata
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                yield _open
        except UnidentifiedImageError as error:
            raise PictureError(f"{self} cannot be decoded: it has no known format") from error
        except Exception as error:  # of any kind: the bytes are a stranger's, and so are the decoders
            raise PictureError(f"{self} cannot be decoded: {one_line(error)}") from error


def _open(content: io.BytesIO) -> "Image":
    """As Pillow opens it. Raises ValueError for PostScript: a program, which another program would be started for."""
    from PIL import Image

    image = Image.open(content)
    if image.format == "EPS":
        raise ValueError("it is PostScript, a program, which is never run: convert it to PNG")
    return image


@contextmanager
def _nothing_made_up() -> Iterator[None]:
    """A truncated picture is an error, also where another library told Pillow to fill it with grey (lmms-eval does)."""
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@dataclass(frozen=True)
class FilePicture(Picture):
    """A picture in a file of its own; with `inside`, only where that folder holds it."""

    path: Path
    inside: Path | None = None

    def read(self) -> bytes:
        """The file's content."""
        try:
            if self.inside is not None and not is_inside(self.path, self.inside):
                why = f"{self.path} is not in {self.inside}: task.images_outside=true reads it all the same"
                raise OutsidePictureError(why)
            return read_regular(self.path)
        except FileNotFoundError:
            raise MissingPictureError(f"{self.path} is missing") from None
        except OSError as error:
            raise PictureError(f"{self.path} cannot be read: {error.strerror or error}") from None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Base64Picture(Picture):
    """A picture in a cell of a table, in base64; None for an empty cell."""

    encoded: str | None = field(repr=False)
    name: str

    def read(self) -> bytes:
        """The decoded cell."""
        if not self.encoded:
            raise MissingPictureError(f"{self} holds no picture")
        try:
            return b64decode("".join(self.encoded.split()), validate=True)
        except ValueError as error:
            raise PictureError(f"{self} holds no base64: {error}") from None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ParquetPicture(Picture):
    """A picture in the struct column {bytes, path} of a parquet file: row `row` of row group `group`.

    The column may hold lists of one picture.
    """

    file: Path
    group: int
    row: int
    column: str = "image"

    def read(self) -> bytes:
        """Its bytes; the whole row group is read, and the last few are kept."""
        from pyarrow import ArrowException

        try:
            value = _column(self.file, self.group, self.column)[self.row].as_py()
        except (ArrowException, OSError, ValueError) as error:
            raise PictureError(f"{self} cannot be read: {' '.join(str(error).split())}") from error
        if isinstance(value, list) and value:
            if len(value) > 1:
                raise PictureError(f"{self} holds {len(value)} pictures where one is asked about")
            value = value[0]
        content = value.get("bytes") if isinstance(value, dict) else None
        if not content or not isinstance(content, bytes):
            raise MissingPictureError(f"{self} holds no picture")
        return content

    def __str__(self) -> str:
        return f"{self.file}, row group {self.group}, row {self.row}"


@lru_cache(maxsize=8)  # rows of MMMU show up to seven columns
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


@dataclass(frozen=True)
class Drawings(Sequence["Image"]):
    """Pictures that are drawn when they are looked at, of sizes (width, height) that are known before.

    `draw` should keep the last ones: they are asked for more than once.
    """

    draw: "Callable[[], Sequence[Image]]"
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> "Image": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[Image]": ...
    def __getitem__(self, index: int | slice) -> "Image | Sequence[Image]":
        return self.draw()[index]


def sizes(images: "Sequence[Image]") -> tuple[tuple[int, int], ...]:
    """(width, height) of each picture, without decoding those that know their `sizes`, such as an album.

    () of an album that can no longer be read.
    """
    try:
        told: tuple[tuple[int, int], ...] | None = getattr(images, "sizes", None)
        return tuple(image.size for image in images) if told is None else told
    except PictureError:
        return ()
