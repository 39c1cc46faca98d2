"""Arguments that hold a value per token, told by their shape."""

import pytest
import torch
from arms import model, pruner
from families import FAMILIES, IMAGE

from autoprune_lab.decoder.layout import Prompt
from autoprune_lab.decoder.per_token import narrow_tokens

IDS = torch.tensor([[5, IMAGE, IMAGE, IMAGE, 6, 7], [8, 9, IMAGE, IMAGE, IMAGE, 7]])
SAMPLES = torch.arange(2)[:, None]
STAGE, _ = Prompt.read(IDS, None, (IMAGE,)).stage.narrow(
    torch.tensor([[True, False, False], [False, False, True]]), torch.tensor([1, 1]).numpy()
)
LEFT = torch.tensor([[0, 1, 4, 5], [0, 1, 4, 5]])
PER_TOKEN = torch.arange(12).view(2, 6)


def narrowed(value):
    return narrow_tokens("own", value, STAGE, SAMPLES)


def test_the_stage_is_as_said():
    assert STAGE.index.tolist() == LEFT.tolist()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PER_TOKEN, PER_TOKEN.gather(1, LEFT)),
        (PER_TOKEN[:1], PER_TOKEN[:1].expand(2, -1).gather(1, LEFT)),
        (PER_TOKEN[..., None].float(), PER_TOKEN.gather(1, LEFT)[..., None].float()),
        (PER_TOKEN.expand(3, 2, 6), PER_TOKEN.gather(1, LEFT).expand(3, 2, 4)),
        (PER_TOKEN[:1].expand(3, 1, 6), PER_TOKEN[:1].expand(2, 6).gather(1, LEFT).expand(3, 2, 4)),
    ],
    ids=["samples", "shared", "features", "axes", "shared axes"],
)
def test_known_shapes_follow_the_tokens(value, expected):
    assert torch.equal(narrowed(value), expected)


def test_a_mask_loses_rows_and_columns():
    mask = torch.arange(72).view(2, 1, 6, 6) % 5 > 0
    assert torch.equal(narrowed(mask), torch.stack([m[:, i][:, :, i] for m, i in zip(mask, LEFT, strict=True)]))


def test_lists_tuples_and_dicts_are_followed():
    got = narrowed({"a": (PER_TOKEN, None), "b": [3]})
    assert torch.equal(got["a"][0], PER_TOKEN.gather(1, LEFT))
    assert (got["a"][1], got["b"]) == (None, [3])


@pytest.mark.parametrize("value", [None, True, "eager", torch.zeros(2, 5), torch.zeros(3), {}, [torch.zeros(4)]])
def test_what_holds_nothing_per_token_stays_itself(value):
    assert narrowed(value) is value


def test_a_dict_that_layers_share_stays_itself():
    shared = {"full_attention": torch.zeros(2, 5)}
    assert narrowed(shared) is shared


@pytest.mark.parametrize(
    "value", [torch.zeros(6), torch.zeros(12, 3), torch.zeros(2, 5, 6), torch.zeros(4, 6, 3)],
    ids=["one row", "flat", "features last", "other samples"],
)  # fmt: skip
def test_the_prompt_s_length_in_another_place_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"given own\['a'\].*6 positions.*leave own"):
        narrowed({"a": value})


def test_an_unknown_argument_of_the_prompt_s_length_is_refused_at_the_first_call():
    net, inputs = model("llava"), FAMILIES["llava"].batch([FAMILIES["llava"].sample(1)])
    n = inputs["input_ids"].shape[1]
    with torch.no_grad(), pruner("stairs", "original").attach(net), pytest.raises(ValueError, match="given own_flags"):
        net(**inputs, own_flags=torch.zeros(n))
    with torch.no_grad(), pruner("stairs", "original").attach(net) as trace:
        net(**inputs, own_flags=torch.zeros(1, n))
    assert len(trace.samples) == 1
