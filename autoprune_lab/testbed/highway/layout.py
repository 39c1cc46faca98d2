"""The highway model's layout: three views of 64 visual tokens, a decoder of 12 layers x 96."""

from autoprune_lab.testbed.build import SPECIAL, Layout
from autoprune_lab.testbed.highway.scene import IMAGE_SIZE, PATCH
from autoprune_lab.testbed.highway.wording import words

N_LAYERS, HIDDEN = 12, 96


def vocabulary() -> list[str]:
    """Special tokens, then every word of the world."""
    return [*SPECIAL, *words()]


def layout() -> Layout:
    """What `build` needs to make processor and model."""
    return Layout(tuple(vocabulary()), IMAGE_SIZE, PATCH, N_LAYERS, HIDDEN, digits_apart=False)
