"""Model x pruner x task -> Records, one row a sample."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.decoder.attach import attached, needs_pixels
from autoprune_lab.decoder.checks import refuse_nan
from autoprune_lab.decoder.prefix import replayed
from autoprune_lab.evaluation.acting import acted
from autoprune_lab.evaluation.episodes import Played, one_row, played_out
from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import Batch, PreparedTask, at_once
from autoprune_lab.evidence.calibration import Calibrated, CalibrationError
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.history import History
from autoprune_lab.metrics.actions import worded
from autoprune_lab.models.actor import answers_in_actions, refuse_actions
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.generation import Certainty, greedily
from autoprune_lab.progress import progress as bar
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.curve import Shape
from autoprune_lab.schedule.flops import macs_3ndm, mean_tokens_entering, mean_tokens_leaving, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.policy import Policy, Signal
from autoprune_lab.selection.recovery import drop
from autoprune_lab.statistics.records import Record, Records
from autoprune_lab.tasks.base import Episode, Sample, TaskError
from autoprune_lab.trace.sample import SampleTrace

Judge = Callable[[str, int], float]


@dataclass(frozen=True)
class Block:
    """A block of a prepared task that has been answered: its own records, and those of all blocks so far."""

    number: int
    is_last: bool
    outcome: Records
    so_far: Records


def evaluate(
    vlm: VLM,
    prepared: PreparedTask,
    pruner: Pruner | None = None,
    progress: bool = False,
    complexities: Float[np.ndarray, "samples"] | None = None,
    after_block: Callable[[Block], None] | None = None,
    prefixes: Prefixes | None = None,
    judge: Judge | None = None,
) -> Records:
    """Answer every sample greedily, pruned by `pruner` (None: unpruned), and score the answers.

    `complexities`, in bits and in the task's order, are taken for what the pruner's own estimator would say. Rows
    come in the task's order. `seconds` is the wall time of generating, vision tower excluded where the prepared
    task holds its features. `after_block` is called when a block of `prepare(blocks=...)` is answered; what it raises
    ends the evaluation. With `prefixes`, layers before the first cut are computed once for all pruners: the same
    answers, sooner. `judge` scores an answer of the sample at a place instead of the task: then no label is read, and
    rows have none.

    Where the task is a closed loop, its episodes are played (`episodes.played_out`), one row an episode. TaskError
    where that is asked for with `complexities` or `judge`, which are about samples that are known before.
    """
    begun = [prepared.task.episode(sample) for sample in prepared.samples]
    if episodes := [episode for episode in begun if episode is not None]:
        if len(episodes) < len(begun) or complexities is not None or judge is not None:
            raise TaskError(
                f"task {prepared.task.name} is a closed loop: what it shows is not known before, so it can be measured "
                "by its own score alone, with a pruner that reads the samples itself, and as a task of its own"
            )
        return _play(vlm, prepared, episodes, pruner, progress, after_block)

    def answered(batch: Batch) -> list[Record]:
        told = pruner if pruner is None or complexities is None else _told(pruner, complexities[list(batch.places)])
        found = zip(batch.places, *_answer(vlm, prepared, batch, told, prefixes), strict=True)
        return [_record(prepared, place, answer, sure, trace, judge) for place, answer, sure, trace in found]

    return by_batch(prepared, answered, "answering", progress, after_block)


def _play(
    vlm: VLM,
    prepared: PreparedTask,
    episodes: Sequence[Episode],
    pruner: Pruner | None,
    progress: bool,
    after_block: Callable[[Block], None] | None,
) -> Records:
    """The records of a closed loop; all episodes of a block go on together, as many at a time as a batch holds."""

    def of_block(batch: Batch) -> list[Record]:
        played = _played(vlm, prepared, [episodes[place] for place in batch.places], pruner, progress)
        rows = []
        for place, (outcome, decisions) in zip(batch.places, played, strict=True):
            sample = prepared.samples[place]
            rows.append(one_row(sample, outcome, prepared.task.score(outcome, sample), decisions))
        return rows

    blocks: dict[int, list[int]] = {}
    for batch in prepared.batches:
        blocks.setdefault(batch.block, []).extend(batch.places)
    whole = [replace(prepared.batches[0], places=tuple(places), block=block) for block, places in blocks.items()]
    return by_batch(replace(prepared, batches=tuple(whole)), of_block, "playing", after_block=after_block)


def _played(
    vlm: VLM, prepared: PreparedTask, episodes: Sequence[Episode], pruner: Pruner | None, progress: bool
) -> list[Played]:
    """What came of each episode, and its decisions; as many go on together as the task's largest batch holds."""

    def decided(shown: Sequence[Episode], samples: Sequence[Sample]) -> list[Record]:
        now, rows = at_once(vlm, prepared.task, samples), []
        found = _answer(vlm, now, now.batches[0], pruner, None, [episode.history for episode in shown])
        for i, (episode, answer, sure, trace) in enumerate(zip(shown, *found, strict=True)):
            episode.history = trace.history
            rows.append(row_of(now, i, trace, 0.0, answer, (), sure))
        return rows

    return played_out(episodes, decided, max(len(batch.places) for batch in prepared.batches), progress)


