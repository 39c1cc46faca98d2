"""Trace: what really happened to each sample while a pruner was attached."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoprune_lab.html_table import html_table
from autoprune_lab.trace.sample import SampleTrace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from autoprune_lab.trace.patches import Picture


class UnprunedWarning(UserWarning):
    """Nothing was pruned in a with-block, or not all visual tokens were."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Samples in the order they were prefilled, over all calls; beam search prefills each once per beam.

    `late_vision`: how many visual tokens a call kept whole, in no sample's counts, because they came after a prompt:
    on a cache that already held one, or behind `n_prompt`. One entry for each such call.
    """

    samples: list[SampleTrace] = field(default_factory=list)
    late_vision: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        late = f", {len(self.late_vision)} calls kept visual tokens whole" if self.late_vision else ""
        return f"Trace({len(self.samples)} samples{late})"

    def _repr_html_(self) -> str:
        """What each sample kept and cost, in a notebook."""
        headers = ["sample", "visual tokens", "text tokens", "enter the last layer", "FLOPs ratio", "complexity"]
        rows = [
            (i, one.geometry.n_vision, one.geometry.n_text, int(one.counts[-1]), one.flops_ratio, one.complexity)
            for i, one in enumerate(self.samples)
        ]
        return html_table(repr(self), headers, rows)

    def plot(
        self,
        images: "Picture | Sequence[Picture]",
        sample: int = 0,
        layers: Sequence[int] | None = None,
        grid: tuple[int, int] | None = None,
        times: Sequence[float | int] | None = None,
    ) -> "Figure":
        """Draw which patches of `samples[sample]` enter which layers: kept ones bright, dropped ones dark.

        `images` are the sample's pictures as the model sees them (cropped, where its processor crops), each a
        PIL image or an array (height, width[, 3]). One column a layer; by default the first layer and those
        where tokens fall, at most five of them. `grid` is the (rows, columns) of patches of one image; by
        default a square. Needs `attach(model, keep_indices=True)`; ValueError without, or for another grid.

        With `times`, seconds of each, `images` are the frames of the prompt's one video (`Video.frames`,
        `Video.times`): one row a layer, of at most eight frames. Where the model merges frames (Qwen-VL: two), the
        first of each step is drawn and `grid` must be given; a token more than the grids hold is the newline that
        LLaVA-OneVision ends a video with.
        """
        from autoprune_lab.trace import patches  # here: tracing needs no matplotlib

        if times is not None:
            return patches.plot_frames(self.samples[sample], images, times, layers, grid)
        return patches.plot_patches(self.samples[sample], images, layers, grid)
