"""The training code: its packed forward is the model's own, its losses point where they should."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from seeing import first_losses, placed

from autoprune_lab.evaluation.prompts import prompt_text
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.tasks.base import Sample
from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.shapes import losses
from autoprune_lab.testbed.shapes.course import COURSE
from autoprune_lab.testbed.shapes.layout import layout
from autoprune_lab.testbed.shapes.lessons import PREFIX, make_lesson
from autoprune_lab.testbed.training import run
from autoprune_lab.testbed.training.batches import collate
from autoprune_lab.testbed.training.contract import Polish
from autoprune_lab.testbed.training.optim import Optimiser
from autoprune_lab.testbed.training.progress import Checkpoint, recipe
from autoprune_lab.testbed.training.reader import look_at_picture, read
from search.cli import main


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM(build_untrained(layout(), 0).eval(), build_processor(layout()), "untrained")


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
    later = torch.arange(rows.shape[-1] - PREFIX) > lessons.rows[..., None]
    assert rows[..., PREFIX:].masked_select(later[:, None].expand_as(rows[..., PREFIX:])).max() == 0


def test_a_training_layer_is_the_stock_layer_and_so_are_its_gradients(vlm: VLM, lessons):
    """A scene's shortest question, by its stock layers one behind the other, against all packed questions at once."""
    model, n_prefix = copy.deepcopy(vlm.model), len(lessons.prefix)
    decoder = model.model.language_model
    decoder.layers = decoder.layers[:2]
    scene, q = 1, int((lessons.tokens[1] != 0).sum(-1).argmin())
    reading = read(model, lessons, frozenset({1}))
    stock, at = _stock(model, lessons, scene, q), n_prefix + lessons.rows[scene, q]
    hidden, looked = reading.hidden[1][scene, q], reading.attention[1][scene, :, q]
    stock_hidden, stock_looked = stock.hidden_states[2][0, at], stock.attentions[1][0][:, at]
    looked = looked[..., : stock_looked.shape[-1]]
    torch.testing.assert_close(hidden, stock_hidden, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(looked, stock_looked, rtol=1e-4, atol=1e-7)
    for mine, theirs, parts in ((hidden, stock_hidden, decoder.layers), (looked, stock_looked, decoder.layers[0])):
        torch.testing.assert_close(_gradients(mine, parts), _gradients(theirs, parts), rtol=1e-4, atol=1e-5)


def _gradients(of, parts):
    return torch.autograd.grad(of.square().sum(), list(parts.parameters()), retain_graph=True)


def _stock(model, lessons, scene, q):
    """Transformers' own decoder on one question, its last norm left out."""
    decoder = model.model.language_model
    decoder.norm = torch.nn.Identity()
    decoder.config._attn_implementation = "eager"
    tokens = lessons.tokens[scene, q][lessons.tokens[scene, q] != 0]
    projected, _ = look_at_picture(model, lessons.pixels[scene][None])
    opening = decoder.embed_tokens(torch.tensor(lessons.prefix[:2]))
    embeds = torch.cat([opening, projected[0], decoder.embed_tokens(tokens)])[None]
    return decoder(inputs_embeds=embeds, output_hidden_states=True, output_attentions=True, use_cache=False)


def test_questions_of_one_length_need_no_padding(vlm: VLM, lessons):
    """Where nothing is padded the row of padding takes part in nothing, and every gradient is a number."""
    same = {name: getattr(lessons, name)[:1, [0, 0, 0]] for name in ("tokens", "targets", "rows")}
    even = replace(lessons, pixels=lessons.pixels[:1], **same)
    model = copy.deepcopy(vlm.model)
    read(model, even, frozenset({2})).logits.sum().backward()
    gradients = [weight.grad for weight in model.model.language_model.layers.parameters()]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[0].abs().max() > 0


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
            reading.attention[same] = placed(perfect, reading.attention[same])
    for layer in (2, 3, 4, 5):
        reading.attention[layer] = placed(wanted, reading.attention[layer])
    after = float(losses.looking_loss(reading, lessons))
    assert before > 5
    assert after < 0.01


def test_a_few_steps_learn_to_see(lessons):
    """Twenty steps of stage one on one batch more than halve its loss."""
    values = first_losses(COURSE, layout(), lessons, 20)
    assert values[-1] < values[0] / 2


COURSE_OF_STEPS = replace(COURSE, layout=layout(n_layers=12), batch=1, vision_batch=1, vision_steps=3)


@pytest.fixture
def stages(monkeypatch):
    """A checkpoint every second step; the steps that were run, each with its stage."""
    monkeypatch.setattr(run, "CHECKPOINT_EVERY", 2)
    ran: list[str] = []
    look, read_whole = run.look_at_picture, run.read
    monkeypatch.setattr(run, "look_at_picture", lambda *given: (ran.append("vision"), look(*given))[1])
    monkeypatch.setattr(run, "read", lambda *given: (ran.append("whole"), read_whole(*given))[1])
    return ran


def _stopped(stages, monkeypatch, out, after):
    """A run that is interrupted before the step after these."""
    with monkeypatch.context() as broken:
        broken.setattr(run.Optimiser, "step", _stops_after(after, run.Optimiser.step))
        with pytest.raises(InterruptedError):
            run.train(COURSE_OF_STEPS, out, seed=5, steps=3)
    stages.clear()


def _stops_after(n, step):
    done = []

    def stopping(*given):
        if len(done) == n:
            raise InterruptedError
        done.append(step(*given))

    return stopping


def test_an_interrupted_training_goes_on_in_either_stage_and_a_finished_one_stays(
    tmp_path, monkeypatch, stages, capsys
):
    """Of three steps each, every second is kept: stage one goes on from its third step, and so does stage two."""
    _stopped(stages, monkeypatch, tmp_path, after=2)
    _stopped(stages, monkeypatch, tmp_path, after=3)
    assert "resumed vision from step 2" in capsys.readouterr().out
    with monkeypatch.context() as broken:
        broken.setattr(run, "save", _fail)
        with pytest.raises(InterruptedError):
            run.train(COURSE_OF_STEPS, tmp_path, seed=5, steps=3)
    assert stages == ["whole"]
    assert "resumed whole from step 2" in capsys.readouterr().out
    stages.clear()
    run.train(COURSE_OF_STEPS, tmp_path, seed=5, steps=3)
    assert stages == ["whole"]
    assert load_model(str(tmp_path)).model.config.text_config.num_hidden_layers == 12
    assert not list(tmp_path.glob("*.pt*"))
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    stages.clear()
    capsys.readouterr()
    run.train(COURSE_OF_STEPS, tmp_path, seed=5, steps=3)
    assert (
        capsys.readouterr().out == f"{tmp_path} holds a finished model: nothing to do; another --out trains another\n"
    )
    with pytest.raises(CheckpointError, match=r"training.json was made with seed=5, not 6: ask for the same"):
        run.train(COURSE_OF_STEPS, tmp_path, seed=6, steps=3)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert stages == []


def test_polishing_goes_on_where_it_stopped_and_saves_the_running_mean(tmp_path, monkeypatch, stages, capsys):
    """Of three steps the first gives the mean, each later one a quarter of it."""
    polished = replace(
        COURSE_OF_STEPS,
        polish=Polish(3, make_lesson, lambda reading, _: losses.answer_loss(reading), rate=20.0, memory=0.75),
    )
    seen = []

    class Watched(run.Optimiser):
        def step(self, loss):
            super().step(loss)
            seen.append(self.parameters[0].detach().clone())

    monkeypatch.setattr(run, "Optimiser", Watched)
    with monkeypatch.context() as broken:
        broken.setattr(run, "save", _fail)
        with pytest.raises(InterruptedError):
            run.train(polished, tmp_path, seed=5, steps=1)
    assert stages == ["vision"] * 3 + ["whole"] * (1 + 3)
    capsys.readouterr()
    stages.clear()
    seen_first = seen[-3:-1]  # the third step is run again, with other lessons
    run.train(polished, tmp_path, seed=5, steps=1)
    assert stages == ["whole"] * 2
    assert "resumed polish from step 2" in capsys.readouterr().out
    a, b, c = *seen_first, seen[-1]
    mean = 0.75 * (0.75 * a + 0.25 * b) + 0.25 * c
    saved = load_model(str(tmp_path)).model.model.language_model.layers[0].self_attn.q_proj.weight
    assert mean.shape == saved.shape
    torch.testing.assert_close(saved.float(), mean, atol=1e-4, rtol=1e-3)
    assert (mean - c).abs().max() > 1e-3


def _fail(*args: object) -> None:
    raise InterruptedError


@pytest.mark.parametrize(
    ("changed", "given", "told"),
    [
        ({}, {"seed": 6}, "seed=5, not 6"),
        ({}, {"steps": 4}, "steps=3, not 4"),
        ({"world": "driving"}, {}, "world=shapes, not driving"),
        ({"vision_steps": 4}, {}, "vision_steps=3, not 4"),
        ({"batch": 2}, {}, "batch=1, not 2"),
        ({"layout": layout(n_layers=13)}, {}, "layers=12, not 13"),
    ],
)
@pytest.mark.parametrize("stage", ["vision.pt", "whole.pt"])
def test_what_was_begun_with_other_settings_is_refused(tmp_path, stage, changed, given, told):
    file = tmp_path / stage
    optimiser = Optimiser([(torch.nn.Linear(2, 2), 1.0, True)], 0.1, 0.1, 0.0, steps=3)
    begun = Checkpoint(file, recipe(COURSE_OF_STEPS, 5, 3, 1), writes=True)
    begun.keep(2, torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), optimiser)
    now = {"seed": 5, "steps": 3} | given
    other = Checkpoint(file, recipe(replace(COURSE_OF_STEPS, **changed), **now, processes=1), writes=True)
    with pytest.raises(CheckpointError, match=f"{file} was made with {told}: ask for the same, or give another --out"):
        other.resume(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), optimiser)
    assert begun.resume(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), optimiser) == 2


def test_only_the_first_process_writes_and_garbage_is_named(tmp_path):
    optimiser = Optimiser([(torch.nn.Linear(2, 2), 1.0, True)], 0.1, 0.1, 0.0, steps=3)
    checkpoint = Checkpoint(tmp_path / "whole.pt", recipe(COURSE_OF_STEPS, 5, 3, 2), writes=False)
    checkpoint.keep(2, torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), optimiser)
    assert not checkpoint.file.exists()
    for content in (b"", b"no checkpoint"):
        checkpoint.file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"whole\.pt cannot be gone on from .*: delete it"):
            checkpoint.resume(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), optimiser)


def test_a_model_that_came_from_elsewhere_is_never_overwritten(checkpoint, capsys):
    before = {file: file.read_bytes() for file in checkpoint.iterdir()}
    assert main(["train", "--out", str(checkpoint)]) == 0
    assert "holds a finished model: nothing to do" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in checkpoint.iterdir()} == before


def test_out_must_be_a_folder(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert main(["train", "--out", str(file)]) == 2
    assert capsys.readouterr().err == f"autoprune: --out {file}: {file} is a file; give a folder\n"
