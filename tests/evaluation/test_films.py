"""Videos through a stock processor and a tower: prompts, batches, kept features, and who cannot show them.

transformers makes no video processor without torchvision, so the one here is a stand-in that cuts frames into patches
as Qwen's does; the rest of the processor, its template, the tower and the decoder are the real ones.
"""

import hashlib
from dataclasses import dataclass, replace
from types import SimpleNamespace

import layouts
import numpy as np
import pytest
import torch
from PIL import Image
from toys import chat_template, save_toy
from transformers import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_utils import make_batched_metadata

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import extremes, prepare, prompt_lengths, prompt_text
from autoprune_lab.models.checkpoint import VLM, load_model, load_processor
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.models.visual_tokens import visual_token_ids
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.tasks.base import Sample, Task, TaskError
from autoprune_lab.tasks.files import FilesTask
from autoprune_lab.tasks.videos import Video
from policies.logistic_adaptive import LogisticAdaptivePolicy
from search.study.complexity_cache import _task_mark

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.9))
SHOWS = "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\n{% else %}"
ROWS, COLUMNS, PATCH, MERGE = 4, 8, 4, 2


class Frames:
    """Stands in for Qwen2VLVideoProcessor: frames of 16 x 32 pixels, two a step in time."""

    merge_size, temporal_patch_size, valid_kwargs = MERGE, 2, VideosKwargs
    model_input_names = ("pixel_values_videos", "video_grid_thw")

    def __init__(self):
        self.asked = []

    def __call__(self, videos, video_metadata, **kwargs):
        self.asked.append(kwargs)
        patches, grids = zip(*(self._cut(video) for video in videos), strict=True)
        return BatchFeature(
            {
                "pixel_values_videos": torch.cat(patches),
                "video_grid_thw": torch.tensor(grids),
                "video_metadata": make_batched_metadata(videos, video_metadata),
            }
        )

    def _cut(self, video):
        pixels = torch.tensor(video).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = torch.nn.functional.interpolate(pixels, (ROWS * PATCH, COLUMNS * PATCH))
        if len(pixels) % 2:
            pixels = torch.cat([pixels, pixels[-1:]])
        steps = len(pixels) // 2
        blocks = pixels.reshape(steps, 2, 3, ROWS // MERGE, MERGE, PATCH, COLUMNS // MERGE, MERGE, PATCH)
        flat = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(steps * ROWS * COLUMNS, -1)
        return flat, (steps, ROWS, COLUMNS)


@dataclass(frozen=True, eq=False)
class Cinema(Task):
    asked: tuple[Sample, ...]

    name = "cinema"
    max_new_tokens = 3

    def samples(self):
        return self.asked

    def score(self, prediction, sample):
        return 0.0


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, 255, (*shape, 3), dtype=np.uint8)


