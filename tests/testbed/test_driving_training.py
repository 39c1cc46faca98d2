"""The driving course: its packed forward is the model's own, its labels point at what they name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from seeing import first_losses

from autoprune_lab.evaluation.prompts import prompt_text
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.tasks.base import Sample
from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.driving import losses
from autoprune_lab.testbed.driving.course import COURSE, tally, terms
from autoprune_lab.testbed.driving.expert import judge
from autoprune_lab.testbed.driving.labels import N_PATCHES, label, looks
from autoprune_lab.testbed.driving.layout import layout, vocabulary
from autoprune_lab.testbed.driving.lessons import Lessons, make_lesson
from autoprune_lab.testbed.driving.render import CLASSES, GRID, GROUND, draw
from autoprune_lab.testbed.driving.scene import KINDS, make_scene
from autoprune_lab.testbed.training import run
from autoprune_lab.testbed.training.batches import collate
from autoprune_lab.testbed.training.reader import Reading, read
from autoprune_lab.testbed.worlds import course_of, world_names


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM(build_untrained(layout(), 0).eval(), build_processor(layout()), "untrained")


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    rng = np.random.default_rng(3)
    return collate([make_lesson(rng) for _ in range(4)])


def test_a_packed_situation_reads_like_a_prompt_of_its_own(vlm, lessons):
    """Logits of the packed forward equal those of stock LLaVA on the separate, processed prompt of three images."""
    with torch.no_grad():
        reading = read(vlm.model, lessons, losses.WATCHED)
    for scene, q in ((0, 0), (1, 3)):
        words = [vocabulary()[int(t)] for t in lessons.tokens[scene, q]]
        text = " ".join(words[: int(lessons.rows[scene, q, 0])])
        inputs = vlm.processor(
            text=prompt_text(vlm.processor, Sample("", (None,) * 3, text, (), "")),
            images=[_picture(pixels) for pixels in lessons.pixels[scene]],
            return_tensors="pt",
        )
        with torch.no_grad():
            logits = vlm.model(**inputs).logits[0, -1]
        mine = reading.logits[reading.segment == scene * lessons.tokens.shape[1] + q][0]
        torch.testing.assert_close(mine, logits, atol=2e-5, rtol=0)


def _picture(pixels):
    from PIL import Image

    return Image.fromarray(((pixels.permute(1, 2, 0) + 1) * 127.5).round().numpy().astype("uint8"))


def test_half_precision_changes_the_losses_by_little():
    rng = np.random.default_rng(5)
    two = collate([make_lesson(rng) for _ in range(2)])
    model, probes = build_untrained(layout(n_layers=9), 1), COURSE.probes(96, 128)
    exact = {name: float(value) for name, value in terms(probes, read(model, two, losses.WATCHED), two).items()}
    reading = read(model, two, losses.WATCHED, half=True)
    half = terms(probes, reading, two)
    assert {name: float(value) for name, value in half.items()} == pytest.approx(exact, rel=0.02)
    assert half["answer"].dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_labels_name_what_is_there(kind):
    for seed in range(12):
        scene = make_scene(np.random.default_rng(seed), kind)
        labels = label(scene, draw(scene))
        for i, agent in enumerate(scene.agents):
            mine = labels.owner == i
            expected = "standing car" if agent.kind == "car" and agent.v_ahead == 0 else agent.kind
            assert set(labels.classes[mine]) <= {CLASSES.index(expected)}
            if mine.any():
                assert labels.place[mine][0] == pytest.approx(scene.boxes(0.0)[i, :2] / (10, 5))
        front = labels.ground[GRID * GRID : 2 * GRID * GRID]
        if scene.junction is None or scene.junction < 11:  # a line further off is thinner than a patch
            assert front[:, GROUND.index("line")].any() == (scene.junction is not None)
        assert front[:, GROUND.index("zebra")].any() == (scene.zebra is not None)


def test_a_driver_looks_at_what_decides():
    crossing = next(
        s
        for s in (make_scene(np.random.default_rng(i), "crossing") for i in range(20))
        if any(a.v_left for a in s.agents)
    )
    labels = label(crossing, draw(crossing))
    first, second = looks(crossing, "straight", labels, judge(crossing, "straight"))
    assert labels.ground[first, GROUND.index("zebra")].all()
    assert set(labels.owner[second]) == {0}


def test_the_answer_loss_is_zero_for_the_soft_targets_and_grows_with_distance(lessons):
    kernel = losses.coordinate_kernel()
    torch.testing.assert_close(kernel.sum(1), torch.ones(len(kernel)))
    wanted = lessons.targets[lessons.targets >= 0]
    unused = {"rows": wanted, "attention": {}, "hidden": {}, "vision_rms": wanted, "projected": wanted, "cls": wanted}
    perfect = Reading(kernel[wanted].clamp(min=1e-9).log(), wanted, wanted, **unused)
    assert float(losses.answer_loss(perfect, kernel)) == pytest.approx(0, abs=1e-3)
    words = vocabulary()
    near, far = (kernel[words.index("10.00"), words.index(word)] for word in ("10.25", "12.00"))
    assert near > 100 * far


def test_the_tally_counts_actions_and_metres(vlm, lessons):
    with torch.no_grad():
        reading = read(vlm.model, lessons, losses.WATCHED)
    one_hot = torch.nn.functional.one_hot(reading.targets, len(vocabulary())).float()
    perfect = tally(replace(reading, logits=one_hot), lessons)
    assert perfect[0].tolist() == perfect[2].tolist()
    assert perfect[1].sum() == 0
    assert perfect[2].sum() == lessons.kind.numel()
    moved = replace(reading, logits=one_hot.roll(1, dims=1))  # every coordinate a quarter metre too far
    errors = (tally(moved, lessons)[1] / perfect[2])[perfect[2] > 0]
    torch.testing.assert_close(errors, torch.full_like(errors, 0.25))


def test_a_few_steps_learn_to_see(lessons):
    values = first_losses(COURSE, layout(n_layers=1), lessons, 25)
    assert values[-1] < values[0] / 2


def test_the_course_runs_from_start_to_a_loadable_checkpoint(tmp_path):
    course = replace(
        course_of("driving"), layout=layout(n_layers=9, hidden=32), batch=1, vision_batch=1, vision_steps=2
    )
    run.train(course, tmp_path, seed=1, steps=2)
    assert load_model(str(tmp_path)).model.config.text_config.hidden_size == 32
    assert 3 * load_model(str(tmp_path)).model.config.image_seq_length == N_PATCHES
    assert world_names() == ["dense", "driving", "driving_loop", "highway", "shapes"]
