"""A figure that a notebook shows."""

import io

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The figure as a notebook shows it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
    return stream.getvalue()


class ShownFigure(Figure):
    """A figure that IPython shows in any kernel, whether or not a backend was chosen (`%matplotlib inline`)."""

    def _repr_png_(self) -> bytes:
        return png(self)
