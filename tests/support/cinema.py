"""A checkpoint that takes videos, with a stand-in for the part that needs torchvision, and a task of given samples."""

from dataclasses import dataclass

import numpy as np
import torch
from toys import chat_template
from transformers import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_utils import make_batched_metadata

from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.tasks.base import Sample, Task

SHOWS = "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\n{% else %}"
PATCH, MERGE = 4, 2


class Frames:
    """Stands in for Qwen2VLVideoProcessor: frames of 16 x 32 pixels, or `as_large` as they are, two a step in time."""

    merge_size, temporal_patch_size, valid_kwargs = MERGE, 2, VideosKwargs
    model_input_names = ("pixel_values_videos", "video_grid_thw")

    def __init__(self, as_large=False):
        self.as_large, self.asked = as_large, []

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
        rows, columns = (side // (PATCH * MERGE) * MERGE for side in (video.shape[1:3] if self.as_large else (16, 32)))
        pixels = torch.tensor(video).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = torch.nn.functional.interpolate(pixels, (rows * PATCH, columns * PATCH))
        if len(pixels) % 2:
            pixels = torch.cat([pixels, pixels[-1:]])
        steps = len(pixels) // 2
        blocks = pixels.reshape(steps, 2, 3, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
        flat = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(steps * rows * columns, -1)
        return flat, (steps, rows, columns)


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


def with_videos(made: VLM, as_large: bool = False) -> VLM:
    """The toy of Qwen2.5-VL with the stand-in in its processor, and a template that words videos."""
    made.model.config.video_token_id = made.processor.video_token_id
    made.processor.video_processor = Frames(as_large)
    made.processor.chat_template = chat_template("qwen2_5_vl").replace("{% else %}", SHOWS)
    return made
