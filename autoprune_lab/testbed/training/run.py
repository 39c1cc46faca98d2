"""Trains an embedded model: first the eyes, then the whole, which may be polished. `make train` runs it."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import LlavaForConditionalGeneration

from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.testbed.build import Layout, build_processor, build_untrained
from autoprune_lab.testbed.training.batches import lesson_batches
from autoprune_lab.testbed.training.contract import Course, Polish
from autoprune_lab.testbed.training.optim import Optimiser
from autoprune_lab.testbed.training.progress import Checkpoint, Recipe, is_finished, recipe, write_record
from autoprune_lab.testbed.training.reader import Reading, look_at_picture, read
from autoprune_lab.testbed.training.together import together
from autoprune_lab.testbed.training.token_code import place_code

CHECKPOINT_EVERY = 100
REPORT_EVERY = 50
MUON_LR, ADAM_LR, DECAY = 0.02, 3e-3, 0.6  # of the whole
FIRST_LESSONS = (1000, 2000, 3000)  # lesson seeds of the stages
APART, RESUMED = 1_000_000, 7919  # what ranks and resumed runs add to them

Terms = dict[str, torch.Tensor]
"""Losses by name."""


def train(course: Course, out: Path, seed: int = 0, steps: int | None = None) -> None:
    """Train and save as a fp16 `save_pretrained` folder at `out`; goes on where it was interrupted.

    From scratch, or from where the course starts. `steps` of the second stage; None: the course's. A finished model at
    `out` stays as it is. Raises CheckpointError where what lies there was made with other settings.
    """
    with together() as (rank, size):
        made_with = recipe(course, seed, steps or course.steps, size)
        if is_finished(out, made_with):
            if rank == 0:
                print(f"{out} holds a finished model: nothing to do; another --out trains another")
            return
        share = replace(course, batch=-(-course.batch // size), vision_batch=-(-course.vision_batch // size))
        _train(share, out, seed, steps or course.steps, rank, made_with)


def save(model: LlavaForConditionalGeneration, layout: Layout, out: Path) -> None:
    """Write weights as fp16 safetensors with processor and tokenizer beside them."""
    clean = build_untrained(layout, 0)
    clean.load_state_dict(model.state_dict())
    clean.half().save_pretrained(out)  # type: ignore[no-untyped-call]
    build_processor(layout).save_pretrained(out)


def _train(course: Course, out: Path, seed: int, steps: int, rank: int, made_with: Recipe) -> None:
    torch.manual_seed(seed)
    model = build_untrained(course.layout, seed)
    if course.start is None:
        _place_positions(model, course.layout.image_size // course.layout.patch)
    else:
        model.load_state_dict(load_model(course.start).model.state_dict())
    config: Any = model.config
    probes = course.probes(config.text_config.hidden_size, config.vision_config.hidden_size)
    out.mkdir(parents=True, exist_ok=True)
    stages = [Checkpoint(out / f"{name}.pt", made_with, rank == 0) for name in ("vision", "whole", "polish")]
    own = seed + APART * rank
    if course.vision_steps:
        train_vision(course, model, probes, own, stages[0])
    train_whole(course, model, probes, own, steps, stages[1])
    if course.polish is not None:
        polish(course, course.polish, model, own, stages[2])
    if rank == 0:
        save(model, course.layout, out)
        write_record(out, made_with)
        for stage in stages:
            stage.file.unlink(missing_ok=True)


def _place_positions(model: LlavaForConditionalGeneration, grid: int) -> None:
    """Start the tower from a 2-D sine-cosine position embedding and the decoder from lively word vectors."""
    with torch.no_grad():
        table = model.model.vision_tower.embeddings.position_embedding.weight
        code = place_code(grid)
        table.normal_(0, 0.02)
        table[1:, : code.shape[1]] = code
        table *= 4
        model.model.language_model.embed_tokens.weight.normal_(0, 0.5)


def train_vision(
    course: Course, model: LlavaForConditionalGeneration, probes: nn.Module, seed: int, checkpoint: Checkpoint
) -> None:
    """Stage 1: dense labels for every patch, from tower and projector."""
    parts = [
        (model.model.vision_tower, 1.0, True),
        (model.model.multi_modal_projector, 1.0, True),
        (probes, 1.0, False),
    ]
    steps = course.vision_steps
    optimiser = Optimiser(parts, muon_lr=0.015, adam_lr=2e-3, decay=0.1, steps=steps)
    first = _resume(checkpoint, model, probes, optimiser)
    start = time.time()
    lessons_from = lesson_batches(course.make_lesson, FIRST_LESSONS[0] + seed + RESUMED * first, course.vision_batch)
    for step, lessons in zip(range(first, steps), lessons_from, strict=False):
        loss, right = course.vision_loss(probes, *look_at_picture(model, lessons.pixels), lessons)
        optimiser.step(loss)
        if checkpoint.writes and (step % REPORT_EVERY == 0 or step == steps - 1):
            scores = " ".join(f"{value:.3f}" for value in right.tolist())
            print(f"vision {step:5d} {time.time() - start:6.0f}s loss {loss.item():.3f} | {scores}", flush=True)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step == steps - 1:
            checkpoint.keep(step + 1, model, probes, optimiser)


def train_whole(
    course: Course,
    model: LlavaForConditionalGeneration,
    probes: nn.Module,
    seed: int,
    steps: int,
    checkpoint: Checkpoint,
) -> None:
    """Stage 2: decoder from scratch on answers, guided by where to look; the guidance fades from two thirds on."""
    optimiser = Optimiser(
        [*_parts(model), (probes, 1.0, False)], course.rate * MUON_LR, course.rate * ADAM_LR, DECAY, steps
    )

    def learn(step: int, reading: Reading, lessons: Any) -> Terms:
        guide = min(1.0, 3 * (1 - step / steps))
        terms = course.terms(probes, reading, lessons)
        optimiser.step(terms["answer"] + guide * sum(value for name, value in terms.items() if name != "answer"))
        return terms

    first_lesson = FIRST_LESSONS[1] + seed
    _run(course, model, probes, optimiser, checkpoint, course.make_lesson, first_lesson, steps, learn)


def polish(
    course: Course, stage: Polish, model: LlavaForConditionalGeneration, seed: int, checkpoint: Checkpoint
) -> None:
    """Stage 3, see `Polish`; the model gets the mean weights at its end."""
    optimiser = Optimiser(_parts(model), stage.rate * MUON_LR, stage.rate * ADAM_LR, DECAY, stage.steps)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(stage.memory))  # type: ignore[no-untyped-call]

    def learn(_: int, reading: Reading, lessons: Any) -> Terms:
        loss = stage.loss(reading, lessons)
        optimiser.step(loss)
        averaged.update_parameters(model)
        return {"loss": loss}

    first_lesson = FIRST_LESSONS[2] + seed
    _run(course, model, averaged, optimiser, checkpoint, stage.make_lesson, first_lesson, stage.steps, learn)
    model.load_state_dict(averaged.module.state_dict())


def _run(
    course: Course,
    model: LlavaForConditionalGeneration,
    beside: nn.Module,
    optimiser: Optimiser,
    checkpoint: Checkpoint,
    make_lesson: Callable[[np.random.Generator], Any],
    first_lesson: int,
    steps: int,
    learn: Callable[[int, Reading, Any], Terms],
) -> None:
    """The steps of a stage that are missing: `learn` from what was read, and say what it cost; report, and keep."""
    first = _resume(checkpoint, model, beside, optimiser)
    start, tally = time.time(), torch.zeros(len(course.figures) + 1, len(course.kinds))
    lessons_from = lesson_batches(make_lesson, first_lesson + RESUMED * first, course.batch)
    for step, lessons in zip(range(first, steps), lessons_from, strict=False):
        reading = read(model, lessons, course.watched, course.half)
        terms = learn(step, reading, lessons)
        tally += course.tally(reading, lessons)
        if checkpoint.writes and (step % REPORT_EVERY == 0 or step == steps - 1):
            _report(course, step, time.time() - start, terms, tally, reading, checkpoint.file.with_name("log.jsonl"))
            tally.zero_()
        if (step + 1) % CHECKPOINT_EVERY == 0:
            checkpoint.keep(step + 1, model, beside, optimiser)


def _parts(model: LlavaForConditionalGeneration) -> list[tuple[nn.Module, float, bool]]:
    """What is trained once the eyes are, see `Optimiser`."""
    return [
        (model.model.language_model, 1.0, True),
        (model.lm_head, 1.0, False),
        (model.model.vision_tower, 0.1, True),
        (model.model.multi_modal_projector, 0.1, True),
    ]


def _resume(checkpoint: Checkpoint, model: nn.Module, beside: nn.Module, optimiser: Optimiser) -> int:
    """The step to go on from; a resumed run sees new lessons from there."""
    step = checkpoint.resume(model, beside, optimiser)
    if step and checkpoint.writes:
        print(f"resumed {checkpoint.file.stem} from step {step}")
    return step


def _report(
    course: Course,
    step: int,
    seconds: float,
    terms: Terms,
    tally: torch.Tensor,
    reading: Reading,
    log: Path,
) -> None:
    means = (tally[:-1] / tally[-1].clamp(min=1)).tolist()
    row = {
        "step": step,
        "seconds": round(seconds),
        **{name: round(value.item(), 3) for name, value in terms.items()},
        **{
            name: {kind: round(value, 3) for kind, value in zip(course.kinds, values, strict=True)}
            for name, values in zip(course.figures, means, strict=True)
        },
        "vision_rms": [round(value, 2) for value in reading.vision_rms.tolist()[::3]],
    }
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")
    columns = zip(course.kinds, *means, strict=True)
    text = " ".join(f"{kind[:5]} {'/'.join(f'{value:.2f}' for value in values)}" for kind, *values in columns)
    guides = " ".join(f"{name} {value.item():.3f}" for name, value in terms.items())
    print(f"{step:5d} {seconds:6.0f}s {guides} | {text} | rms {row['vision_rms']}", flush=True)
