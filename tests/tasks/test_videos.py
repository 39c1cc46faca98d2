"""Videos: which frames are shown and when they were taken, folders and files of your own, and what is refused."""

import sys
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import layouts
import numpy as np
import pytest
from fake_evaluator import refused
from PIL import Image

from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.files import FilesTask
from autoprune_lab.tasks.pictures import Album, FilePicture, OutsidePictureError
from autoprune_lab.tasks.videos import (
    Clip,
    FrameFolder,
    MissingVideoError,
    Video,
    VideoError,
    VideoFile,
    check_most,
    spread,
)
from search.config.identity import is_as_before

FRAMES = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)


def folder_of(place, n, size=(6, 4), name="frame_{}.png"):
    """Frame i is of grey i."""
    place.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", size, (i, i, i)).save(place / name.format(i))
    return place


def greys(video):
    return video.pixels()[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("most", [1, 2, 3, 8, 31, 32])
@pytest.mark.parametrize("n_film", [1, 7, 32, 901])
def test_frames_are_taken_as_numpy_s_linspace_takes_them(n_film, most):
    expected = np.linspace(0, n_film - 1, most, dtype=int) if most < n_film else np.arange(n_film)
    assert spread(n_film, most) == tuple(expected)


def test_times_and_metadata_are_the_film_s():
    video = Video(FRAMES, fps=2, indices=(0, 4, 9), n_film=10)
    assert video.times == (0, 2, 4.5)
    assert video.metadata() == {"total_num_frames": 10, "fps": 2.0, "duration": 5.0, "frames_indices": [0, 4, 9]}
    whole = Video([Image.fromarray(frame) for frame in FRAMES], fps=0.5)
    assert (whole.times, whole.length, whole.shape) == ((0, 2, 4), 3, (3, 5, 4))
    np.testing.assert_array_equal(whole.pixels(), FRAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 0}, "fps of a video is 0: give frames a second"),
        ({"fps": float("nan")}, "fps of a video is nan"),
        ({"fps": True}, "fps of a video is True"),
        ({"frames": FRAMES.astype(float)}, r"float64 \(3, 4, 5, 3\): give uint8"),
        ({"frames": FRAMES[0]}, r"uint8 \(4, 5, 3\): give uint8"),
        ({"frames": []}, "no frames"),
        ({"indices": (0, 1)}, "must be 3 rising numbers from 0 to 1"),
        ({"indices": (0, 2, 2)}, "must be 3 rising numbers"),
        ({"indices": (0, 1, 5), "n_film": 5}, "must be 3 rising numbers from 0 to 4"),
    ],
)
def test_a_video_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Video(**{"frames": FRAMES, "fps": 1.0} | arguments)


def test_a_folder_is_read_in_the_order_of_its_numbers_and_decoded_when_looked_at(tmp_path):
    folder = folder_of(tmp_path / "film", 12)
    (folder / ".hidden").write_text("x")
    footage = FrameFolder(folder, 4.0, 4)
    footage.check()
    video = footage.video()
    assert isinstance(video.frames, Album)
    assert (video.places, video.length, video.shape) == ((0, 3, 7, 11), 12, (4, 6, 4))
    assert greys(video) == [0, 3, 7, 11]
    assert greys(FrameFolder(folder, 4.0, 99).video()) == [*range(12)]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda d: (d / "notes.txt").write_text("x"), VideoError, r"notes\.txt, which is no picture"),
        (lambda d: Image.new("RGB", (7, 4)).save(d / "frame_1.png"), VideoError, "of 6 x 4 and of 7 x 4 pixels"),
        (lambda d: [file.unlink() for file in d.iterdir()], VideoError, "holds no frames"),
        (lambda d: d.rename(d.parent / "gone"), MissingVideoError, "is missing"),
        (lambda d: (d / "frame_1.png").write_bytes(b"x"), TaskError, "no known format"),
        (lambda d: (d / "frame_9.png").symlink_to(d.parent.parent / "o.png"), OutsidePictureError, "images_outside"),
    ],
)
def test_a_folder_that_cannot_be_shown_is_refused(tmp_path, spoil, error, message):
    Image.new("RGB", (6, 4)).save(tmp_path / "o.png")
    folder = folder_of(tmp_path / "in" / "film", 3)
    spoil(folder)
    with pytest.raises(error, match=message):
        FrameFolder(folder, 1.0, 8, tmp_path / "in").check()


@pytest.mark.parametrize("most", [0, 2000, 2.0, True])
def test_frames_are_counted_within_bounds(most):
    with pytest.raises(ValueError, match=r"task\.frames is .* give a whole number from 1 to 1024"):
        check_most(most, "task.frames")


def test_the_task_checks_its_fields():
    with pytest.raises(ValueError, match=r"task\.frames is 0"):
        FilesTask("x", frames=0)
    with pytest.raises(ValueError, match=r"task\.fps is -1"):
        FilesTask("x", fps=-1)


