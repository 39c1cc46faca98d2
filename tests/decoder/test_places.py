"""Where visual tokens sit: the token that answers a patch which was made to differ is the one that the grid names."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import transformers as hf
from arms import model, seen_by
from families import FAMILIES, GRID, IMAGE, MROPE, SHUFFLED, TILE, VISION, Family, Sample
from PIL import Image
from videos import FILMED, FRAMES, VIDEO

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.places import UnknownPlacesError, places
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from policies.layerwise import LayerwisePolicy

START, GRIDS = 61, FAMILIES["qwen2_vl"].draw  # a picture's start


@cache
def filmed(name):
    return FILMED[name].build()


@torch.no_grad()
def grid_of(net, inputs, **options):
    """`Evidence.grid` of a batch; `options` go to `generate`."""
    seen = []

    def spy(evidence):
        _ = evidence.grid
        return scorers.feature_norm(evidence)

    with Pruner(LayerwisePolicy((0.5,), (0.5,)), scorer=seen_by(spy, seen)).attach(net):
        net.generate(**inputs, max_new_tokens=2, **options) if options else net(**inputs)
    return seen[0].grid


@torch.no_grad()
def answering(net, inputs, name, change):
    """The place of the token whose feature changes most where `change` has been at the pixels `name`."""
    kind = "video" if "videos" in name else "image"
    takes = {"image": ("pixel_values", "image_sizes", "image_grid_thw", "batch_num_images")} | {
        "video": ("pixel_values_videos", "video_grid_thw")
    }

    def features(pixels):
        given = {key: inputs[key] for key in takes[kind] if key in inputs} | {name: pixels}
        made = getattr(net.base_model, f"get_{kind}_features")(**given, return_dict=True).pooler_output
        return torch.cat(list(made)) if not torch.is_tensor(made) else made.flatten(0, -2)

    changed = inputs[name].clone()
    change(changed)
    token = (features(changed) - features(inputs[name])).norm(dim=-1).argmax()
    token_id = VIDEO if kind == "video" else IMAGE
    stands = inputs["input_ids"][torch.isin(inputs["input_ids"], torch.tensor([IMAGE, VIDEO]))] == token_id
    grid = grid_of(net, inputs)
    return grid[grid[..., 0] >= 0][stands][token].tolist()


def patch(h, w, *slot, size=4):
    """Noise over one patch of a picture, at `slot` of the pixels."""

    def change(pixels):
        noise = 5 * torch.randn(3, size, size, generator=torch.Generator().manual_seed(1))
        pixels[(*slot, slice(None), slice(h * size, (h + 1) * size), slice(w * size, (w + 1) * size))] += noise

    return change


@pytest.mark.parametrize("name", ["llava", "paligemma", "gemma3", "internvl", "smolvlm", "idefics3"])
@pytest.mark.parametrize(("h", "w"), [(0, 3), (2, 1)])
def test_square_pictures(name, h, w):
    inputs = FAMILIES[name].batch([FAMILIES[name].sample(2, n_images=2)])
    slot = (0, 1) if FAMILIES[name].nested else (1,)  # the second picture
    assert answering(model(name), inputs, "pixel_values", patch(h, w, *slot)) == [1, 0, h, w]


@pytest.mark.parametrize("name", ["internvl", "smolvlm", "idefics3"])
def test_each_of_the_patches_that_pixel_shuffle_puts_together(name):
    inputs = FAMILIES[name].batch([FAMILIES[name].sample(2)])
    slot = (0, 0) if FAMILIES[name].nested else (0,)
    for h, w in ((2, 5), (3, 4), (7, 6)):  # of 8 x 8 patches, 2 pixels each
        place = answering(model(name), inputs, "pixel_values", patch(h, w, *slot, size=2))
        assert place == [0, 0, h // 2, w // 2]


def test_pooled_patches_of_gemma3():
    net = replace(FAMILIES["gemma3"], top={"mm_tokens_per_image": 4}).build()
    ids = torch.cat([torch.arange(4, 8), torch.full((4,), IMAGE), torch.arange(5, 12)])
    inputs = FAMILIES["gemma3"].batch([Sample(ids, FAMILIES["gemma3"].sample(1).images)])
    for h, w in ((0, 3), (2, 1)):
        assert answering(net, inputs, "pixel_values", patch(h, w, 0)) == [0, 0, h // 2, w // 2]


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(("h", "w"), [(1, 5), (6, 2), (9, 7)])
def test_pictures_of_their_own_sizes(name, h, w):
    """Two real pictures through the family's image processor, 8 x 16 and 12 x 8 patches; a patch of the second."""
    processor = hf.Qwen2VLImageProcessor(patch_size=4, temporal_patch_size=2, merge_size=2)
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 255, (4 * rows, 4 * columns, 3), np.uint8) for rows, columns in ((8, 16), (12, 8))]
    other = pictures[1].copy()
    other[4 * h : 4 * h + 4, 4 * w : 4 * w + 4] ^= 255

    def read(*arrays):
        return processor([Image.fromarray(array) for array in arrays], do_resize=False, return_tensors="pt")

    read_first, read_other = read(*pictures), read(pictures[0], other)
    counts = (read_first["image_grid_thw"].prod(1) // 4).tolist()
    ids = torch.cat([torch.full((3,), 7), *(torch.cat([torch.full((n,), IMAGE), torch.tensor([9])]) for n in counts)])
    inputs = FAMILIES[name].batch([Sample(ids, dict(read_first))])
    change = lambda pixels: pixels.copy_(read_other["pixel_values"])  # noqa: E731
    assert answering(model(name), inputs, "pixel_values", change) == [1, 0, h // 2, w // 2]


def _own_sizes(n, generator):
    """Two pictures of 4 x 6 and 7 x 4 patches, 2 x 2 of them a token: the seventh row is in none."""
    sizes = torch.tensor([[16, 24], [28, 16]])[:n]
    return [6] * n, {"pixel_values": torch.randn(n, 3, 28, 24, generator=generator), "image_sizes": sizes}


ROTARY = MROPE["rope_parameters"] | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1]}
GRID_48 = GRID | {"hidden_size": 32, "out_hidden_size": 48}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 40}
HEARD = {"audio_config": {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}}
STARTED = {"vision_start_token_id": START, "audio_start_token_id": 1}
MORE = {
    family.model_type: family
    for family in (
        Family("glm4v", GRIDS, MROPE, GRID_48 | {"image_size": 32}, visual_type=("mm_token_type_ids", 1)),
        Family("glm46v", GRIDS, MROPE, GRID_48 | {"image_size": 32}, visual_type=("mm_token_type_ids", 1)),
        Family(
            "glm4v_moe", GRIDS,
            EXPERTS | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
            | {"rope_parameters": ROTARY},
            GRID_48 | {"image_size": 32}, visual_type=("mm_token_type_ids", 1),
        ),
        Family(
            "qwen3_vl_moe", GRIDS, MROPE | EXPERTS | {"num_experts": 4}, FAMILIES["qwen3_vl"].vision,
            visual_type=("mm_token_type_ids", 1),
        ),
        Family("qwen2_5_omni_thinker", GRIDS, MROPE, FAMILIES["qwen2_5_vl"].vision, HEARD | STARTED),
        Family(
            "qwen3_omni_moe_thinker", GRIDS, MROPE | EXPERTS | {"num_experts": 4}, FAMILIES["qwen3_vl"].vision,
            HEARD | STARTED,
        ),
        *(
            Family(
                name, FAMILIES["internvl"].draw, {"model_type": "llama"},
                SHUFFLED | {"model_type": "siglip_vision_model", "vision_use_head": False}, sizes,
            )
            for name, sizes in (("aya_vision", {}), ("cohere2_vision", {"alignment_intermediate_size": 64}))
        ),
        Family(
            "mistral3", _own_sizes, {"model_type": "mistral", "sliding_window": None},
            VISION | {"model_type": "pixtral", "image_size": 32, "patch_size": 4, "head_dim": 8},
        ),
    )
}  # fmt: skip
"""Families whose decoders other tests have: here they show where their tokens sit."""


