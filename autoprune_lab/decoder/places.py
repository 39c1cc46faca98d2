"""Places: what the patches of pictures become, token by token: which of them a visual token is, and where it sits.

A family stands here once a test has seen that the token which answers a changed patch is the one named. Where packing
is more than blocks of patches the model's own code does it, on whatever is to be carried. Another family is refused:
nothing is guessed from counts.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.tower import Tower


class UnknownPlacesError(ValueError):
    """It is not known what a family's tokens are made of."""


@dataclass(frozen=True, eq=False)
class Places:
    """The tokens of all images, or of all videos, of one call, in the order in which the decoder reads them.

    `place`: (picture, t, h, w) of each, as `Evidence.grid` says it, but pictures count through the call. `carry`:
    values of the tower's patches, (pictures, patches, c) or (1, patches, c), -> values of tokens (tokens, c): the mean
    over the patches merged into a token; 0 for one that no patch stands behind.
    """

    place: Callable[[], Int[Tensor, "tokens 4"]]
    carry: Callable[[Tensor], Tensor]


def told(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model's arguments says how its pictures lie; of pixels that is their shape."""
    return {
        name: value.shape if name.startswith("pixel_values") and isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }


def places(anatomy: Anatomy, kind: str, given: Mapping[str, Any], n_tokens: int) -> Places:
    """The places of the `n_tokens` tokens of one `kind` (image or video), of what the model was `told`.

    Raises UnknownPlacesError with the family and the reason where they are not known.
    """
    rule = _RULES.get(getattr(anatomy.model.config, "model_type", ""), {}).get(kind)
    if rule is None:
        raise _unknown(anatomy, f"how it lays out the patches of a{'n image' if kind == 'image' else ' video'}")
    return rule(anatomy, given, n_tokens)


def _unknown(anatomy: Anatomy, what: str) -> UnknownPlacesError:
    name = type(anatomy.model).__name__
    return UnknownPlacesError(
        f"places of visual tokens are not known for {name}: {what} is not known; choose what needs neither grid nor "
        "tower"
    )


def _blocks(
    anatomy: Anatomy,
    given: Mapping[str, Any],
    n_tokens: int,
    side_of: Callable[[Anatomy], int] = lambda anatomy: 1,
    pixels: str = "pixel_values",
    fixed: bool = True,
) -> Places:
    """Square pictures, each token a square block of patches, row by row.

    `side_of` gives the block's side in patches; `fixed`: pictures have the size of the tower's config.
    """
    whole = given.get("vision_feature_select_strategy") == "full" and _has_cls(anatomy)
    if given.get("image_sizes") is not None or whole:
        raise _unknown(anatomy, "where the tokens of pictures of their own sizes, or of [CLS], stand")
    tower, block = anatomy.model.config.vision_config, side_of(anatomy)
    shape = given.get(pixels)
    if shape is None and not fixed:
        raise _unknown(anatomy, "the size of pictures that were given as features (give pixel_values)")
    height, width = (_number(tower.image_size),) * 2 if shape is None else shape[-2:]
    frames = shape[1] if shape is not None and len(shape) == 5 and pixels != "pixel_values" else 1
    side = height // _number(tower.patch_size)
    if height != width or side % block:
        raise _unknown(anatomy, f"how pictures of {height} x {width} pixels become tokens")
    n_side = side // block
    n_pictures, rest = divmod(n_tokens, n_side**2 * frames)
    if rest:
        raise _unknown(anatomy, f"how pictures of {n_side} x {n_side} tokens make {n_tokens}")

    def carry(values: Tensor) -> Tensor:
        n, _, width = values.shape
        return values.view(n, n_side, block, n_side, block, width).mean((2, 4)).flatten(0, 2)

    return Places(lambda: _raster(torch.tensor([[frames, n_side, n_side]] * n_pictures).reshape(-1, 3)), carry)


def _grids(anatomy: Anatomy, given: Mapping[str, Any], n_tokens: int, name: str) -> Places:
    """Pictures of unlike sizes in one sequence of patches, block by block, or by windows of blocks."""
    tower, grids = anatomy.tower, given.get(name)
    if grids is None or tower is None:
        raise _unknown(anatomy, f"{name}, which says the pictures' sizes, (it was not given)")
    side = int(anatomy.model.config.vision_config.spatial_merge_size)
    grids = torch.as_tensor(grids).cpu()
    order = _window_order(tower, grids)

    def carry(values: Tensor) -> Tensor:
        tokens = values.reshape(-1, side**2, values.shape[-1]).mean(1)
        return tokens if order is None else torch.empty_like(tokens).index_copy(0, order.to(tokens.device), tokens)

    return Places(lambda: _raster(grids // torch.tensor([1, side, side])), carry)


def _merged(anatomy: Anatomy, given: Mapping[str, Any], n_tokens: int) -> Places:
    """Pictures of unlike sizes, one after another, row by row of patches; each token a square block (Mistral 3)."""
    config: Any = anatomy.model.config
    sizes, side = given.get("image_sizes"), int(config.spatial_merge_size)
    if sizes is None:
        raise _unknown(anatomy, "image_sizes, which says the pictures' sizes, (it was not given)")
    grids = torch.as_tensor(sizes).cpu() // config.vision_config.patch_size
    blocks = grids // side

    def carry(values: Tensor) -> Tensor:
        """Rows and columns that fill no block become no token."""
        parts, tokens = torch.split(values[0], grids.prod(1).tolist()), []
        for part, (height, width), (rows, columns) in zip(parts, grids.tolist(), blocks.tolist(), strict=True):
            picture = part.view(height, width, -1)[: rows * side, : columns * side]
            tokens.append(picture.reshape(rows, side, columns, side, -1).mean((1, 3)).flatten(0, 1))
        return torch.cat(tokens)

    return Places(lambda: _raster(torch.cat([torch.ones_like(blocks[:, :1]), blocks], dim=1)), carry)


def _window_order(tower: Any, grids: Tensor) -> Tensor | None:
    """Which token stands at each place of the tower's sequence; None: they stand in their order."""
    own = getattr(tower, "get_window_index", None)
    if own is not None:
        return torch.as_tensor(own(grids)[0])
    find = getattr(sys.modules[type(tower).__module__], "get_vision_window_index", None)
    if find is None or not hasattr(tower, "window_size"):
        return None
    order: Tensor = find(
        grids, spatial_merge_size=tower.spatial_merge_size, window_size=tower.window_size, patch_size=tower.patch_size
    )[0]
    return order


def _packed(anatomy: Anatomy, given: Mapping[str, Any], n_tokens: int) -> Places:
    """An overview, and the tiles put together, unpadded, each of their rows ended by a newline (LLaVA-NeXT)."""
    base: Any = anatomy.model.base_model
    config: Any = anatomy.model.config
    code, sizes = sys.modules[type(base).__module__], given.get("image_sizes")
    if sizes is None:
        raise _unknown(anatomy, "image_sizes, which says how tiles lie, (it was not given)")
    side, several = config.vision_config.image_size, given.get("batch_num_images")
    tiled = [True] * len(sizes) if several is None else [n == 1 for n in several for _ in range(n)]
    n_tiles = [
        code.image_size_to_num_patches(size, config.image_grid_pinpoints, side) if tile else 1
        for size, tile in zip(sizes, tiled, strict=True)
    ]

    def pack(values: Tensor) -> list[Tensor]:
        """Newlines are 0."""
        parts = torch.split(values, n_tiles)
        own = {
            name: given.get(name) or getattr(config, name)
            for name in ("vision_feature_select_strategy", "vision_aspect_ratio")
            if name in base.pack_image_features.__code__.co_varnames
        }
        newline = values.new_zeros(values.shape[-1])
        packed: list[Tensor] = base.pack_image_features(parts, sizes, image_newline=newline, **own)[0]
        return packed

    per_side = side // config.vision_config.patch_size
    n_patches, rows = per_side**2, []
    for i, (tiles, picture) in enumerate(zip(n_tiles, pack(torch.ones(sum(n_tiles), n_patches, 1)), strict=True)):
        overview = _raster(torch.tensor([[1, per_side, per_side]]))
        overview[:, 0] = i
        rest = picture[n_patches:, 0] < 0.5
        if tiles == 1:
            rows += [overview, torch.tensor([[i, 0, -1, -1]])]
            continue
        width = int(rest.byte().argmax())
        order = torch.arange(len(rest))
        h, w = order // (width + 1), order % (width + 1)
        place = torch.stack([torch.full_like(h, i), torch.ones_like(h), h, w], dim=1)
        place[rest, 2:] = -1
        rows += [overview, place]
    return Places(lambda: torch.cat(rows), lambda values: torch.cat(pack(values)))


def _pooled_frames(anatomy: Anatomy, given: Mapping[str, Any], n_tokens: int) -> Places:
    """Frames made smaller by interpolation, and one newline behind each video (LLaVA-OneVision)."""
    base: Any = anatomy.model.base_model
    shape, tower = given.get("pixel_values_videos"), anatomy.model.config.vision_config
    if shape is None:
        raise _unknown(anatomy, "the number of frames of videos that were given as features (give pixel_values_videos)")
    n_videos, n_frames = shape[:2]
    side = -(-(tower.image_size // tower.patch_size) // 2)
    frames = _raster(torch.tensor([[n_frames, side, side]] * n_videos).reshape(-1, 3)).view(n_videos, -1, 4)
    ends = torch.tensor([[[i, -1, -1, -1]] for i in range(n_videos)])

    def carry(values: Tensor) -> Tensor:
        pooled = base.apply_pooling(values).reshape(n_videos, -1, values.shape[-1])
        return torch.cat([pooled, torch.zeros_like(pooled[:, :1])], dim=1).flatten(0, 1)

    return Places(lambda: torch.cat([frames, ends], dim=1).flatten(0, 1), carry)


def _latent(anatomy: Anatomy, given: Mapping[str, Any], n_tokens: int) -> Places:
    """Refused: a resampler's learned queries."""
    name = type(anatomy.model).__name__
    raise UnknownPlacesError(
        f"places of visual tokens are not known for {name}: each is a learned query that reads the whole picture, and "
        "has no place; choose what needs neither grid nor tower"
    )


def _raster(grids: Int[Tensor, "pictures 3"]) -> Int[Tensor, "tokens 4"]:
    """(picture, t, h, w) of every token of pictures that have t x h x w of them each."""
    parts = [
        torch.cartesian_prod(torch.tensor([i]), *(torch.arange(n) for n in grid))
        for i, grid in enumerate(grids.tolist())
    ]
    return torch.cat(parts) if parts else torch.empty(0, 4, dtype=torch.long)


def _has_cls(anatomy: Anatomy) -> bool:
    tower = Tower.of(anatomy)
    return tower is not None and tower.has_cls


def _number(size: Any) -> int:
    """A side of a square that some configs give twice."""
    return int(size[0] if isinstance(size, list | tuple) else size)


def _kernel(anatomy: Anatomy) -> int:
    base: Any = anatomy.model.base_model
    return int(base.multi_modal_projector.kernel_size)


def _shuffled(anatomy: Anatomy) -> int:
    config: Any = anatomy.model.config
    return int(getattr(config, "scale_factor", 0) or 1 / config.downsample_ratio)


def _downsampled(anatomy: Anatomy) -> int:
    return int(anatomy.model.config.downsample_factor)


def _stride(anatomy: Anatomy) -> int:
    return int(anatomy.model.config.spatial_pool_stride)


_Rule = Callable[[Anatomy, Mapping[str, Any], int], Places]
_GRIDS: dict[str, _Rule] = {
    "image": partial(_grids, name="image_grid_thw"),
    "video": partial(_grids, name="video_grid_thw"),
}
_RULES: dict[str, dict[str, _Rule]] = {
    "llava": {"image": _blocks},
    "vipllava": {"image": _blocks},
    "paligemma": {"image": _blocks},
    "gemma3": {"image": partial(_blocks, side_of=_kernel)},
    "internvl": {"image": partial(_blocks, side_of=_shuffled, fixed=False)},
    "smolvlm": {"image": partial(_blocks, side_of=_shuffled, fixed=False)},
    "idefics3": {"image": partial(_blocks, side_of=_shuffled, fixed=False)},
    "aya_vision": {"image": partial(_blocks, side_of=_downsampled)},
    "cohere2_vision": {"image": partial(_blocks, side_of=_downsampled)},
    "mistral3": {"image": _merged},
    "llava_next": {"image": _packed},
    "llava_next_video": {
        "image": _packed,
        "video": partial(_blocks, side_of=_stride, pixels="pixel_values_videos", fixed=False),
    },
    "llava_onevision": {"image": _packed, "video": _pooled_frames},
    "qwen2_vl": _GRIDS,
    "qwen2_5_vl": _GRIDS,
    "qwen3_vl": _GRIDS,
    "qwen3_vl_moe": _GRIDS,
    "qwen2_5_omni_thinker": _GRIDS,
    "qwen3_omni_moe_thinker": _GRIDS,
    "glm4v": {"image": _GRIDS["image"]},  # frames of its videos carry the image's token: see `Sight`
    "glm4v_moe": {"image": _GRIDS["image"]},
    "glm46v": {"image": _GRIDS["image"]},
    "kosmos-2": {"image": _latent},
    "kosmos-2.5": {"image": _latent},
}
"""Model type -> its rules; `tests/decoder/test_places.py` has a patch changed in each that does not refuse."""
