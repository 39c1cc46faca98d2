"""Trains the embedded model: first the eyes, then the whole. `make train` runs it."""

import json
import time
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from autoprune_lab.testbed.build import build_model, build_processor
from autoprune_lab.testbed.shapes.wording import KINDS
from autoprune_lab.testbed.training import losses
from autoprune_lab.testbed.training.lessons import Lessons, lesson_batches
from autoprune_lab.testbed.training.optim import Optimiser
from autoprune_lab.testbed.training.reader import Reading, look_at_picture, read

VISION_STEPS, VISION_BATCH = 1200, 32
STEPS, BATCH = 2000, 16
CHECKPOINT_EVERY = 200


def train(out: Path, seed: int = 0, vision_steps: int = VISION_STEPS, steps: int = STEPS) -> None:
    """Train from scratch and save as a fp16 `save_pretrained` folder at `out`; goes on where it was interrupted."""
    torch.manual_seed(seed)
    model = build_model(seed)
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
    eyes.unlink()
    whole.unlink(missing_ok=True)


def save(model: LlavaForConditionalGeneration, out: Path) -> None:
    """Write weights as fp16 safetensors with processor and tokenizer beside them."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.half().save_pretrained(out)
    model.float().load_state_dict(state)
    build_processor().save_pretrained(out)


def _place_positions(model: LlavaForConditionalGeneration) -> None:
    """Start the tower from a 2-D sine-cosine position embedding and the decoder from lively word vectors."""
    with torch.no_grad():
        table = model.model.vision_tower.embeddings.position_embedding.weight
        code = losses.place_code()
        table.normal_(0, 0.02)
        table[1:, : code.shape[1]] = code
        table *= 4
        model.model.language_model.embed_tokens.weight.normal_(0, 0.5)


def train_vision(model: LlavaForConditionalGeneration, probes: losses.Probes, seed: int, steps: int) -> None:
    """Stage 1: dense labels for every patch, from tower and projector."""
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
        if step % 50 == 0 or step == steps - 1:
            scores = " ".join(f"{value:.3f}" for value in right.tolist())
            print(f"vision {step:5d} {time.time() - start:6.0f}s loss {loss.item():.3f} | {scores}", flush=True)


def train_whole(
    model: LlavaForConditionalGeneration, probes: losses.Probes, seed: int, steps: int, checkpoint: Path
) -> None:
    """Stage 2: decoder from scratch on answers, guided by where to look; the guidance fades from two thirds on."""
    parts = [
        (model.model.language_model, 1.0, True),
        (model.lm_head, 1.0, False),
        (probes, 1.0, False),
        (model.model.vision_tower, 0.1, True),
        (model.model.multi_modal_projector, 0.1, True),
    ]
    optimiser = Optimiser(parts, muon_lr=0.02, adam_lr=3e-3, decay=0.6, steps=steps)
    first = _resume(model, probes, optimiser, checkpoint)
    start, hits = time.time(), torch.zeros(2, len(KINDS))
    lessons_from = lesson_batches(2000 + seed + 7919 * first, BATCH)  # a resumed run sees new lessons
    for step, lessons in zip(range(first, steps), lessons_from, strict=False):
        reading = read(model, lessons, losses.WATCHED)
        guide = min(1.0, 3 * (1 - step / steps))
        terms = _terms(probes, reading, lessons)
        loss = terms["answer"] + guide * sum(value for name, value in terms.items() if name != "answer")
        optimiser.step(loss)
        hits += _hits(reading, lessons)
        if step % 50 == 0 or step == steps - 1:
            _report(step, time.time() - start, terms, hits, reading, checkpoint.with_name("log.jsonl"))
            hits.zero_()
        if (step + 1) % CHECKPOINT_EVERY == 0:
            state = {
                "model": model.state_dict(),
                "probes": probes.state_dict(),
                "optimiser": optimiser.state(),
            }
            torch.save({**state, "step": step + 1}, checkpoint)


def _resume(model: LlavaForConditionalGeneration, probes: losses.Probes, optimiser: Optimiser, file: Path) -> int:
    """Load a checkpoint of an interrupted run; returns the step to go on from, 0 without one."""
    if not file.exists():
        return 0
    state = torch.load(file)
    model.load_state_dict(state["model"])
    probes.load_state_dict(state["probes"])
    optimiser.load(state["optimiser"])
    print(f"resumed from step {state['step']}")
    return int(state["step"])


def _terms(probes: losses.Probes, reading: Reading, lessons: Lessons) -> dict[str, torch.Tensor]:
    return {
        "answer": losses.answer_loss(reading),
        "look": 0.5 * losses.looking_loss(reading, lessons),
        "route": 0.3 * losses.routing_loss(reading, lessons),
        "exit": 0.3 * losses.exit_loss(probes, reading, lessons),
        "place": 1.0 * losses.place_loss(probes, reading, lessons),
        "relation": 1.0 * losses.relation_loss(probes, reading, lessons),
        "glance": 0.1 * losses.glance_loss(reading, lessons),
        "blind": 0.03 * losses.blind_start_loss(reading),
        "vision": 0.1 * losses.vision_loss(probes, reading.projected, reading.cls, lessons)[0],
    }


def _hits(reading: Reading, lessons: Lessons) -> torch.Tensor:
    """Right and asked questions per kind; an answer is right when all its tokens are."""
    kinds = lessons.kind.flatten()
    wrong = torch.zeros(kinds.numel())
    wrong.index_add_(0, reading.segment, (reading.logits.argmax(-1) != reading.targets).float())
    asked = torch.bincount(kinds, minlength=len(KINDS)).float()
    return torch.stack([torch.bincount(kinds, (wrong == 0).float(), minlength=len(KINDS)), asked])


def _report(
    step: int, seconds: float, terms: dict[str, torch.Tensor], hits: torch.Tensor, reading: Reading, log: Path
) -> None:
    scores = (hits[0] / hits[1].clamp(min=1)).tolist()
    row = {
        "step": step,
        "seconds": round(seconds),
        **{name: round(value.item(), 3) for name, value in terms.items()},
        "right": {kind: round(value, 3) for kind, value in zip(KINDS, scores, strict=True)},
        "vision_rms": [round(value, 2) for value in reading.vision_rms.tolist()[::3]],
    }
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")
    text = " ".join(f"{kind[:5]} {value:.2f}" for kind, value in row["right"].items())
    guides = " ".join(f"{name} {value.item():.3f}" for name, value in terms.items())
    print(f"{step:5d} {seconds:6.0f}s {guides} | {text} | rms {row['vision_rms']}", flush=True)