@cache
def more(name):
    return MORE[name].build()


def begun(family, *told):
    """A batch in which a picture's start stands before each picture."""
    inputs = family.batch([family.sample(*told)])
    visual = inputs["input_ids"] == IMAGE
    inputs["input_ids"][inputs["input_ids"] == START] = 5
    inputs["input_ids"][:, :-1][visual[:, 1:] & ~visual[:, :-1]] = START
    return inputs


def one_patch(inputs, size):
    """Changes patch (5, 2) of the second picture, of 2 x 2 that make token (1, 0, 2, 1)."""
    if "image_grid_thw" not in inputs:
        return patch(5, 2, 1, size=size)
    row = int(inputs["image_grid_thw"][0].prod()) + 4 * (2 * 2 + 1) + 2  # the second one has 8 x 4, block by block

    def change(pixels):
        pixels[row] += 5

    return change


@pytest.mark.parametrize("name", MORE)
def test_pictures_of_more_families(name):
    inputs = begun(MORE[name], 2, 2)
    change = one_patch(inputs, 4 if name == "mistral3" else 2)
    assert answering(more(name), inputs, "pixel_values", change) == [1, 0, 2, 1]


@torch.no_grad()
@pytest.mark.parametrize("name", MORE)
def test_tower_values_of_more_families_stand_at_their_tokens(name):
    """Of a patch that was changed; attention received is the mean over the picture's own patches."""
    inputs, seen = begun(MORE[name], 2, 2), []

    def spy(evidence):
        _ = evidence.grid, evidence.tower_features(None), evidence.tower_keys(None), evidence.tower_attention(1)
        return scorers.feature_norm(evidence)

    scorer = seen_by(spy, seen)
    scorer.tower_layers = (1,)
    with Pruner(LayerwisePolicy((0.5,), (0.5,)), scorer=scorer).attach(more(name)):
        more(name)(**inputs)
        one_patch(inputs, 4 if name == "mistral3" else 2)(inputs["pixel_values"])
        more(name)(**inputs)
    before, after = seen
    for read in ("tower_features", "tower_keys"):
        moved = (getattr(after, read)(None) - getattr(before, read)(None))[0].norm(dim=-1)
        assert before.grid[0, moved.argmax()].tolist() == [1, 0, 2, 1]
    first = before.tower_attention(1)[0, before.grid[0, :, 0] == 0]
    torch.testing.assert_close(4 * first.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("name", ["aya_vision", "cohere2_vision"])
def test_each_of_the_patches_that_are_put_side_by_side(name):
    inputs = MORE[name].batch([MORE[name].sample(2)])
    for h, w in ((2, 5), (3, 4), (7, 6)):  # of 8 x 8 patches, 2 pixels each
        assert answering(more(name), inputs, "pixel_values", patch(h, w, 0, size=2)) == [0, 0, h // 2, w // 2]


def test_patches_that_fill_no_block_are_in_no_token():
    net, inputs = more("mistral3"), MORE["mistral3"].batch([MORE["mistral3"].sample(1, n_images=2)])
    assert answering(net, inputs, "pixel_values", patch(3, 4, 0)) == [0, 0, 1, 2]
    found = places(Anatomy.of(net), "image", inputs, 12)
    carried = found.carry(torch.ones(1, 4 * 6 + 7 * 4, 1))
    assert carried.shape == (12, 1)
    with pytest.raises(UnknownPlacesError, match="image_sizes"):
        places(Anatomy.of(net), "image", {}, 12)


def test_frames_that_carry_the_image_s_token_are_refused():
    family = MORE["glm4v"]
    inputs = begun(family, 1)
    inputs |= {"pixel_values_videos": inputs.pop("pixel_values"), "video_grid_thw": inputs.pop("image_grid_thw")}
    inputs["mm_token_type_ids"] *= 2
    with pytest.raises(UnknownPlacesError, match="frames of its videos carry the image's token"):
        grid_of(more("glm4v"), inputs)


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_an_overview_and_tiles_put_together(name):
    family = FAMILIES[name]
    inputs = family.batch([family.sample(1), family.sample(2)])
    inputs["image_sizes"][1] = torch.tensor([4 * TILE, 15])  # two tiles, of whose 6 columns 1 to 4 are not padding
    counts = [TILE * (TILE + TILE + 1), TILE * (TILE + 4 + 1)]
    rows = [torch.cat([torch.full((n,), IMAGE), torch.arange(5, 10)]) for n in counts]
    samples = [Sample(row, {}) for row in rows]
    inputs |= {name: value for name, value in family.batch(samples).items() if name in ("input_ids", "attention_mask")}
    net = model(name)
    assert answering(net, inputs, "pixel_values", patch(2, 1, 1, 0)) == [0, 0, 2, 1]
    assert answering(net, inputs, "pixel_values", patch(0, 2, 1, 1)) == [0, 1, 0, 1]
    assert answering(net, inputs, "pixel_values", patch(1, 1, 1, 2)) == [0, 1, 1, 3]
    grid = grid_of(net, inputs)[1]
    newlines = (grid[:, 2] == -1) & (grid[:, 0] == 0)
    assert newlines.nonzero().flatten().tolist() == [TILE * TILE + 5 * row + 4 for row in range(TILE)]
    assert (grid[newlines] == torch.tensor([0, 1, -1, -1])).all()
    assert (grid[counts[1] :] == -1).all()


def test_a_picture_that_is_not_tiled_ends_in_one_newline():
    grid = grid_of(
        model("llava_onevision"), FAMILIES["llava_onevision"].batch([FAMILIES["llava_onevision"].sample(2, 2)])
    )
    assert grid[0].tolist() == [
        [i, 0, *place] for i in range(2) for place in [*np.ndindex(TILE, TILE), (-1, -1)] for place in [list(place)]
    ]


@pytest.mark.parametrize("name", FILMED)
def test_frames_of_videos_among_pictures(name):
    inputs = FILMED[name].batch([FILMED[name].told(1, "titvt")])
    frame = 1
    if "video_grid_thw" in inputs:  # 4 x 8 patches a frame
        row = 32 * frame + 4 * (4 * 1 + 2) + 3  # block (1, 2) of 2 x 4, its last patch

        def change(pixels):
            pixels[row] += 5

        expected = [1, frame, 1, 2]
    else:
        change = patch(2, 0, 0, frame)
        expected = [1, frame, 1, 0] if name == "llava_onevision" else [1, frame, 2, 0]
    assert answering(filmed(name), inputs, "pixel_values_videos", change) == expected
    grid = grid_of(filmed(name), inputs)[0]
    steps = grid[grid[:, 0] == 1, 1]
    assert steps[steps >= 0].unique().tolist() == list(range(FRAMES))
    if name == "llava_onevision":
        assert grid[-1].tolist() == [1, -1, -1, -1]


@pytest.mark.parametrize("name", ["llava", "llava_next", "qwen2_5_vl", "smolvlm"])
def test_beams_and_features_made_before_have_the_same_places(name):
    net, family = model(name), FAMILIES[name]
    inputs = family.batch([family.sample(1), family.sample(2, n_images=2)])
    expected = grid_of(net, inputs)
    assert torch.equal(grid_of(net, inputs, do_sample=False), expected)
    beams = grid_of(net, inputs, num_beams=2, do_sample=False)
    assert torch.equal(beams, expected.repeat_interleave(2, 0))


def test_a_family_whose_places_are_not_known_is_refused_by_name():
    net = FAMILIES["llava"].build()
    net.config.model_type = "another"
    inputs = FAMILIES["llava"].batch([FAMILIES["llava"].sample(1)])
    with pytest.raises(
        UnknownPlacesError, match="LlavaForConditionalGeneration: how it lays out the patches of an image"
    ):
        grid_of(net, inputs)


def test_text_alone_has_no_places():
    family = FAMILIES["llava"]
    grid = grid_of(model("llava"), family.batch([family.sample(3, n_images=0), family.sample(1)]))
    assert (grid[0] == -1).all()
    assert grid[1, -1].tolist() == [0, 0, 3, 3]
