"""Trains the driving model: first the eyes, then the whole."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.driving import losses
from autoprune_lab.testbed.driving.layout import layout, vocabulary
from autoprune_lab.testbed.driving.lessons import Lessons, lesson_batches
from autoprune_lab.testbed.driving.scene import KINDS
from autoprune_lab.testbed.driving.wording import LONG, SIDE
from autoprune_lab.testbed.training.losses import place_code
from autoprune_lab.testbed.training.optim import Optimiser
from autoprune_lab.testbed.training.reader import Reading, look_at_picture, read

VISION_STEPS, VISION_BATCH = 700, 16
STEPS, BATCH = 1800, 16
CHECKPOINT_EVERY = 100


def train(out: Path, seed: int = 0, vision_steps: int = VISION_STEPS, steps: int = STEPS) -> None:
    """Train from scratch and save as a fp16 `save_pretrained` folder at `out`; goes on where it was interrupted."""
    torch.manual_seed(seed)
    model = build_untrained(layout(), seed)
    _place_positions(model)
    probes = losses.Probes(model.config.text_config.hidden_size, model.config.vision_config.hidden_size)
    out.mkdir(parents=True, exist_ok=True)
    eyes, whole = out / "vision.pt", out / "whole.pt"
    if eyes.exists():
        state = torch.load(eyes)
        model.load_state_dict(state["model"])
        probes.load_state_dict(state["probes"])
    else:
        train_vision(model, probes, seed, vision_steps)
        torch.save({"model": model.state_dict(), "probes": probes.state_dict()}, eyes)
    train_whole(model, probes, seed, steps, whole)
    save(model, out)


def save(model: LlavaForConditionalGeneration, out: Path) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.half().save_pretrained(out)
    model.float().load_state_dict(state)
    build_processor(layout()).save_pretrained(out)


def _place_positions(model: LlavaForConditionalGeneration) -> None:
    with torch.no_grad():
        table = model.model.vision_tower.embeddings.position_embedding.weight
        code = place_code(8)
        table.normal_(0, 0.02)
        table[1:, : code.shape[1]] = code
        table *= 4
        model.model.language_model.embed_tokens.weight.normal_(0, 0.5)


def train_vision(model: LlavaForConditionalGeneration, probes: losses.Probes, seed: int, steps: int) -> None:
    parts = [
        (model.model.vision_tower, 1.0, True),
        (model.model.multi_modal_projector, 1.0, True),
        (probes, 1.0, False),
    ]
    optimiser = Optimiser(parts, muon_lr=0.015, adam_lr=2e-3, decay=0.1, steps=steps)
    start = time.time()
    for step, lessons in zip(range(steps), lesson_batches(1000 + seed, VISION_BATCH), strict=False):
        loss, right = losses.vision_loss(probes, *look_at_picture(model, lessons.pixels), lessons)
        optimiser.step(loss)
        if step % 25 == 0 or step == steps - 1:
            scores = " ".join(f"{value:.3f}" for value in right.tolist())
            print(f"vision {step:5d} {time.time() - start:6.0f}s loss {loss.item():.3f} | {scores}", flush=True)


def train_whole(
    model: LlavaForConditionalGeneration, probes: losses.Probes, seed: int, steps: int, checkpoint: Path
) -> None:
    parts = [
        (model.model.language_model, 1.0, True),
        (model.lm_head, 1.0, False),
        (probes, 1.0, False),
        (model.model.vision_tower, 0.1, True),
        (model.model.multi_modal_projector, 0.1, True),
    ]
    optimiser = Optimiser(parts, muon_lr=0.02, adam_lr=3e-3, decay=0.6, steps=steps)
    first = _resume(model, probes, optimiser, checkpoint)
    kernel = losses.coordinate_kernel()
    start, hits = time.time(), torch.zeros(3, len(KINDS))
    lessons_from = lesson_batches(2000 + seed + 7919 * first, BATCH)  # a resumed run sees new lessons
    for step, lessons in zip(range(first, steps), lessons_from, strict=False):
        reading = read(model, lessons, losses.WATCHED)
        guide = min(1.0, 3 * (1 - step / steps))
        terms = _terms(probes, reading, lessons, kernel)
        loss = terms["answer"] + guide * sum(value for name, value in terms.items() if name != "answer")
        optimiser.step(loss)
        hits += _hits(reading, lessons)
        if step % 25 == 0 or step == steps - 1:
            _report(step, time.time() - start, terms, hits, reading, checkpoint.with_name("log.jsonl"))
            hits.zero_()
        if (step + 1) % CHECKPOINT_EVERY == 0:
            state = {
                "model": model.state_dict(),
                "probes": probes.state_dict(),
                "optimiser": optimiser.state(),
            }
            torch.save({**state, "step": step + 1}, checkpoint)
            save(model, checkpoint.parent)


def _resume(model: LlavaForConditionalGeneration, probes: losses.Probes, optimiser: Optimiser, file: Path) -> int:
    if not file.exists():
        return 0
    state = torch.load(file)
    model.load_state_dict(state["model"])
    probes.load_state_dict(state["probes"])
    optimiser.load(state["optimiser"])
    print(f"resumed from step {state['step']}")
    return int(state["step"])


def _terms(
    probes: losses.Probes, reading: Reading, lessons: Lessons, kernel: torch.Tensor
) -> dict[str, torch.Tensor]:
    return {
        "answer": losses.answer_loss(reading, kernel),
        "look": 0.3 * losses.looking_loss(reading, lessons),
        "exit": 0.3 * losses.exit_loss(probes, reading, lessons),
        "vision": 0.1 * losses.vision_loss(probes, reading.projected, reading.cls, lessons)[0],
    }


_WORDS = vocabulary()
_VALUES = torch.from_numpy(np.array([float(w) if w in {*LONG, *SIDE} else 0.0 for w in _WORDS])).float()


def _hits(reading: Reading, lessons: Lessons) -> torch.Tensor:
    """Per kind: right actions, summed mean coordinate error in metres, and situations."""
    kinds = lessons.kind.flatten()
    guess = reading.logits.argmax(-1)
    n = 14
    right = (guess == reading.targets).view(-1, n)[:, 0].float()
    error = (_VALUES[guess] - _VALUES[reading.targets]).abs().view(-1, n)[:, 1:13].mean(1)
    owner = reading.segment.view(-1, n)[:, 0]
    k = kinds[owner]
    m = len(KINDS)
    return torch.stack([torch.bincount(k, right, m), torch.bincount(k, error, m), torch.bincount(k, minlength=m).float()])


def _report(
    step: int, seconds: float, terms: dict[str, torch.Tensor], hits: torch.Tensor, reading: Reading, log: Path
) -> None:
    counts = hits[2].clamp(min=1)
    row = {
        "step": step,
        "seconds": round(seconds),
        **{name: round(value.item(), 3) for name, value in terms.items()},
        "action": {k: round(v, 3) for k, v in zip(KINDS, (hits[0] / counts).tolist(), strict=True)},
        "error": {k: round(v, 3) for k, v in zip(KINDS, (hits[1] / counts).tolist(), strict=True)},
        "vision_rms": [round(value, 2) for value in reading.vision_rms.tolist()[::3]],
    }
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")
    text = " ".join(f"{k[:5]} {row['action'][k]:.2f}/{row['error'][k]:.2f}" for k in KINDS)
    guides = " ".join(f"{name} {value.item():.3f}" for name, value in terms.items())
    print(f"{step:5d} {seconds:6.0f}s {guides} | {text} | rms {row['vision_rms']}", flush=True)
