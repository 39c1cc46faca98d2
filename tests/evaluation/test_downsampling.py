"""Smaller pictures at equal FLOPs: what a stock processor makes of them, and how far they shrink."""

from dataclasses import replace

import pytest
from cinema import Cinema, drawn, with_videos
from fake_evaluator import SMALL
from PIL import Image
from toys import save_toy

from autoprune_lab.decoder.anatomy import geometry_of
from autoprune_lab.evaluation.downsampling import (
    DownsamplingError,
    Reader,
    against,
    downsampled,
    enlarged,
    fixed_tokens,
)
from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import batch_of, prepare
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.models.visual_tokens import visual_token_ids
from autoprune_lab.schedule.flops import unpruned_flops
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.downsampled import scaled
from autoprune_lab.tasks.pictures import Album, FilePicture
from autoprune_lab.tasks.videos import Video


def asked(name, *images, videos=()):
    return Sample(name, images, "What is there", ("cat",), "all", videos)


def picture(width, height, seed=0):
    return Image.fromarray(drawn(seed, height, width))


def reader_of(vlm):
    return Reader(vlm.processor, visual_token_ids(vlm.model.config), geometry_of(vlm.model))


def ratios(small, whole):
    return [unpruned_flops(a) / unpruned_flops(b) for a, b in zip(small.geometries, whole.geometries, strict=True)]


@pytest.mark.parametrize(
    ("family", "sides", "counts", "fewer"),
    [
        ("qwen2_5_vl", [(96, 64), (40, 80)], [24, 18], [20, 15]),
        ("llava_next", [(96, 64), (192, 128)], [24, 24], [21, 21]),
        ("internvl", [(96, 64)], [48], [16]),
    ],
)
def test_real_prompts_are_within_the_bound_and_their_costs_exact(family, sides, counts, fewer, tmp_path):
    vlm = load_model(str(save_toy(family, tmp_path)))
    task = Cinema((*(asked(str(i), picture(*size)) for i, size in enumerate(sides)), asked("text")))
    reader, whole = reader_of(vlm), prepare(vlm, task, batch_size=1)
    smaller = downsampled(task, reader, 0.92)
    small = prepare(vlm, smaller, batch_size=1)
    assert [prompt.n_vision for prompt in whole.geometries] == [*counts, 0]
    assert [prompt.n_vision for prompt in small.geometries] == [*fewer, 0]
    assert max(ratios(small, whole)[:-1]) <= 0.92
    assert smaller.scales["text"] == 1
    assert [reader.read(s, smaller.scales[s.id]) for s in task.samples()] == list(small.geometries)
    records = against(evaluate(vlm, small), evaluate(vlm, whole))
    spent, all_of_it = (sum(map(unpruned_flops, prepared.geometries)) for prepared in (small, whole))
    assert records.flops_ratio == spent / all_of_it
    assert records.mean_tokens == sum(fewer) / (len(fewer) + 1)
    assert fixed_tokens(task.samples(), reader) is None


@pytest.mark.parametrize("family", ["llava", "gemma3", "smolvlm"])
def test_a_processor_of_one_size_is_found_and_told_by_its_count(family, tmp_path):
    vlm = load_model(str(save_toy(family, tmp_path)))
    task = Cinema((asked("a", picture(96, 64)), asked("b", picture(200, 200)), asked("text")))
    assert fixed_tokens(task.samples(), reader_of(vlm)) == 16
    coarse = enlarged(task, 0.25)
    assert [image.size for sample in coarse.samples() for image in sample.images] == [(96, 64), (200, 200)]
    assert prepare(vlm, coarse).geometries == prepare(vlm, task).geometries
    with pytest.raises(DownsamplingError, match=r"below 1\.000 of its FLOPs"):
        downsampled(task, reader_of(vlm), 0.9)


def test_frames_shrink_as_pictures_do(tmp_path):
    vlm = with_videos(load_model(str(save_toy("qwen2_5_vl", tmp_path))), as_large=True)
    films = Video(drawn(1, 4, 64, 96), 2.0), Video([picture(48, 48, seed) for seed in range(2)], 30.0, (3, 9), 20)
    task = Cinema(tuple(asked(str(i), videos=(film,)) for i, film in enumerate(films)))
    whole = prepare(vlm, task, batch_size=1)
    smaller = downsampled(task, reader_of(vlm), 0.5)
    small = prepare(vlm, smaller, batch_size=1)
    assert [prompt.n_vision for prompt in whole.geometries] == [2 * 8 * 12, 6 * 6]
    assert all(0.2 < ratio <= 0.5 for ratio in ratios(small, whole))
    shown = smaller.samples()[1].videos[0]
    assert (shown.times, shown.length) == (films[1].times, 20)


class Blocks(Reader):
    """A token for each 8 x 8 pixels; refuses what is less than 20 pixels wide."""

    def read(self, sample, scale=1.0):
        sizes = [scaled(image.size, scale) for image in sample.images]
        if any(width < 20 for width, _ in sizes):
            return None
        return self.decoder.with_tokens(sum((width // 8) * (height // 8) for width, height in sizes), 12)


BLOCKS = Blocks(None, (), SMALL)


@pytest.mark.parametrize("bound", [0.7, 0.35, 0.2])
@pytest.mark.parametrize("sides", [[(400, 300)], [(80, 300), (64, 64)]])
def test_pictures_are_as_large_as_the_bound_pays_for(bound, sides):
    sample = asked("a", *(picture(*size) for size in sides))
    whole, scale = BLOCKS.read(sample), downsampled(Cinema((sample,)), BLOCKS, bound).scales["a"]

    def ratio(at):
        return unpruned_flops(BLOCKS.read(sample, at)) / unpruned_flops(whole)

    assert ratio(scale) <= bound < ratio(scale + 1 / max(sides[0]))


def test_a_bound_that_pays_for_everything_leaves_pictures_alone():
    task = Cinema((asked("a", picture(96, 64)),))
    assert downsampled(task, BLOCKS, 1.0).samples() == task.samples()
    assert enlarged(task, 1.0).samples() == task.samples()


def test_what_stays_too_dear_tells_the_floor():
    task = Cinema((asked("wide", picture(400, 300)), asked("narrow", picture(40, 40))))
    floor = unpruned_flops(SMALL.with_tokens(2 * 2, 12)) / unpruned_flops(SMALL.with_tokens(5 * 5, 12))
    with pytest.raises(DownsamplingError) as found:
        downsampled(task, BLOCKS, 0.3)
    assert found.value.floor == pytest.approx(floor)
    assert downsampled(task, BLOCKS, found.value.floor).scales["wide"] < 0.8


def test_a_picture_that_cannot_be_read_is_left_to_who_names_it(tmp_path):
    broken = replace(asked("broken"), images=Album((FilePicture(tmp_path / "missing.png"),)))
    task = Cinema((asked("a", picture(96, 64)), broken))
    smaller = downsampled(task, BLOCKS, 0.5)
    assert smaller.scales["broken"] == 1
    assert smaller.samples()[1] is broken
    assert [sample.id for sample in smaller.only(["a"]).samples()] == ["a"]


def test_samples_become_one_batch(tmp_path):
    vlm = load_model(str(save_toy("qwen2_5_vl", tmp_path)))
    samples = (asked("a", picture(96, 64)), asked("b", picture(40, 80)))
    batch = batch_of(vlm, samples)
    assert batch.places == (0, 1)
    assert int((batch.inputs["input_ids"] == vlm.model.config.image_token_id).sum()) == 24 + 18
    assert "mm_encoder_outputs" in batch.inputs
