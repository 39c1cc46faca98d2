"""The baseline that prunes nothing: smaller pictures, so that the unpruned model costs what pruned ones do."""

from collections.abc import Sequence
from pathlib import Path

from autoprune_lab.evaluation.downsampling import DownsamplingError, Reader, downsampled, enlarged, fixed_tokens
from autoprune_lab.models.checkpoint import load_processor, model_config
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.tasks.base import Task
from search.methods.arms import DOWNSAMPLE, Arm, paper_part, paper_ratio, typical_of


def downsample_arms(
    checkpoint: Path, trusted: bool, task: Task, tokens: Sequence[float], geometries: Sequence[Geometry]
) -> list[Arm]:
    """One arm a budget; no weights are read, no picture is decoded. `trusted`: the checkpoint's own code may run.

    Where the processor gives every picture the same number of tokens, or some prompt stays too dear, the arm is out of
    reach. Shown are then pictures that lost as many pixels and were brought back to their size, whose answers part the
    samples into groups, and are in no row.

    Source: arXiv 2510.07143 (VTC-Bench): down-sampling at equal tokens, and as a filter for difficult samples.
    Differs: equal FLOPs, text included, for every prompt by itself.
    """
    typical = typical_of(geometries)
    reader = Reader(load_processor(checkpoint, trusted), model_config(checkpoint, trusted)[1], typical)
    fixed = fixed_tokens(task.samples(), reader)
    return [_arm(reader, task, count, typical, fixed) for count in tokens]


def _arm(reader: Reader, task: Task, tokens: float, typical: Geometry, fixed: int | None) -> Arm:
    bound = paper_ratio(tokens, typical)
    note = f"the processor reads a picture as {fixed} tokens whatever its size"
    if fixed is None:
        try:
            return Arm(DOWNSAMPLE, tokens, bound, None, shown=downsampled(task, reader, bound))
        except DownsamplingError as error:
            note = f"floor {error.floor:.3f}"
    return Arm(DOWNSAMPLE, tokens, bound, None, note, enlarged(task, paper_part(tokens, typical)))
