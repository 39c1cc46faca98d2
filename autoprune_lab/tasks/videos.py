"""Videos: some frames of a film and when they were taken, decoded when they are looked at."""

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import UInt8

from autoprune_lab.errors import one_line
from autoprune_lab.tasks.errors import TaskError
from autoprune_lab.tasks.pictures import Album, FilePicture, OutsidePictureError, Picture, PictureError, sizes
from autoprune_lab.tasks.regular import is_inside, refuse_special

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_FRAMES = 1024
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,ogg,flv"
"""What FFmpeg may take a file for: containers of one file, and no playlist, which would have it read others."""


class VideoError(PictureError):
    """A video that is broken, or cannot be shown; one line."""


class MissingVideoError(VideoError):
    """A video that is not there."""


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of one size: pictures, or an array (time, height, width, 3) of 8 bits.

    `fps`: frames a second of the film. `indices`: which of the film's `n_film` frames these are, ascending; None: all
    of them. Raises ValueError for no frame, another array, `fps` that is not above 0, and indices that are none.
    """

    frames: "Sequence[Image] | UInt8[np.ndarray, 'time height width 3']"
    fps: float | int
    indices: tuple[int, ...] | None = None
    n_film: int | None = None

    def __post_init__(self) -> None:
        check_fps(self.fps, "fps of a video")
        if isinstance(self.frames, np.ndarray) and (
            self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3
        ):
            shape = f"{self.frames.dtype} {self.frames.shape}"
            raise ValueError(f"frames of a video are {shape}: give uint8 (time, height, width, 3)")
        if not len(self.frames):
            raise ValueError("a video has no frames: give at least one")
        film, n_film = self.places, self.length
        rising = all(a < b for a, b in pairwise(film))
        if len(film) != len(self.frames) or not rising or film[0] < 0 or film[-1] >= n_film:
            raise ValueError(f"indices {film} must be {len(self.frames)} rising numbers from 0 to {n_film - 1}")

    @property
    def places(self) -> tuple[int, ...]:
        """Which frames of the film these are."""
        return tuple(range(len(self.frames))) if self.indices is None else self.indices

    @property
    def length(self) -> int:
        """How many frames the film has."""
        return self.places[-1] + 1 if self.n_film is None else self.n_film

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds from the film's first frame to each of these."""
        return tuple(place / self.fps for place in self.places)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(time, width, height) without decoding more than the first frame; () where it can no longer be read."""
        if isinstance(self.frames, np.ndarray):
            return len(self.frames), self.frames.shape[2], self.frames.shape[1]
        try:
            first = sizes(self.frames[:1])[0]
        except (PictureError, IndexError):
            return ()
        return len(self.frames), *first

    def pixels(self) -> UInt8[np.ndarray, "time height width 3"]:
        """All frames, decoded. Raises PictureError for a broken one, and for frames of unlike sizes."""
        if isinstance(self.frames, np.ndarray):
            return self.frames
        shown = [np.asarray(frame.convert("RGB")) for frame in self.frames]
        _check_sizes("a video", [(image.shape[1], image.shape[0]) for image in shown])
        return np.stack(shown)

    def metadata(self) -> dict[str, Any]:
        """What the processors of transformers call `video_metadata`, their own sampling being off."""
        return {
            "total_num_frames": self.length,
            "fps": float(self.fps),
            "duration": self.length / self.fps,
            "frames_indices": list(self.places),
        }


def check_fps(fps: object, name: str) -> float:
    """The number of frames a second. Raises ValueError unless it is above 0."""
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not isfinite(fps) or fps <= 0:
        raise ValueError(f"{name} is {fps!r}: give frames a second, a number above 0")
    return float(fps)


def check_most(most: object, name: str) -> None:
    """Raise ValueError unless it is a number of frames that may be shown."""
    if type(most) is not int or not 1 <= most <= MOST_FRAMES:
        raise ValueError(f"{name} is {most!r}: give a whole number from 1 to {MOST_FRAMES}")


def spread(n_film: int, most: int) -> tuple[int, ...]:
    """`most` frames of a film, floor(i (n_film - 1) / (most - 1)) for i = 0 ... most - 1: the first, the last, evenly.

    One frame is the first. Source: `np.linspace(0, n_film - 1, most, dtype=int)`, as LLaVA-NeXT's video demo and
    lmms-eval take frames. Differs: a film of fewer than `most` frames shows each once, where these repeat some.
    """
    if most >= n_film:
        return tuple(range(n_film))
    return (0,) if most == 1 else tuple(i * (n_film - 1) // (most - 1) for i in range(most))


class Footage(ABC):
    """A film on disk that is not decoded yet."""

    @abstractmethod
    def check(self) -> None:
        """Raise PictureError where it is missing, outside its folder or broken, as far as that shows undecoded."""

    @abstractmethod
    def video(self) -> Video:
        """The frames that are shown, decoded when they are looked at. Raises PictureError as `check` does."""


@dataclass(frozen=True)
class FrameFolder(Footage):
    """A folder of pictures of one size, in the order of their names, numbers in them by value; `most` are shown.

    Names that begin with a dot do not count. With `inside`, only frames that lie in that folder. `assumed`: nobody said
    `fps` of this folder.
    """

    path: Path
    fps: float
    most: int
    inside: Path | None = None
    assumed: bool = False

    def check(self) -> None:
        """Sizes too, from the headers."""
        frames = self.video().frames
        assert isinstance(frames, Album)
        _check_sizes(str(self.path), frames.sizes)

    def video(self) -> Video:
        """See Footage."""
        files = self._files()
        places = spread(len(files), self.most)
        pictures = tuple(FilePicture(files[place], self.inside) for place in places)
        return Video(Album(pictures), self.fps, places, len(files))

    def _files(self) -> list[Path]:
        if not self.path.exists():
            raise MissingVideoError(f"{self.path} is missing")
        try:
            files = [file for file in self.path.iterdir() if not file.name.startswith(".")]
        except OSError as error:
            raise VideoError(f"{self.path} cannot be read: {error.strerror or error}") from None
        if strange := sorted(file.name for file in files if file.suffix.lower() not in PICTURES):
            raise VideoError(f"{self.path} holds {strange[0]}, which is no picture ({', '.join(PICTURES)})")
        if not files:
            raise VideoError(f"{self.path} holds no frames")
        return sorted(files, key=lambda file: _by_number(file.name))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class VideoFile(Footage):
    """A file of a common container, decoded by PyAV; `most` of its frames are shown."""

    path: Path
    most: int
    inside: Path | None = None

    def check(self) -> None:
        """The frames are counted, not decoded. Raises TaskError where PyAV is not installed."""
        self.video()

    def video(self) -> Video:
        """See Footage."""
        check_file(self.path, self.inside)
        n_film, fps, size = _header(self.path)
        places = spread(n_film, self.most)
        return Video(Clip(self.path, places, size), fps, places, n_film)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Clip(Sequence["Image"]):
    """Some frames of a video file, `places` rising, each of `size` (width, height); decoded whenever asked for."""

    path: Path
    places: tuple[int, ...]
    size: tuple[int, int]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of each."""
        return (self.size,) * len(self.places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> "Image": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[Image]": ...
    def __getitem__(self, index: int | slice) -> "Image | Sequence[Image]":
        if isinstance(index, slice):
            return Clip(self.path, self.places[index], self.size)
        return next(iter(Clip(self.path, (self.places[index],), self.size)))

    def __iter__(self) -> "Iterator[Image]":
        """In one pass. Raises VideoError for a broken file, one that is turned, and one that ends too early."""
        wanted = iter(self.places)
        place = next(wanted, None)
        with _opened(self.path) as container:
            for i, frame in enumerate(container.decode(container.streams.video[0])):
                if place is None:
                    return
                if i == place:
                    if turned := getattr(frame, "rotation", 0):
                        raise VideoError(f"{self.path} is to be turned by {turned} degrees: write it out turned")
                    yield frame.to_image()
                    place = next(wanted, None)
        if place is not None:
            raise VideoError(f"{self.path} ends before frame {place}, which its header counts")


@dataclass(frozen=True)
class FilmFrame(Picture):
    """The frame that a video file of `fps` frames a second shows at `seconds`, decoded by PyAV when it is looked at."""

    path: Path
    seconds: float
    fps: float
    inside: Path | None = None

    def read(self) -> bytes:
        """The frame as PNG. Raises PictureError for a missing or broken file, and where it ends before that time."""
        check_file(self.path, self.inside)
        return _frame_at(self.path, self.seconds, self.fps)

    def __str__(self) -> str:
        return f"{self.path} at {self.seconds:.3f} s"


@lru_cache(maxsize=64)  # looked at more than once while a task is made
def _frame_at(path: Path, seconds: float, fps: float) -> bytes:
    with _opened(path) as container:
        stream = container.streams.video[0]
        container.seek(max(int((seconds - 1 / fps) / stream.time_base), 0), stream=stream)  # a key frame before
        for frame in container.decode(stream):
            if frame.time is not None and frame.time > seconds - 0.5 / fps:
                if frame.time > seconds + 0.5 / fps:
                    raise VideoError(f"{path} has no frame at {seconds:.3f} s, the next one is at {frame.time:.3f} s")
                if turned := getattr(frame, "rotation", 0):
                    raise VideoError(f"{path} is to be turned by {turned} degrees: write it out turned")
                content = io.BytesIO()
                frame.to_image().save(content, "PNG")
                return content.getvalue()
    raise VideoError(f"{path} ends before {seconds:.3f} s")


def check_file(path: Path, inside: Path | None) -> None:
    """Raise PictureError for a video file that is missing, no regular file, or not `inside` that folder."""
    try:
        if inside is not None and not is_inside(path, inside):
            raise OutsidePictureError(f"{path} is not in {inside}: task.images_outside=true reads it all the same")
        refuse_special(path)
    except FileNotFoundError:
        raise MissingVideoError(f"{path} is missing") from None
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}") from None


