"""Pictures of every kind are shown as a viewer shows them, or refused by name; none clips, hangs or explodes."""

import io
import os

import numpy as np
import pytest
from layouts import BytesPicture
from PIL import Image, ImageFile

from autoprune_lab.tasks import pictures
from autoprune_lab.tasks.pictures import (
    Base64Picture,
    FilePicture,
    MissingPictureError,
    OutsidePictureError,
    Picture,
    PictureError,
)

RAMP = np.linspace(0, 1, 1200).reshape(30, 40)
RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **how)
    return stream.getvalue()


def opened(content: bytes) -> Image.Image:
    picture = BytesPicture(content, "it")
    image = picture.open()
    assert image.mode == "RGB"
    assert picture.check() == image.size
    return image


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(opened(content))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_by_their_range(kind):
    deep = (RAMP * 65535).round().astype(np.uint16)
    seen = pixels(encoded(deep, kind))
    assert (seen == (deep / 257).round().astype(np.uint8)[..., None]).all()


def test_twelve_bits_of_a_tiff_are_scaled_by_their_range():
    packed = bytes((0xFF, 0xF0, 0x00, 0x80, 0x00, 0x00))  # 4095, 0, 2048, 0
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 6}
    entries = [
        number.to_bytes(2, "little") + b"\3\0\1\0\0\0" + value.to_bytes(4, "little") for number, value in tags.items()
    ]
    content = b"II*\0\x10\0\0\0" + packed + b"\0\0" + len(tags).to_bytes(2, "little") + b"".join(entries) + b"\0" * 4
    assert pixels(content)[0, :, 0].tolist() == [255, 0, 128, 0]


def test_white_may_be_zero():
    deep = (RAMP * 65535).astype(np.uint16)
    turned = pixels(encoded(deep, "TIFF", tiffinfo={262: 0}))
    assert (turned == 255 - pixels(encoded(deep, "TIFF"))).mean() > 0.99  # but for halves, which are rounded up


def test_floats_from_0_to_1_are_grey():
    seen = pixels(encoded(RAMP.astype(np.float32), "TIFF"))
    assert (seen == (RAMP.astype(np.float32) * 255.0).round().astype(np.uint8)[..., None]).all()


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ((RAMP * 255).astype(np.float32), "floats go from 0 to 255, and only 0 to 1 can be shown"),
        (np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32), "floats go from nan to nan"),
        (np.arange(12, dtype=np.int32).reshape(3, 4), "which of its 32-bit integers is white"),
    ],
)
def test_what_has_no_range_is_refused(image, why):
    with pytest.raises(PictureError, match=f"it cannot be decoded: .*{why}"):
        BytesPicture(encoded(image, "TIFF"), "it").check()


def two_halves(mode: str) -> Image.Image:
    """Red at the left, and at the right black that nobody sees."""
    values = np.zeros((4, 8, 4), np.uint8)
    values[:, :4] = (*RED, 255)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_lies_on_white(kind):
    seen = pixels(encoded(two_halves("RGBA"), kind, lossless=True))
    assert tuple(seen[0, 0]) == RED
    assert tuple(seen[0, 7]) == WHITE


def test_transparent_colours_of_palette_grey_and_rgb_lie_on_white_too():
    values = np.array([[0, 1]], np.uint8)
    palette = Image.fromarray(values, "P")
    palette.putpalette([0, 0, 0, *RED])
    assert pixels(encoded(palette, "PNG")).tolist() == [[[0, 0, 0], list(RED)]]
    assert pixels(encoded(palette, "PNG", transparency=0)).tolist() == [[list(WHITE), list(RED)]]
    assert pixels(encoded(Image.fromarray(values), "PNG", transparency=0))[0, :, 0].tolist() == [255, 1]
    assert pixels(encoded(two_halves("RGB"), "PNG", transparency=(0, 0, 0)))[0, 7].tolist() == list(WHITE)
    assert pixels(encoded(two_halves("LA"), "PNG"))[0, 7].tolist() == list(WHITE)
    deep = np.array([[0, 65535]], np.uint16)
    assert pixels(encoded(deep, "PNG", transparency=0))[0, :, 0].tolist() == [255, 255]


def test_an_opaque_picture_stays_as_it_is():
    values = np.random.default_rng(0).integers(0, 255, (9, 9, 4), dtype=np.uint8)
    values[..., 3] = 255
    assert (pixels(encoded(values, "PNG")) == values[..., :3]).all()