def test_own_files_with_videos(tmp_path):
    for i in range(2):
        folder_of(tmp_path / f"film{i}", 5)
    layouts.picture(tmp_path / "a.jpg", 0)
    asked = {"question": "What happens?", "answers": ["it rains"]}
    rows = [
        {"video": "film0", "fps": 2.5} | asked,
        {"video": ["film0", "film1"], "image": "a.jpg"} | asked,
        {"image": "a.jpg"} | asked,
        {"video": "film9"} | asked,
        {"video": []} | asked,
        {"video": "film0", "fps": 0} | asked,
        {"video": "film0", "fps": "2"} | asked,
    ]
    task = FilesTask(str(layouts.jsonl(tmp_path / "mine.jsonl", rows)), split="all", frames=3, fps=0.5)
    first, both, still = task.samples()
    assert [len(sample.images) for sample in (first, both, still)] == [0, 1, 1]
    assert [video.fps for video in (*first.videos, *both.videos)] == [2.5, 0.5, 0.5]
    assert (greys(first.videos[0]), first.videos[0].times) == ([0, 2, 4], (0, 0.8, 1.6))
    assert still == Sample(
        "3", Album((FilePicture(tmp_path / "a.jpg", tmp_path),)), "What happens?", ("it rains",), "mine"
    )
    left_out, said = task.notes()
    assert "1 with a missing video" in left_out
    assert "film9 is missing" in left_out
    assert "1 with no video" in left_out
    assert "2 with fps that is no number above 0" in left_out
    assert said == "task files: 2 frame folders come without fps and count as 0.5 a second (task.fps)"


def test_a_video_file_names_the_extra_where_pyav_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    rows = [{"video": "clip.mp4", "question": "What?", "answers": "this"}]
    task = FilesTask(str(layouts.jsonl(tmp_path / "mine.jsonl", rows)), split="all")
    with pytest.raises(TaskError, match=r"clip\.mp4 is a video file: pip install 'autoprune-lab\[video\]'"):
        task.notes()


def stub_av(n_told, n_there, rotation=0):
    """Stands in for PyAV, which is not installed here: the calls that are made of it, and frames of grey i."""
    frames = [
        SimpleNamespace(rotation=rotation, to_image=lambda i=i: Image.new("RGB", (6, 4), (i, i, i)))
        for i in range(n_there)
    ]
    stream = SimpleNamespace(codec_context=SimpleNamespace(width=6, height=4), average_rate=Fraction(30000, 1001))

    @contextmanager
    def opened(path, options):
        assert "hls" not in options["format_whitelist"]
        if b"broken" in Path(path).read_bytes():
            raise OSError("invalid data")
        yield SimpleNamespace(
            streams=SimpleNamespace(video=[stream]),
            demux=lambda _: [*(SimpleNamespace(size=1) for _ in range(n_told)), SimpleNamespace(size=0)],
            decode=lambda _: iter(frames),
        )

    return SimpleNamespace(open=opened)


def test_which_frames_of_a_file_are_decoded(tmp_path, monkeypatch):
    """With a stub: that PyAV itself decodes is not shown here."""
    monkeypatch.setitem(sys.modules, "av", stub_av(10, 10))
    (tmp_path / "clip.mp4").write_bytes(b"x")
    video = VideoFile(tmp_path / "clip.mp4", 4, tmp_path).video()
    assert isinstance(video.frames, Clip)
    assert (video.places, video.length, video.shape) == ((0, 3, 6, 9), 10, (4, 6, 4))
    assert video.times[-1] == pytest.approx(9 * 1001 / 30000)
    assert greys(video) == [0, 3, 6, 9]
    assert np.asarray(video.frames[2])[0, 0, 0] == 6


@pytest.mark.parametrize(
    ("stub", "content", "message"),
    [
        (stub_av(10, 7), b"x", "ends before frame 9"),
        (stub_av(10, 10, 90), b"x", "to be turned by 90 degrees"),
        (stub_av(0, 0), b"x", "has 0 frames"),
        (stub_av(10, 10), b"broken", "cannot be decoded: invalid data"),
    ],
)
def test_a_file_that_is_not_as_it_says_is_refused(tmp_path, monkeypatch, stub, content, message):
    monkeypatch.setitem(sys.modules, "av", stub)
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=message):
        VideoFile(tmp_path / "clip.mp4", 4).video().pixels()


def test_a_study_from_before_videos_is_made_of_the_same():
    assert is_as_before("task.frames", 8)
    assert is_as_before("task.tasks.files.fps", 1.0)
    assert not is_as_before("task.frames", 9)
    assert not is_as_before("model.frames", 8)


def test_a_model_that_takes_no_videos_is_named_before_it_is_loaded(here, checkpoint, capsys, no_model):
    folder_of(here / "film", 3)
    layouts.jsonl(here / "mine.jsonl", [{"video": "film", "fps": 1, "question": "What?", "answers": "this"}])
    words = ["task=files", "task.path=mine.jsonl", "task.split=all", f"model.path={checkpoint}"]
    for command in ("evaluate", "study"):
        refused([command, *words], ["LlavaProcessor takes no videos: give frames as a list of images"], capsys, here)
