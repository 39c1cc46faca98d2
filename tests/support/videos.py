"""Tiny families that take videos: prompts of images, videos and text in any order, with the pixels of both."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from families import FAMILIES, IMAGE, PINPOINTS, TILE, TILED, VOCAB, Family, Sample
from torch import Generator, Tensor

VIDEO = VOCAB  # one more token
FRAMES = 3


@dataclass(frozen=True, eq=False)
class Filmed(Family):
    """A family, and its videos: `film` makes n of them and says how many visual tokens each frame of one is.

    Text (time stamps) stands between the frames where a video is several; `film_type`: a video's value of
    `visual_type`.
    """

    film: Callable[[int, Generator], tuple[list[int], dict[str, Tensor]]] = field(kw_only=True)
    film_type: int = field(kw_only=True, default=2)

    def told(self, seed: int, story: str) -> Sample:
        """i: an image, v: a video, t: six tokens of text, a to z in this order."""
        generator = torch.Generator().manual_seed(seed)
        image_counts, images = self.draw(story.count("i"), generator)
        frame_counts, videos = self.film(story.count("v"), generator)
        ids, drawn = list[Tensor](), iter(image_counts)
        for part in story:
            if part == "i":
                ids.append(torch.full((next(drawn),), IMAGE))
            elif part == "v":
                ids += [self._stamped(n, generator) for n in frame_counts]
            else:
                ids.append(torch.randint(3, IMAGE, (6,), generator=generator))
        return Sample(torch.cat(ids), images | videos)

    def batch(self, samples: list[Sample], side: str = "left", extra: int = 0) -> dict[str, Tensor]:
        """As any family's, with the type of video tokens."""
        inputs = super().batch(samples, side, extra)
        if self.visual_type:
            inputs[self.visual_type[0]] += (inputs["input_ids"] == VIDEO).long() * self.film_type
        return inputs

    def _stamped(self, n: int, generator: Generator) -> Tensor:
        return torch.cat([torch.full((n,), VIDEO), torch.randint(3, IMAGE, (2,), generator=generator)])


def _grid_film(frames_apart: bool) -> Callable[[int, Generator], tuple[list[int], dict[str, Tensor]]]:
    """Videos of three steps in time, 2 x 2 patches a token; `frames_apart`: each step is a block of its own."""

    def film(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
        grids = torch.tensor([[FRAMES, 4, 8]] * n, dtype=torch.long).reshape(n, 3)
        pixels = torch.randn(int(grids.prod(1).sum()), 2 * 3 * 4 * 4, generator=generator)
        counts = [8] * FRAMES if frames_apart else [8 * FRAMES]
        return counts, {"pixel_values_videos": pixels, "video_grid_thw": grids}

    return film


def _frames(counts: list[int]) -> Callable[[int, Generator], tuple[list[int], dict[str, Tensor]]]:
    def film(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
        pixels = torch.randn(n, FRAMES, 3, 4 * TILE, 4 * TILE, generator=generator)
        return counts, {"pixel_values_videos": pixels}

    return film


def _filmed(name: str, film: Callable[[int, Generator], tuple[list[int], dict[str, Tensor]]], **top: Any) -> Filmed:
    """An image family that takes videos too."""
    base = FAMILIES[name]
    given = {one.name: getattr(base, one.name) for one in fields(Family)}
    wider = {"text": base.text | {"vocab_size": VOCAB + 1}, "top": base.top | {"video_token_id": VIDEO} | top}
    return Filmed(**given | wider, film=film)


FILMED = {
    "qwen2_5_vl": _filmed("qwen2_5_vl", _grid_film(False)),
    "qwen3_vl": _filmed("qwen3_vl", _grid_film(True)),
    "llava_onevision": _filmed("llava_onevision", _frames([2 * 2 * FRAMES + 1])),
    "llava_next_video": Filmed(
        "llava_next_video", FAMILIES["llava_next"].draw, {"model_type": "llama", "vocab_size": VOCAB + 1},
        TILED | {"model_type": "clip_vision_model"},
        PINPOINTS | {"video_token_id": VIDEO, "spatial_pool_stride": 1}, film=_frames([TILE * TILE * FRAMES]),
    ),
}  # fmt: skip