def by_batch(
    prepared: PreparedTask,
    rows_of: Callable[[Batch], list[Record]],
    doing: str,
    progress: bool = False,
    after_block: Callable[[Block], None] | None = None,
) -> Records:
    """The rows that `rows_of` makes of each batch, one a place, in the task's order; `after_block` as in `evaluate`."""
    rows: dict[int, Record] = {}
    block: list[Record] = []
    start, last = time.perf_counter(), len(prepared.batches) - 1
    taken = bar(prepared.batches, doing=f"{doing} {prepared.task.name}", unit="batches", shown=progress)
    for i, batch in enumerate(taken):
        rows |= zip(batch.places, rows_of(batch), strict=True)
        block += [rows[place] for place in batch.places]
        if after_block is not None and (i == last or prepared.batches[i + 1].block != batch.block):
            seconds = time.perf_counter() - start
            so_far = Records(tuple(rows[place] for place in sorted(rows)), seconds)
            after_block(Block(batch.block, i == last, Records(tuple(block), seconds), so_far))
            block = []
    seconds = time.perf_counter() - start
    return Records(tuple(rows[i] for i in range(len(rows))), seconds, tuple(prepared.left_out.values()))


class _Read(Exception):  # noqa: N818 - not an error
    def __init__(self, told: np.ndarray) -> None:
        self.told = told


def read_complexities(vlm: VLM, prepared: PreparedTask, pruner: Pruner) -> Float[np.ndarray, "samples"]:
    """Every sample's complexity in bits; zeros for a policy that is not adaptive.

    They depend on the model, the task, the estimator, the probe layer and what opens before it, on nothing else of
    policy and budget (which need not be ready), and each prefill ends where the probe layer has run.
    """
    bits = np.zeros(len(prepared.samples))
    if not pruner.policy.adaptive:
        return bits

    def read(evidence: Evidence) -> np.ndarray:
        values = pruner.complexity(evidence).double().cpu().numpy()
        sighted = evidence.vision_mask.any(1).cpu().numpy()
        refuse_nan(bool(np.isnan(values[sighted]).any()), "complexity", pruner.complexity, evidence.layer)
        return np.where(sighted, values, 0.0)

    for places, told in _at_probe(vlm, prepared, pruner, read):
        bits[list(places)] = told
    return bits


@dataclass(frozen=True)
class _Everything(Policy):
    """Every token everywhere; the sample's number is read all the same."""

    adaptive: ClassVar[bool] = True

    def shape(self, signal: Signal) -> Shape:
        return np.ones(signal.n_layers)


def read_decisions(
    vlm: VLM, prepared: PreparedTask, pruner: Pruner, progress: bool = False
) -> tuple[Float[np.ndarray, "decisions"], list[Geometry]]:
    """Complexity and sizes of every decision of a closed loop's episodes; what a budget in the mean is calibrated on.

    The model plays unpruned but for what the budget opens, episode by episode; a pruner that makes it act otherwise
    meets other situations. Raises TaskError where the task is no closed loop.
    """
    begun = [prepared.task.episode(sample) for sample in prepared.samples]
    episodes = [episode for episode in begun if episode is not None]
    if len(episodes) < len(begun):
        raise TaskError(f"task {prepared.task.name} is no closed loop: read its complexities")
    opened = None if pruner.opening is None else Budget(flops_ratio=1, opening=pruner.opening)
    watching = replace(pruner, policy=_Everything(), budget=opened, recovery=drop)
    played = _played(vlm, prepared, episodes, watching, progress)
    rows = [row for _, decisions in played for row in decisions]
    sizes = [prepared.geometries[0].with_tokens(row.n_vision, row.n_text) for row in rows]
    return np.array([row.complexity or 0.0 for row in rows]), sizes


def read_figures(
    vlm: VLM, prepared: PreparedTask, pruner: Pruner, estimator: Calibrated
) -> Float[Tensor, "samples figures"]:
    """What an estimator that can be calibrated goes by, of every sample, at the pruner's probe layer; on the CPU.

    0 for a sample without visual tokens. Like complexities they depend on the model, the task, the probe layer and what
    opens before it. Raises CalibrationError for a policy that is not adaptive, and where no sample has visual tokens.
    """
    if not pruner.policy.adaptive:
        raise CalibrationError(f"{pruner.policy} reads no number of the sample: calibrate with an adaptive policy")

    def read(evidence: Evidence) -> np.ndarray:
        return estimator.read(evidence).cpu().numpy()

    told = dict[int, np.ndarray]()
    for places, rows in _at_probe(vlm, prepared, pruner, read):
        told |= dict(zip(places, rows, strict=True))
    if not told:
        raise CalibrationError("no sample has visual tokens: there is nothing to calibrate an estimator on")
    nothing = np.zeros_like(next(iter(told.values())))
    return torch.from_numpy(np.stack([told.get(i, nothing) for i in range(len(prepared.samples))]))


