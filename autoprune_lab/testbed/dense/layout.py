"""The `dense` model's layout: CLIP 3 x 128 with [CLS], 225 visual tokens, a decoder of 16 layers x 96."""

from autoprune_lab.testbed.build import SPECIAL, Layout
from autoprune_lab.testbed.dense.scene import COLOURS, IMAGE_SIZE, PATCH, SHAPES
from autoprune_lab.testbed.dense.wording import ANSWERS, OPENERS, TEMPLATES
from autoprune_lab.testbed.shapes.wording import SIDES

N_LAYERS, HIDDEN = 16, 96


def vocabulary() -> list[str]:
    """Special tokens, then every word that the templates and answers can use, sorted."""
    words = {word for group in TEMPLATES.values() for text in group for word in text.split() if word[0] != "{"}
    words |= {word for group in ANSWERS.values() for word in group if not word.isdigit()}
    words |= {*OPENERS, *COLOURS, *SHAPES, "things", "shapes", *" ".join(SIDES).split()}
    return [*SPECIAL, *"0123456789", *sorted(words)]


def layout(n_layers: int = N_LAYERS, hidden: int = HIDDEN) -> Layout:
    """What `build` needs to make processor and model."""
    return Layout(tuple(vocabulary()), IMAGE_SIZE, PATCH, n_layers, hidden, digits_apart=True)