@cache
def _header(path: Path) -> tuple[int, float, tuple[int, int]]:
    """How many frames a video file holds, how many a second, and (width, height)."""
    from PIL import Image

    with _opened(path) as container:
        if not container.streams.video:
            raise VideoError(f"{path} holds no video")
        stream = container.streams.video[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        fps = float(stream.average_rate or 0)
        n_film = sum(1 for packet in container.demux(stream) if packet.size)
    if not n_film or fps <= 0:
        raise VideoError(f"{path} has {n_film} frames at {fps:g} a second")
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise VideoError(f"{path} has {width} x {height} pixels a frame, more than Pillow's limit")
    return n_film, fps, (width, height)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """PyAV's container. Whatever it raises becomes a VideoError; TaskError where there is no PyAV."""
    try:
        import av
    except ImportError:
        raise TaskError(
            f"{path} is a video file: pip install 'autoprune-lab[video]' for PyAV, which decodes it, or name a folder "
            "of its frames"
        ) from None
    try:
        with av.open(str(path), options={"format_whitelist": FORMATS, "protocol_whitelist": "file"}) as container:
            yield container
    except PictureError:
        raise
    except Exception as error:  # of any kind: the bytes are a stranger's, and so are the decoders
        raise VideoError(f"{path} cannot be decoded: {one_line(error)}") from error


def _check_sizes(name: str, found: Sequence[tuple[int, int]]) -> None:
    unlike = sorted({*found})
    if len(unlike) > 1:
        (w, h), (v, g) = unlike[:2]
        raise VideoError(f"{name} has frames of {w} x {h} and of {v} x {g} pixels: one video has one size")


def _by_number(name: str) -> tuple[tuple[int, int, str], ...]:
    """frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((1, int(part), part) if i % 2 else (0, 0, part) for i, part in enumerate(parts))
