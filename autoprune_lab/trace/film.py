"""A film of one episode: what stays of its pictures as a GIF, and its figures decision by decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from PIL import Image

from autoprune_lab.fronts.shown import ShownFigure
from autoprune_lab.fronts.styles import COLOURS
from autoprune_lab.trace.contact_sheet import dimmed

SECONDS = "seconds"  # of the states that an episode tells, the one that is the time
MILLISECONDS = 500  # that the GIF shows a decision
WIDTH = 600  # pixels of the GIF, about
GAP = 2  # white pixels between two pictures, before they are enlarged
SHADES = 64
HEIGHT = 1.8  # inches of one panel


@dataclass(frozen=True, eq=False)
class Decision:
    """One decision: the pictures that were shown, and what became of their tokens.

    `kept`: which patches entered the last layer. `tokens`: of each picture, entering a layer, mean over layers.
    `complexity` in bits or layers, as the estimator has it; None where the policy is not adaptive. `flops_ratio` as
    that of a `SampleTrace`. `state`: what the episode said of itself, see `Episode.state`.
    """

    pictures: tuple[UInt8[np.ndarray, "height width 3"], ...]
    kept: Bool[np.ndarray, "pictures rows columns"]
    tokens: Float[np.ndarray, "pictures"]
    complexity: float | None
    flops_ratio: float
    state: Mapping[str, float]


@dataclass(frozen=True)
class Film:
    """One episode: the id of the sample that it began with, its decisions in order, what came of it, its score."""

    id: str
    decisions: tuple[Decision, ...]
    outcome: str
    score: float

    def rows(self) -> list[dict[str, float | int | None]]:
        """One row a decision, for a table: `tokens/I` are those of picture I."""
        return [
            {
                "decision": i,
                **one.state,
                "complexity": one.complexity,
                "flops_ratio": one.flops_ratio,
                **{f"tokens/{j}": float(n) for j, n in enumerate(one.tokens)},
            }
            for i, one in enumerate(self.decisions)
        ]

    def write_gif(self, file: Path) -> None:
        """The pictures side by side, half a second a decision; patches that do not enter the last layer are dark."""
        frames = [_frame(one).quantize(SHADES) for one in self.decisions]
        frames[0].save(
            file, "GIF", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, optimize=True
        )

    def plot(self, names: Sequence[str] = ()) -> Figure:
        """Complexity, tokens of each picture, FLOPs and the episode's own states over its time.

        `names` of the pictures, in their order; without any they are counted.
        """
        states = {name: [one.state[name] for one in self.decisions] for name in self.decisions[0].state}
        times = states.pop(SECONDS, [float(i) for i in range(len(self.decisions))])
        tokens = np.array([one.tokens for one in self.decisions]).T
        complexity = [one.complexity for one in self.decisions if one.complexity is not None]
        panels = {"complexity": [complexity]} if complexity else {}
        panels |= {"tokens kept\nmean over layers": list(tokens)}
        panels |= {"FLOPs ratio": [[one.flops_ratio for one in self.decisions]]}
        panels |= {name: [values] for name, values in states.items()}
        figure = ShownFigure(figsize=(7.5, HEIGHT * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for i, values in enumerate(lines):
                told = names[i] if i < len(names) else f"picture {i}"
                axis.plot(times, values, marker=".", color=COLOURS[i % len(COLOURS)], label=told)
            axis.set_ylabel(title)
            axis.grid(alpha=0.3)
            if len(lines) > 1:
                axis.legend(frameon=False, ncols=len(lines), fontsize=8)
        axes[-1].set_xlabel(SECONDS if SECONDS in self.decisions[0].state else "decision")
        axes[0].set_title(f"{self.id}, score {self.score:.3f}", fontsize=10)
        return figure


def _frame(decision: Decision) -> Image.Image:
    """The pictures in a row, dropped patches dark, about WIDTH wide: enlarged by a whole number, or made smaller."""
    shown = [dimmed(*pair) for pair in zip(decision.pictures, decision.kept, strict=True)]
    height = max(len(picture) for picture in shown)
    strips = [np.pad(one, ((0, height - len(one)), (0, GAP), (0, 0)), constant_values=255) for one in shown]
    image = Image.fromarray(np.concatenate(strips, axis=1)[:, :-GAP])
    if image.width <= WIDTH:
        times = WIDTH // image.width
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    return image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))), Image.Resampling.BOX)
