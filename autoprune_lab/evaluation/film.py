"""One episode of a closed loop, filmed: which patches stay at each of its decisions."""

from collections.abc import Iterator

import numpy as np

from autoprune_lab.evaluation.evaluate import generated
from autoprune_lab.evaluation.prompts import at_once
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.base import Episode, Sample, Task, TaskError
from autoprune_lab.trace.film import Decision, Film
from autoprune_lab.trace.patches import surviving_patches


def film(vlm: VLM, task: Task, sample: Sample, pruner: Pruner) -> Film:
    """The episode that begins with the sample, as `evaluate` plays it, under a pruner that is calibrated.

    TaskError where the task is no closed loop, and where its pictures are not squares of patches, one as the other.
    """
    episode = task.episode(sample)
    if episode is None:
        raise TaskError(f"task {task.name} is no closed loop: there is no episode to film")
    decisions = tuple(_decisions(vlm, task, episode, pruner))
    outcome = episode.outcome()
    return Film(sample.id, decisions, outcome, task.score(outcome, sample))


def _decisions(vlm: VLM, task: Task, episode: Episode, pruner: Pruner) -> Iterator[Decision]:
    while (sample := episode.look()) is not None:
        now, state = at_once(vlm, task, [sample]), episode.state()
        new, (trace,) = generated(
            vlm, now, now.batches[0], pruner, None, [], task.max_new_tokens, [episode.history], keep_indices=True
        )
        try:
            by_layer = [surviving_patches(trace, layer, len(sample.images)) for layer in range(len(trace.counts))]
        except ValueError as error:
            raise TaskError(f"the patches of {task.name} cannot be filmed: {error}") from error
        pictures = tuple(np.asarray(image.convert("RGB")) for image in sample.images)
        counted = np.mean([kept.sum((1, 2)) for kept in by_layer], axis=0)
        yield Decision(pictures, by_layer[-1], counted, trace.complexity, trace.flops_ratio, state)
        episode.history = trace.history
        (answer,) = vlm.processor.batch_decode(new, skip_special_tokens=True)  # type: ignore[no-untyped-call]
        episode.act(answer)
