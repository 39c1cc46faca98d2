"""A pruned model for lmms-eval: `python -m lmms_eval --model autoprune --model_args path=CHECKPOINT,pruner=FILE`.

lmms-eval finds it by the entry point group `lmms_eval.models`; no other module imports this one.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NoReturn

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL.Image import Image

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.progress import progress
from autoprune_lab.statistics.records import Record, Records
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.shown import shown as as_shown
from search.methods.asked import Asked, pruner_of
from search.methods.shards import take_gpu

MOST_NEW_TOKENS = 1024  # where a task says nothing, as lmms-eval's own models do
PICTURE = "<image>"  # stands in the text of some tasks; the chat template puts its own


def manifest() -> ModelManifest:
    """What lmms-eval asks of a package that brings models."""
    return ModelManifest(model_id="autoprune", simple_class_path=f"{__name__}.{PrunedModel.__name__}")


class PrunedModel(lmms):  # type: ignore[misc]
    """Answers tasks about pictures greedily, pruned by a tuned pruner's file; without `pruner` unpruned.

    `packages`: those that the file may name code of, joined by `+`. The rest is as in `load_model`; pictures stand
    before the question, as the checkpoint's chat template puts them.
    """

    is_simple = True

    def __init__(
        self,
        path: str,
        pruner: str | None = None,
        packages: str = "",
        dtype: str = "auto",
        attention: str = "sdpa",
        device_map: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if not str(batch_size).isdigit() or int(batch_size) < 1 or max_batch_size is not None:
            raise ValueError(f"batch_size {batch_size} must be a whole number of at least 1, without max_batch_size")
        self.batch_size = int(batch_size)
        self.pruner = pruner_of(pruner, packages, "packages={} to --model_args") if pruner else None
        take_gpu()
        self.vlm = load_model(path, dtype, device or "auto", attention, device_map, revision)

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return self.vlm.model.device

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """One answer a request, in their order; a batch's pictures are opened when it is answered."""
        rows: dict[int, Record] = {}
        answers: dict[int, str] = {}
        for places, settings in progress(
            list(_batches(requests, self.batch_size)), doing="answering", unit="batches", shown=self.rank == 0
        ):
            samples = tuple(self._sample(requests[i].args, str(i)) for i in places)
            asked = Asked(samples, settings["max_new_tokens"], "lmms-eval")
            prepared = prepare(self.vlm, asked, batch_size=len(samples))
            if prepared.left_out:  # lmms-eval scores every request
                left = next(iter(prepared.left_out.values()))
                raise ValueError(f"request {left.id} cannot be shown to the model: {left.reason}")
            for i, row in zip(places, evaluate(self.vlm, prepared, self.pruner).rows, strict=True):
                rows[i] = row
                answers[i] = _until(row.prediction, settings["until"])
        if rows:
            spent = Records(tuple(rows.values()), 0.0)
            words = f"FLOPs ratio {spent.flops_ratio:.4f}, {spent.mean_tokens:.1f} visual tokens in a layer"
            print(f"autoprune: {len(rows)} answers, {words}", file=sys.stderr)
        return [answers[i] for i in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        """Not of this model: it answers."""
        raise NotImplementedError("autoprune answers questions; take a task of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        """Not of this model: one question, one answer."""
        raise NotImplementedError("autoprune answers one question at a time; take a task of output_type generate_until")

    def _sample(self, arguments: tuple[Any, ...], name: str) -> Sample:
        question, _, pictures_of, place, task, split = arguments
        shown = pictures_of(self.task_dict[task][split][place]) or []
        if strange := [picture for picture in shown if not isinstance(picture, Image)]:
            raise ValueError(f"task {task} shows a {type(strange[0]).__name__}: autoprune takes pictures only")
        pictures = [as_shown(picture) for picture in shown]
        return Sample(name, pictures, question.replace(PICTURE, "").strip(), (), str(len(pictures)))


def _batches(requests: Sequence[Instance], size: int) -> Iterator[tuple[list[int], Mapping[str, Any]]]:
    """Places of requests with the same settings and like lengths."""
    settings = [_settings(request.args[1], request.args[4]) for request in requests]
    order = sorted(range(len(requests)), key=lambda i: (repr(settings[i]), len(requests[i].args[0])))
    for _, group in groupby(order, key=lambda i: repr(settings[i])):
        places = list(group)
        for start in range(0, len(places), size):
            yield places[start : start + size], settings[places[0]]


def _settings(asked: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What of a task's generation_kwargs is used. Raises ValueError for an answer that is not greedy."""
    if asked.get("do_sample") or asked.get("temperature") or asked.get("num_beams", 1) not in (None, 1):
        raise ValueError(
            f"task {task} samples or searches beams: autoprune answers greedily; --gen_kwargs changes that"
        )
    until = asked.get("until") or []
    ends = [until] if isinstance(until, str) else list(until)
    return {"max_new_tokens": asked.get("max_new_tokens") or MOST_NEW_TOKENS, "until": ends}


def _until(answer: str, ends: Sequence[str]) -> str:
    """The answer up to the first of the words that end it."""
    return min((answer.partition(end)[0] for end in ends), key=len, default=answer)
