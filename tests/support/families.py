"""A tiny random model and inputs of every supported family: no download, no processor, attention far from uniform.

To add a family, add one entry to `FAMILIES`. All share the sizes of the decoder and the token ids.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as hf
from torch import Generator, Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

IMAGE, PAD, VOCAB = 63, 0, 64
N_LAYERS, SIDE, TILE, WINDOW = 6, 4, 3, 24
PATCHES = SIDE * SIDE

TEXT = {
    "vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 512,
    "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
KINDS = [f"{kind}_attention" for kind in ("sliding", "full", "sliding", "sliding", "full", "sliding")]
LAST_FULL = [*KINDS[:-1], "full_attention"]  # as Gemma 4 needs it: else its config changes the list that it is given
WINDOWED = {"sliding_window": WINDOW, "layer_types": KINDS, "query_pre_attn_scalar": 20}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}}

VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
WHOLE = VISION | {"image_size": 4 * SIDE, "patch_size": 4}
SHUFFLED = VISION | {"image_size": 4 * SIDE, "patch_size": 2}  # 2 x 2 patches a token
TILED = VISION | {"image_size": 4 * TILE, "patch_size": 4}
GRID = {"depth": 3, "num_heads": 4, "intermediate_size": 48, "patch_size": 4}  # 2 x 2 patches a token
PINPOINTS = {"image_grid_pinpoints": [[4 * TILE, 4 * TILE], [4 * TILE, 8 * TILE]]}


@dataclass(frozen=True, eq=False)
class Sample:
    """One prompt without padding: `ids` (tokens,), and `images` as the family's model takes them."""

    ids: Tensor
    images: dict[str, Tensor]

    @property
    def pixels(self) -> Tensor:
        return self.images["pixel_values"]


@dataclass(frozen=True, eq=False)
class Family:
    """A model type, what its configs say beyond `TEXT`, and its images.

    `draw` makes n images and says how many visual tokens each one is. `nested`: they go in one row per sample.
    `visual_type`: name of the input that marks visual tokens, and its value there.
    """

    model_type: str
    draw: Callable[[int, Generator], tuple[list[int], dict[str, Tensor]]]
    text: dict[str, Any]
    vision: dict[str, Any]
    top: dict[str, Any] = field(default_factory=dict)
    nested: bool = False
    visual_type: tuple[str, int] | None = None

    @property
    def mrope(self) -> bool:
        """Do visual tokens have positions in a plane?"""
        return MROPE.items() <= self.text.items()

    def build(self, attention: str = "sdpa", seed: int = 0, **text: Any) -> hf.PreTrainedModel:
        """Same seed -> same weights, whatever the attention implementation; `text` changes decoder sizes."""
        torch.manual_seed(seed)
        config = hf.AutoConfig.for_model(
            self.model_type, text_config=TEXT | self.text | text, vision_config=self.vision,
            **{"image_token_id": IMAGE, "tie_word_embeddings": False} | self.top,
        )  # fmt: skip
        model = hf.AutoModelForImageTextToText.from_config(config, attn_implementation=attention).eval()
        with torch.no_grad():
            for weight in (p for p in model.parameters() if p.ndim > 1):
                weight.normal_(std=0.16)
            decoder = model.get_decoder()
            for layer in getattr(decoder, "model", decoder).layers:
                attend = getattr(layer, "self_attn", None)  # peaked, so that the choice of tokens matters
                if attend is None:
                    continue
                query = getattr(attend, "q_proj", None) or attend.q_b_proj
                attend.q_norm.weight.add_(1.5) if hasattr(attend, "q_norm") else query.weight.mul_(2.5)
        return model

    def sample(self, seed: int, n_images: int = 1, before: int = 4, after: int = 8) -> Sample:
        """`before` text tokens, then per image its visual and `after` text tokens (0 images: text only)."""
        generator = torch.Generator().manual_seed(seed)
        counts, images = self.draw(n_images, generator)
        text = [torch.randint(3, IMAGE, (n,), generator=generator) for n in (before, *[after] * max(n_images, 1))]
        visual = [torch.full((n,), IMAGE) for n in counts or [0]]
        parts = [text[0], *(part for pair in zip(visual, text[1:], strict=True) for part in pair)]
        return Sample(torch.cat(parts), images)

    def batch(self, samples: list[Sample], side: str = "left", extra: int = 0) -> dict[str, Tensor]:
        """Model inputs, padded at `side` to the longest sample (and `extra` more)."""
        room = (extra, 0) if side == "left" else (0, extra)
        rows = [s.ids for s in samples], [torch.ones_like(s.ids) for s in samples]
        ids, mask = (pad(pad_sequence(r, True, PAD, side), room) for r in rows)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.visual_type:
            inputs[self.visual_type[0]] = (ids == IMAGE).long() * self.visual_type[1]
        join = (lambda images: pad_sequence(images, True)) if self.nested else torch.cat
        images = {name: join([s.images[name] for s in samples]) for name in samples[0].images}
        return inputs | {name: image for name, image in images.items() if image.numel()}


