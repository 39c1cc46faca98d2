"""Every model type of transformers' image-text-to-text mapping is sorted by running it, and as is known."""

import re

import pytest
import torch
from expected_sorting import EXPECTED, OLDER, REPRESENTATIVES
from mapping import IMAGE, N_LAYERS, TYPES, VARIANTS, VIDEO, tiny_model
from sorting import NOT_APPLICABLE, Tiny, owner, pruner, sort

pytestmark = pytest.mark.skipif(OLDER, reason="the table of model types is of transformers 5.23")

RUN = [
    pytest.param(model_type, marks=[] if model_type in REPRESENTATIVES else [pytest.mark.slow])
    for model_type in (*TYPES, *VARIANTS)
    if model_type in EXPECTED
]


def test_every_type_that_transformers_has_is_known():
    new = sorted(set(TYPES) - set(EXPECTED))
    assert not new, f"transformers has new model types: run `python -m benchmarks.families {' '.join(new)}`"


@pytest.mark.filterwarnings("ignore")  # transformers' own, about default configs
@pytest.mark.parametrize("model_type", RUN)
def test_a_type_is_sorted_as_is_known(model_type):
    finding, (expected, _, told) = sort(model_type), EXPECTED[model_type].partition(": ")
    assert finding.sorting == expected, finding
    if expected == "refused":
        assert told in finding.why
    if expected == "broken":
        assert finding.faults == told.split(), finding


def test_whatever_is_not_applicable_has_a_reason():
    assert set(NOT_APPLICABLE) == {model_type for model_type, sorted_as in EXPECTED.items() if "not app" in sorted_as}


@pytest.mark.parametrize("model_type", ["llava", "deepseek_ocr2"])
def test_a_tiny_model_is_the_type_s_own_with_a_small_decoder(model_type):
    model, eager = tiny_model(model_type), tiny_model(model_type, "eager")
    assert len(owner(model).layers) == N_LAYERS
    assert sum(weight.numel() for weight in model.parameters()) < 2 * 10**6
    assert owner(eager).config._attn_implementation == "eager"
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), eager.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("florence2", "an encoder reads its pictures"),
        ("diffusion_gemma", "block diffusion"),
        ("qwen4_exp", "mixes in ['indexed_attention']"),
        ("idefics", "has no image_token_id"),
        ("blip-2+t5", "an encoder reads its pictures"),
        ("instructblip+t5", "its prompt goes through an encoder"),
    ],
)
def test_what_is_refused_is_refused_for_the_true_reason(model_type, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        pruner("stairs").attach(tiny_model(model_type, empty=True)).__enter__()


@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
def test_features_that_are_added_inline_leave_no_hook_behind():
    model = tiny_model("granite4_vision", empty=True)
    with pruner("stairs").attach(model):
        assert len(owner(model)._forward_pre_hooks) == 2
    assert not owner(model)._forward_pre_hooks


def test_pictures_that_are_not_told_to_their_experts_are_refused():
    tiny = Tiny("ernie4_5_vl_moe")
    for name in ("left out", "half"):
        inputs = tiny.batch([tiny.sample("short")])
        told = inputs.pop("moe_mm_token_type_ids")
        if name == "half":
            inputs["moe_mm_token_type_ids"] = told * (torch.arange(told.shape[1]) % 2)
        with (
            pytest.raises(ValueError, match="moe_mm_token_type_ids does not mark"),
            pruner("stairs").attach(tiny.model),
        ):
            tiny.model(**inputs)


def test_text_around_pictures_that_costs_what_they_do_is_counted():
    tiny = Tiny("ernie4_5_vl_moe")
    inputs = tiny.batch([tiny.sample("short", (IMAGE, VIDEO)), tiny.sample("short")])
    with torch.no_grad(), pruner("stairs").attach(tiny.model) as trace:
        tiny.model(**inputs)
    assert [record.geometry.n_marked for record in trace.samples] == [2, 1]


def test_compact_positions_are_refused_where_a_plane_is_told_by_kind_of_layer():
    with pytest.raises(ValueError, match="mrope"), pruner("stairs", "compact").attach(tiny_model("cohere_compass")):
        pass
