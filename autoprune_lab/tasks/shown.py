"""A decoded picture of any kind as a viewer shows it: upright, eight bits a colour, on white paper."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112  # the EXIF tag
TIFF_BITS, TIFF_ZERO = 258, 262  # tags: bits a sample; whether 0 is white (0) or black (1)
SIXTEEN_BITS = (1 << 16) - 1


def shown(image: "Image") -> "Image":
    """The picture in RGB, turned as its EXIF data say.

    Grey of 10 to 16 bits is scaled by the format's range, never clipped; floats are taken for grey from 0 to 1.
    What is transparent lies on white. Raises ValueError where no range is known: 32-bit integers, floats beyond 0
    and 1. Colour profiles are not applied.

    Differs: evaluation scripts call `convert("RGB")`, which clips deep pictures, ignores EXIF and shows what colour
    transparent pixels happen to have, mostly black.
    """
    from PIL import Image

    image.load()
    turned = _upright(_eight_bits(image), orientation(image))
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    seen = turned.convert("LA").convert("RGBA") if turned.mode == "La" else turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def orientation(image: "Image") -> int:
    """EXIF's, 1 to 8, of what has been read of the file; 1 where there is none, or none that can be read."""
    from PIL import Image

    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    try:
        found = Image.Image.getexif(image).get(ORIENTATION, 1)  # the base class's: PNG's own would decode the picture
    except Exception:  # viewers show a picture with broken EXIF data as it lies
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _upright(image: "Image", orientation: int) -> "Image":
    from PIL.Image import Transpose

    moves = (
        None, Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM,
        Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90,
    )  # fmt: skip
    move = moves[orientation - 1]
    return image if move is None else image.transpose(move)


def _eight_bits(image: "Image") -> "Image":
    """Grey of more bits in eight; any other mode as it is."""
    from PIL import Image

    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:  # also where one is NaN
            raise ValueError(f"its floats go from {low:g} to {high:g}, and only 0 to 1 can be shown")
        part = values
    elif image.mode == "I" and image.format not in ("PNG", "PPM"):  # of these, Pillow opens 16 bits in this mode
        raise ValueError("nobody says which of its 32-bit integers is white")
    else:
        part = values / _highest(image)
    part = 1 - part if _tag(image, TIFF_ZERO) == 0 else part
    if isinstance(key := image.info.get("transparency"), int):  # the one value that is transparent
        part = np.where(values == key, 1.0, part)
    return Image.fromarray((part * 255).round().astype(np.uint8))


def _highest(image: "Image") -> int:
    """The value that is white."""
    bits = _tag(image, TIFF_BITS)
    return (1 << bits) - 1 if isinstance(bits, int) else SIXTEEN_BITS


def _tag(image: "Image", number: int) -> object:
    """The first value of a TIFF tag; None of another format."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value
