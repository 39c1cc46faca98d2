"""Videos through a stock processor and a tower: prompts, batches, kept features, and who cannot show them.

transformers makes no video processor without torchvision, so that of `cinema` is a stand-in that cuts frames into
patches as Qwen's does; the rest of the processor, its template, the tower and the decoder are the real ones.
"""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import layouts
import pytest
import torch
from cinema import Cinema, drawn, with_videos
from PIL import Image
from toys import chat_template, save_toy

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import extremes, prepare, prompt_lengths, prompt_text
from autoprune_lab.models.checkpoint import VLM, load_model, load_processor
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.models.visual_tokens import visual_token_ids
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.files import FilesTask
from autoprune_lab.tasks.videos import Video
from policies.logistic_adaptive import LogisticAdaptivePolicy
from search.study.complexity_cache import _task_mark

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.9))


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
    return with_videos(load_model(str(folder)))


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
