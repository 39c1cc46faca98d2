"""The figure of which patches survive: what is shaded, where, and what is said above it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.trace.patches import SHADE, surviving_patches
from autoprune_lab.trace.sample import SampleTrace
from autoprune_lab.trace.trace import Trace

KEPT = [[*range(8)], [0, 1, 5, 6], [1]]  # of 2 images of 2 x 2 patches, or of one of 2 x 4
PICTURE = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def trace_of(kept, n_vision):
    counts = np.array([len(indices) for indices in kept])
    geometry = Geometry(len(kept), 8, 8, 2, 2, 4, n_vision=n_vision, n_text=3)
    return Trace([SampleTrace(geometry, counts, counts, 0, 0, kept=[np.array(indices, dtype=int) for indices in kept])])


@pytest.fixture
def trace():
    return trace_of(KEPT, 8)


def shades(figure):
    """The opacity over each panel's patches, panels in reading order."""
    return [axes.images[1].get_alpha() for axes in figure.axes]


def test_dropped_patches_of_every_image_are_shaded(trace):
    figure = trace.plot([PICTURE, np.asarray(PICTURE)])
    whole, dark = np.zeros((2, 2)), SHADE
    expected = [
        whole, [[0, 0], [dark, dark]], [[dark, 0], [dark, dark]],
        whole, [[dark, 0], [0, dark]], [[dark, dark], [dark, dark]],
    ]  # fmt: skip
    np.testing.assert_array_equal(shades(figure), expected)
    titles = ["layer 0: 4 of 4", "layer 1: 2 of 4", "layer 2: 1 of 4"]
    assert [axes.get_title() for axes in figure.axes] == [*titles, *titles[:2], "layer 2: 0 of 4"]
    for axes in figure.axes:
        np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(PICTURE))


def test_shade_and_picture_cover_the_same_place(trace):
    figure = trace.plot(np.zeros((6, 20)), layers=[1], grid=(2, 4))
    (axes,) = figure.axes
    assert [image.get_extent() for image in axes.images] == [[0, 20, 6, 0]] * 2
    np.testing.assert_array_equal(shades(figure)[0] == 0, [[1, 1, 0, 0], [0, 1, 1, 0]])


def test_the_patch_that_ends_a_prompt_is_never_shaded():
    record = replace(trace_of([[0, 1, 2], [1]], 3).samples[0], ends_in_picture=True)
    np.testing.assert_array_equal(surviving_patches(record, 1, 1), [[[False, True], [False, True]]])


def test_a_grey_picture_is_drawn_grey(trace):
    (axes,) = trace.plot(PICTURE.convert("L"), layers=[0], grid=(2, 4)).axes
    shown = axes.images[0].get_array()
    assert shown.shape == (4, 4, 3)
    assert (shown == shown[..., :1]).all()


@pytest.mark.parametrize(
    ("images", "grid", "message"),
    [
        (PICTURE, None, r"8 visual tokens are not 1 images of 2 x 2 patches: .* grid="),
        (PICTURE, (3, 3), "not 1 images of 3 x 3 patches"),
        ([PICTURE] * 3, None, "not 3 images of 1 x 1 patches"),
        ([], None, "not 0 images"),
    ],
)
def test_a_grid_that_the_patches_do_not_fill_is_refused(trace, images, grid, message):
    with pytest.raises(ValueError, match=message):
        trace.plot(images, grid=grid)


def test_a_sample_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="0 visual tokens"):
        trace_of([[], []], 0).plot(PICTURE)


def test_a_trace_without_indices_names_the_remedy(trace):
    record = trace.samples[0]
    bare = SampleTrace(record.geometry, record.planned, record.counts, 0, 0)
    with pytest.raises(ValueError, match="keep_indices=True"):
        Trace([bare]).plot(PICTURE)


FILM = np.arange(4 * 4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 4, 3)


def test_frames_of_a_video_are_a_row_a_layer():
    record = trace_of([[*range(16)], [0, 5, 6, 15]], 16)
    figure = record.plot(FILM, times=(0, 0.5, 1, 1.5))
    assert len(figure.axes) == 8
    kept = np.zeros(16, dtype=bool)
    kept[[0, 5, 6, 15]] = True
    np.testing.assert_array_equal(np.array(shades(figure)[4:]) == 0, kept.reshape(4, 2, 2))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[1] == "layer 0, 0.5 s: 4 of 4"
    assert [title.split(": ")[1] for title in titles[4:]] == ["1 of 4", "2 of 4", "0 of 4", "1 of 4"]
    for axes, frame in zip(figure.axes, [*FILM, *FILM], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), frame)


def test_frames_that_the_model_merges_are_one_step_and_a_newline_is_no_patch():
    record = trace_of([[*range(17)], [0, 9, 16]], 17)
    figure = record.plot([Image.fromarray(frame) for frame in FILM], times=(0, 1, 2, 3), layers=[1], grid=(2, 4))
    assert [axes.get_title() for axes in figure.axes] == ["layer 1, 0.0 s: 1 of 8", "layer 1, 2.0 s: 1 of 8"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), FILM[2])
    assert (shades(figure)[1] == 0).sum() == 1


def test_a_long_video_shows_eight_frames_from_the_first_to_the_last():
    record = trace_of([[*range(20 * 4)]], 20 * 4)
    figure = record.plot(np.zeros((20, 4, 4, 3), np.uint8), times=range(20), layers=[0])
    assert [axes.get_title().split(", ")[1] for axes in figure.axes] == [
        f"{second}.0 s: 4 of 4" for second in (0, 3, 5, 8, 11, 14, 16, 19)
    ]


@pytest.mark.parametrize(
    ("frames", "times", "grid", "message"),
    [
        (FILM[:3], (0, 1, 2), None, "16 visual tokens are not 3 frames"),
        (FILM, (0, 1, 2, 3), (3, 3), "16 visual tokens are not 4 frames, or equal groups of them, of 3 x 3 patches"),
        (FILM[:3], (0, 1, 2), (2, 4), "not 3 frames"),
        (FILM, (0, 1), None, "4 frames and 2 times"),
        (PICTURE, (0, 1), None, "1 frames and 2 times"),
    ],
)
def test_a_video_that_the_patches_do_not_fill_is_refused(frames, times, grid, message):
    with pytest.raises(ValueError, match=message):
        trace_of([[*range(16)]], 16).plot(frames, times=times, grid=grid)
