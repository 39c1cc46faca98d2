"""The training code: its packed forward is the model's own, its losses point where they should."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from seeing import first_losses

from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.prompts import prompt_text
from autoprune_lab.tasks.base import Sample
from autoprune_lab.testbed.build import build_model, build_processor, shapes_layout
from autoprune_lab.testbed.shapes.course import COURSE
from autoprune_lab.testbed.training import losses, run
from autoprune_lab.testbed.training.batches import collate
from autoprune_lab.testbed.training.lessons import PREFIX, make_lesson
from autoprune_lab.testbed.training.reader import pack, read


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM(build_model(0).eval(), build_processor(), "untrained")


@pytest.fixture(scope="module")
def lessons():
    rng = np.random.default_rng(3)
    return collate([make_lesson(rng) for _ in range(3)])


def test_a_packed_question_reads_like_a_prompt_of_its_own(vlm: VLM, lessons):
    """Logits of the packed forward equal those of stock LLaVA on the separate, processed prompt."""
    with torch.no_grad():
        reading = read(vlm.model, lessons, losses.WATCHED)
    words = {i: word for word, i in vlm.processor.tokenizer.get_vocab().items()}
    for scene in range(2):
        for q in (0, 5):
            last = int(lessons.rows[scene, q, losses.LAST])
            text = " ".join(words[int(t)] for t in lessons.tokens[scene, q, :last])
            inputs = vlm.processor(
                text=prompt_text(vlm.processor, Sample("", (None,), text, (), "")),
                images=_picture(lessons.pixels[scene]),
                return_tensors="pt",
            )
            assert inputs["input_ids"].shape[1] == PREFIX + last + 1
            with torch.no_grad():
                logits = vlm.model(**inputs).logits[0, -1]
            mine = reading.logits[reading.segment == scene * lessons.tokens.shape[1] + q][0]
            torch.testing.assert_close(mine, logits, atol=2e-5, rtol=0)


def _picture(pixels: torch.Tensor):
    from PIL import Image

    return Image.fromarray(((pixels.permute(1, 2, 0) + 1) * 127.5).round().numpy().astype("uint8"))


def test_watched_attention_rows_are_probabilities_under_the_mask(vlm: VLM, lessons):
    with torch.no_grad():
        reading = read(vlm.model, lessons, frozenset({2}))
    rows = reading.attention[2]
    torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]))
    packed = pack(lessons)
    foreign = ~packed.mask[torch.arange(3)[:, None, None], 0, packed.rows]
    assert rows.masked_select(foreign[:, None].expand_as(rows)).max() == 0


def test_looking_loss_falls_when_the_rows_look_right(vlm: VLM, lessons):
    """Replacing the attention of every watched layer by the wanted one brings the loss to (almost) zero."""
    with torch.no_grad():
        reading = read(vlm.model, lessons, losses.WATCHED)
    before = float(losses.looking_loss(reading, lessons))
    wanted = lessons.look.clone()
    for layer, hop in ((7, 0), (10, 1)):
        perfect = wanted.clone()
        perfect[:, :, losses.LAST, :-1] += lessons.hop[:, :, hop]
        for same in (layer, layer + 1):
            reading.attention[same] = _placed(perfect, reading.attention[same])
    for layer in (2, 3, 4, 5):
        reading.attention[layer] = _placed(wanted, reading.attention[layer])
    after = float(losses.looking_loss(reading, lessons))
    assert before > 5
    assert after < 0.01


def _placed(look: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros_like(like)
    share = look / look.sum(-1, keepdim=True).clamp(min=1e-9)
    rows[..., 2:PREFIX] = share[:, None, ..., :-1]
    rows[..., 0] = share[:, None, ..., -1]
    return rows


def test_a_few_steps_learn_to_see(lessons):
    """Twenty steps of stage one on one batch more than halve its loss."""
    values = first_losses(COURSE, shapes_layout(), lessons, 20)
    assert values[-1] < values[0] / 2


def test_an_interrupted_training_goes_on_and_leaves_a_checkpoint_folder(tmp_path, monkeypatch):
    """Stopped after a checkpoint and started again, it runs the remaining steps only and saves what it trained."""
    monkeypatch.setattr(run, "CHECKPOINT_EVERY", 2)
    course = replace(COURSE, layout=shapes_layout(n_layers=12), batch=2, vision_batch=2, vision_steps=2)
    steps = []
    original = run._report
    monkeypatch.setattr(run, "_report", lambda course, step, *rest: (steps.append(step), original(course, step, *rest)))
    with monkeypatch.context() as broken:
        broken.setattr(run, "save", _fail)
        with pytest.raises(InterruptedError):
            run.train(course, tmp_path, seed=5, steps=3)
    run.train(course, tmp_path, seed=5, steps=4)
    assert steps == [0, 2, 3]  # from scratch it would report step 0 again
    vlm = load_model(str(tmp_path))
    assert vlm.model.config.text_config.num_hidden_layers == 12
    assert not list(tmp_path.glob("*.pt"))


def _fail(*args: object) -> None:
    raise InterruptedError