def _at_probe(
    vlm: VLM, prepared: PreparedTask, pruner: Pruner, read: Callable[[Evidence], np.ndarray]
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """The places of each batch with visual tokens, and what `read` makes of its evidence; prefills end there."""

    def ask(evidence: Evidence) -> Tensor:
        raise _Read(read(evidence))

    reader, pixels = replace(pruner, complexity=ask), needs_pixels(pruner, vlm.model)
    for batch in prepared.batches:
        with torch.inference_mode(), attached(reader, vlm.model, warn=False):
            try:
                vlm.model(**batch.arguments(pixels), logits_to_keep=1)
            except _Read as done:
                yield batch.places, done.told


def _answer(
    vlm: VLM,
    prepared: PreparedTask,
    batch: Batch,
    pruner: Pruner | None,
    prefixes: Prefixes | None,
    history: Sequence[History] | None = None,
) -> tuple[list[str], Sequence[float | None], Sequence[SampleTrace]]:
    """Each sample's answer, the model's probability of it if it answers in words, and what happened to its tokens."""
    if answers_in_actions(vlm.processor):
        chunks, traces = acted(vlm, prepared, batch, pruner)
        return list(map(worded, chunks)), [None] * len(chunks), traces
    certainty = Certainty()
    most = prepared.task.max_new_tokens
    new, traces = generated(vlm, prepared, batch, pruner, prefixes, [certainty], most, history)
    answers = vlm.processor.batch_decode(new, skip_special_tokens=True)  # type: ignore[no-untyped-call]
    return answers, certainty.of(new, vlm.model.generation_config.eos_token_id), traces


def generated(
    vlm: VLM,
    prepared: PreparedTask,
    batch: Batch,
    pruner: Pruner | None,
    prefixes: Prefixes | None,
    processors: Sequence[Callable[[Tensor, Tensor], Tensor]],
    most: int,
    history: Sequence[History] | None = None,
    keep_indices: bool = False,
) -> tuple[Int[Tensor, "batch steps"], Sequence[SampleTrace]]:
    """At most so many new ids of each sample, greedily by what `processors` leave of the logits; and the traces.

    `history`: of the episodes whose decisions they are. `keep_indices`: traces say which tokens stay.
    Raises CheckpointError for a model that answers in actions.
    """
    refuse_actions(vlm.processor, vlm.name)
    pixels = needs_pixels(pruner, vlm.model)
    arguments = batch.arguments(pixels)
    prefix = prefixes.of(batch, pruner) if prefixes is not None and pruner is not None and not pixels else None
    begun = replayed(vlm.model, prefix) if prefix is not None else nullcontext()
    pruned = attached(pruner, vlm.model, keep_indices, warn=False, history=history) if pruner else nullcontext()
    with begun, torch.inference_mode(), greedily(vlm.model), pruned as trace:
        tokens = vlm.model.generate(
            **arguments, max_new_tokens=most, do_sample=False, logits_processor=list(processors)
        )
    traces = (
        trace.samples if trace is not None else [SampleTrace.unpruned(prepared.geometries[i]) for i in batch.places]
    )
    return tokens[:, arguments["input_ids"].shape[1] :], traces


def _told(pruner: Pruner, bits: Float[np.ndarray, "batch"]) -> Pruner:
    """The pruner with an estimator that says these bits of the batch that comes next."""
    return replace(
        pruner, complexity=lambda evidence: torch.as_tensor(bits, dtype=torch.float64, device=evidence.index.device)
    )


def _record(
    prepared: PreparedTask, place: int, answer: str, confidence: float | None, trace: SampleTrace, judge: Judge | None
) -> Record:
    if judge is not None:
        return row_of(prepared, place, trace, judge(answer.strip(), place), answer.strip(), (), confidence)
    sample = prepared.samples[place]
    score = prepared.task.score(answer, sample)
    return row_of(prepared, place, trace, score, answer.strip(), sample.answers, confidence)


def row_of(
    prepared: PreparedTask,
    place: int,
    trace: SampleTrace,
    score: float,
    prediction: str = "",
    answers: tuple[str, ...] = (),
    confidence: float | None = None,
) -> Record:
    """The record of the sample at a place: what it scored, and what its trace says of its tokens."""
    sample, geometry = prepared.samples[place], trace.geometry
    return Record(
        id=sample.id,
        kind=sample.kind,
        prediction=prediction,
        answers=answers,
        score=score,
        complexity=trace.complexity,
        n_vision=geometry.n_vision,
        n_text=geometry.n_text,
        mean_tokens=mean_tokens_entering(trace.counts),
        decoder_flops=trace.decoder_flops,
        unpruned_flops=unpruned_flops(geometry),
        scoring_flops=trace.scoring_flops,
        macs=macs_3ndm(geometry, trace.counts),
        unpruned_macs=macs_3ndm(geometry, np.full(geometry.n_layers, geometry.n_vision)),
        mean_tokens_leaving=mean_tokens_leaving(trace.counts),
        tokens=tuple(trace.counts.tolist()),
        confidence=confidence,
    )