def asked():
    picture = Image.fromarray(drawn(0, 20, 30))
    film, long = Video(drawn(1, 4, 20, 30), 2.0), Video([Image.fromarray(one) for one in drawn(2, 5, 24, 40)], 1.0)
    sampled = Video(drawn(3, 4, 20, 30), 30.0, (0, 30, 60, 90), 91)
    shown = [((), (film,)), ((picture,), ()), ((picture,), (sampled,)), ((), (long,)), ((), ()), ((), (film, sampled))]
    return tuple(
        Sample(str(i), images, "What is there" + " in the image?" * i, ("cat",), "all", videos)
        for i, (images, videos) in enumerate(shown)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_toy("qwen2_5_vl", tmp_path_factory.mktemp("qwen2_5_vl"))


@pytest.fixture(scope="module")
def vlm(folder) -> VLM:
    made = load_model(str(folder))
    made.model.config.video_token_id = made.processor.video_token_id
    made.processor.video_processor = Frames()
    made.processor.chat_template = chat_template("qwen2_5_vl").replace("{% else %}", SHOWS)
    return made


def test_answers_depend_on_neither_batches_nor_kept_features(vlm):
    runs = []
    for size, most in ((4, None), (1, None), (2, 1)):
        prepared = prepare(vlm, Cinema(asked()), batch_size=size, most_bytes=most)
        assert not prepared.left_out
        assert [g.n_vision for g in prepared.geometries][0::3] == [2 * 8, 3 * 8]
        lengths = prompt_lengths(vlm.processor, visual_token_ids(vlm.model.config), extremes(prepared.samples))
        assert lengths == [(g.n_vision, g.n_text) for g in prepared.geometries]
        runs.append(evaluate(vlm, prepared, PRUNER).rows)
    assert runs[0][5].n_vision == 4 * 8
    assert runs[0][2].n_vision == runs[0][1].n_vision + 2 * 8
    assert any(row.mean_tokens < row.n_vision for row in runs[0])
    for rows in runs[1:]:
        assert [row.prediction for row in rows] == [row.prediction for row in runs[0]]
        assert [row.decoder_flops for row in rows] == [row.decoder_flops for row in runs[0]]


@torch.no_grad()
def test_kept_features_give_the_logits_of_the_frames(vlm):
    prepared = prepare(vlm, Cinema(asked()), batch_size=2)
    for batch in prepared.batches:
        pixels = batch.make.tokenise()
        assert torch.equal(vlm.model(**batch.arguments()).logits, vlm.model(**pixels).logits)
        filmed = [sample.videos for sample in (prepared.samples[i] for i in batch.places)]
        assert ("video" in batch.kept.get("mm_encoder_outputs", {})) == any(filmed)
        assert len({tuple(len(video.frames) for video in videos) for videos in filmed}) == 1


def test_the_processor_is_told_when_frames_were_taken_and_samples_none_itself(vlm):
    (batch,) = prepare(vlm, Cinema(asked()[5:]), batch_size=1).batches
    torch.testing.assert_close(batch.inputs["second_per_grid_ts"], torch.tensor([2 / 2, 2 / (4 / 91 * 30)]))
    assert vlm.processor.video_processor.asked[-1]["do_sample_frames"] is False


def test_what_cannot_show_a_video_is_named_with_the_remedy(folder, tmp_path):
    filmed = asked()[0]
    with pytest.raises(CheckpointError, match=r"Qwen2_5_VLProcessor shows videos only with torchvision.*pip install"):
        prompt_text(load_processor(str(folder)), filmed)
    llava = load_processor(str(save_toy("llava", tmp_path)))
    with pytest.raises(CheckpointError, match="LlavaProcessor takes no videos: give frames as a list of images"):
        prompt_lengths(llava, [1], [filmed])


def test_a_template_that_does_not_word_videos_is_refused(vlm, monkeypatch):
    monkeypatch.setattr(vlm.processor, "chat_template", chat_template("qwen2_5_vl"))
    with pytest.raises(TaskError, match=r"prompt of 0 has <\|video_pad\|> 0 times for 1 videos"):
        prepare(vlm, Cinema(asked()[:1]))


def test_a_broken_frame_leaves_its_sample_out(vlm, tmp_path):
    good = asked()[0]
    (tmp_path / "a.png").write_bytes(layouts.damaged_png())
    row = {"video": "film", "question": "What?", "answers": "cat"}
    film = tmp_path / "film"
    film.mkdir()
    (tmp_path / "a.png").rename(film / "a.png")
    (broken,) = FilesTask(str(layouts.jsonl(tmp_path / "mine.jsonl", [row])), split="all").samples()
    prepared = prepare(vlm, Cinema((good, broken)), batch_size=2)
    assert [sample.id for sample in prepared.samples] == ["0"]
    assert "a.png cannot be decoded" in prepared.left_out[1].reason


def test_a_digest_of_samples_sees_every_frame_and_is_the_old_one_without_videos():
    def mark(*samples):
        return _task_mark(SimpleNamespace(samples=samples, batches=[]))

    filmed, still = asked()[:2]
    (picture,) = still.images
    old = hashlib.sha256(repr([]).encode())
    old.update(repr((still.id, still.kind, still.question)).encode())
    old.update(repr((picture.mode, picture.size)).encode())
    old.update(picture.tobytes())
    assert mark(still) == old.digest()
    (video,) = filmed.videos
    changed = video.frames.copy()
    changed[-1, -1, -1, -1] ^= 1
    others = [Video(changed, video.fps), Video(video.frames, 3.0), Video(video.frames, video.fps, (0, 2, 4, 6))]
    assert len({mark(filmed), *(mark(replace(filmed, videos=(other,))) for other in others)}) == 4