def _plain(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    return [PATCHES] * n, {"pixel_values": torch.randn(n, 3, 4 * SIDE, 4 * SIDE, generator=generator)}


def _tiles(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    """Images one and two tiles wide: an overview, and rows of patches that end in a newline each."""
    wide = [i % 2 + 1 for i in range(n)]
    sizes = torch.tensor([[4 * TILE, 4 * TILE * w] for w in wide], dtype=torch.long).reshape(n, 2)
    pixels = torch.randn(n, 3, 3, 4 * TILE, 4 * TILE, generator=generator)
    return [TILE * (TILE + w * TILE + 1) for w in wide], {"pixel_values": pixels, "image_sizes": sizes}


def _tiles_of_one(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    """The same, but two images in one prompt are not tiled: overview and one newline."""
    counts, images = _tiles(n, generator)
    return counts if n == 1 else [TILE * TILE + 1] * n, images | {"batch_num_images": torch.tensor([n])}


def _grids(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    """Images of unlike shapes, 2 x 2 patches a token."""
    grids = torch.tensor([[1, 8, 4 * (2 - i % 2)] for i in range(n)], dtype=torch.long).reshape(n, 3)
    counts = grids.prod(1)
    pixels = torch.randn(int(counts.sum()), 2 * 3 * 4 * 4, generator=generator)
    return (counts // 4).tolist(), {"pixel_values": pixels, "image_grid_thw": grids}


FAMILIES = {
    family.model_type: family
    for family in (
        Family("llava", _plain, {"model_type": "llama"}, WHOLE | {"model_type": "clip_vision_model"}),
        Family(
            "llava_next", _tiles, {"model_type": "mistral", "sliding_window": None},
            TILED | {"model_type": "clip_vision_model"}, PINPOINTS,
        ),
        Family(
            "llava_onevision", _tiles_of_one, {"model_type": "qwen2"},
            TILED | {"model_type": "siglip_vision_model", "vision_use_head": False},
            PINPOINTS | {"video_token_id": VOCAB},
        ),
        Family("internvl", _plain, {"model_type": "qwen2"}, SHUFFLED),
        Family(
            "qwen2_vl", _grids, MROPE, GRID | {"embed_dim": 32, "hidden_size": 48},
            visual_type=("mm_token_type_ids", 1),
        ),
        Family(
            "qwen2_5_vl", _grids, MROPE,
            GRID | {"hidden_size": 32, "out_hidden_size": 48, "window_size": 16, "fullatt_block_indexes": [1]},
            visual_type=("mm_token_type_ids", 1),
        ),
        Family(
            "qwen3_vl", _grids, MROPE,
            GRID | {"hidden_size": 32, "out_hidden_size": 48, "deepstack_visual_indexes": [0, 1, 2]}
            | {"num_position_embeddings": 64},
            visual_type=("mm_token_type_ids", 1),
        ),
        Family("smolvlm", _plain, {"model_type": "llama"}, SHUFFLED, nested=True),
        Family("idefics3", _plain, {"model_type": "llama"}, SHUFFLED, nested=True),
        Family(
            "gemma3", _plain, WINDOWED, WHOLE | {"model_type": "siglip_vision_model", "vision_use_head": False},
            {"mm_tokens_per_image": PATCHES}, visual_type=("token_type_ids", 1),
        ),
        Family(
            "paligemma", _plain, {"model_type": "gemma"},
            WHOLE | {"model_type": "siglip_vision_model", "vision_use_head": False},
            {"projection_dim": 48, "hidden_size": 48}, visual_type=("token_type_ids", 0),
        ),
    )
}  # fmt: skip