def test_cmyk_is_converted():
    seen = pixels(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(seen.astype(int) - RED).max() < 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
def test_exif_turns_the_picture(kind, orientation, corner):
    """The first pixel stored is seen in this corner, after https://exiftool.org/TagNames/EXIF.html."""
    values = np.zeros((32, 48, 3), np.uint8)
    values[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = opened(encoded(values, kind, exif=exif))
    assert image.size == ((32, 48) if orientation >= 5 else (48, 32))
    corners = {(y, x): int(np.asarray(image)[y, x, 0]) for y in (0, -1) for x in (0, -1)}
    assert {place for place, value in corners.items() if value > 128} == {corner}


def test_broken_exif_data_turn_nothing():
    assert opened(encoded(np.zeros((2, 3, 3), np.uint8), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).size == (3, 2)


@pytest.mark.parametrize(("limit", "word"), [(200, "exceeds limit"), (100, "exceeds limit")])  # Pillow warns, or raises
def test_a_picture_beyond_pillows_limit_is_refused_by_name(monkeypatch, limit, word):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(PictureError, match=f"it cannot be decoded: .*{word}"):
        BytesPicture(encoded(np.zeros((15, 18, 3), np.uint8), "PNG"), "it").check()


@pytest.fixture
def n_decoded(monkeypatch):
    """Counts pictures that are decoded."""
    seen = []
    plain = Picture.open
    monkeypatch.setattr(Picture, "open", lambda self: seen.append(self) or plain(self))
    return seen


def test_a_check_decodes_only_what_does_not_end_as_it_should(n_decoded):
    noise = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG"):
        BytesPicture(encoded(noise, kind), "it").check()
    assert not n_decoded
    for kind in ("WEBP", "BMP", "GIF"):
        BytesPicture(encoded(noise, kind), "it").check()
    assert len(n_decoded) == 3
    BytesPicture(encoded(noise, "JPEG") + b"\0" * 99, "it").check()
    assert len(n_decoded) == 4


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_a_cut_picture_is_found(kind, filled, monkeypatch):
    """Also where another library has told Pillow to fill up what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", filled)
    content = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), kind)
    with pytest.raises(PictureError, match="it cannot be decoded"):
        BytesPicture(content[: len(content) // 2], "it").check()


def test_postscript_is_never_run(monkeypatch):
    """Pillow would start Ghostscript for it, where there is one."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("it was run"))
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(PictureError, match="it is PostScript, a program, which is never run"):
        BytesPicture(page, "x").check()


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, pictures.Path("/dev/zero")):
        with pytest.raises(PictureError, match=f"{path} cannot be read: it is no regular file"):
            FilePicture(path).check()
    for name in ("none.png", "a\0b.png", "x" * 300):
        with pytest.raises(PictureError, match=r"is missing|cannot be read"):
            FilePicture(tmp_path / name).check()


def test_links_and_dots_do_not_lead_out_of_the_folder(tmp_path):
    content = encoded(np.zeros((2, 3, 3), np.uint8), "PNG")
    folder = tmp_path / "in"
    for place in (tmp_path / "out", folder / "deep"):
        place.mkdir(parents=True)
        (place / "a.png").write_bytes(content)
    (folder / "link.png").symlink_to(tmp_path / "out" / "a.png")
    (folder / "inner.png").symlink_to(folder / "deep" / "a.png")
    (tmp_path / "alias").symlink_to(folder)
    for name in ("deep/a.png", "deep/../deep/a.png", "inner.png", str(folder / "deep" / "a.png")):
        for home in (folder, tmp_path / "alias"):
            assert FilePicture(home / name, home).check() == (3, 2)
    for name in ("link.png", "../out/a.png", str(tmp_path / "out" / "a.png")):
        with pytest.raises(OutsidePictureError, match=r"task\.images_outside=true"):
            FilePicture(folder / name, folder).check()
        assert FilePicture(folder / name).check() == (3, 2)
    (tmp_path / "in2").mkdir()
    (tmp_path / "in2" / "a.png").write_bytes(content)
    with pytest.raises(OutsidePictureError):  # not by the name alone
        FilePicture(folder / "../in2/a.png", folder).check()


def test_the_hubs_cache_is_made_of_links(tmp_path):
    repository = tmp_path / "datasets--a--b"
    snapshot = repository / "snapshots" / "abc"
    for place in (snapshot / "images", repository / "blobs"):
        place.mkdir(parents=True)
    (repository / "blobs" / "0123").write_bytes(encoded(np.zeros((2, 3, 3), np.uint8), "PNG"))
    (snapshot / "images" / "a.png").symlink_to("../../../blobs/0123")
    assert FilePicture(snapshot / "images" / "a.png", snapshot / "images").check() == (3, 2)


@pytest.mark.parametrize(
    ("cell", "error"), [("", MissingPictureError), (None, MissingPictureError), ("a*b", PictureError)]
)
def test_a_cell_without_base64_is_refused(cell, error):
    with pytest.raises(error, match="row 3 holds no"):
        Base64Picture(cell, "row 3").check()
