"""What a geometry reads of a config, and which sizes it refuses."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from autoprune_lab.schedule.geometry import Geometry

SIZES = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 8}
GEOMETRY = Geometry(4, 64, 96, 8, 2, 16, n_vision=9, n_text=3)


def read(**sizes):
    return Geometry.from_config(SimpleNamespace(**sizes), n_vision=9, n_text=3)


def test_all_sizes_are_read():
    assert read(**SIZES, num_key_value_heads=2, head_dim=16) == GEOMETRY


@pytest.mark.parametrize("unsaid", [{}, {"num_key_value_heads": None, "head_dim": None}])
def test_heads_share_the_width_and_have_keys_of_their_own_unless_the_config_says_else(unsaid):
    assert read(**SIZES, **unsaid) == replace(GEOMETRY, n_kv_heads=8, head_dim=8)


@pytest.mark.parametrize("name", SIZES)
def test_a_config_that_lacks_a_size_is_named_with_it(name):
    with pytest.raises(ValueError, match=rf"SimpleNamespace has no {name}: give the decoder's \(text\) config"):
        read(**{**SIZES, name: None})


def test_another_prompt_is_the_same_decoder():
    assert GEOMETRY.with_tokens(0, 7) == replace(GEOMETRY, n_vision=0, n_text=7)


def test_marked_tokens_are_some_of_the_text_and_belong_to_a_prompt():
    marked = GEOMETRY.with_tokens(9, 3, n_marked=3)
    assert (marked.n_marked, marked.with_tokens(9, 3)) == (3, GEOMETRY)
    with pytest.raises(ValueError, match="n_marked=4 must be at most n_text=3: it counts some of them"):
        replace(marked, n_marked=4)


@pytest.mark.parametrize("name", ["n_layers", "hidden", "intermediate", "n_heads", "n_kv_heads", "head_dim"])
def test_a_size_is_at_least_1_and_a_number_of_tokens_at_least_0(name):
    assert getattr(replace(GEOMETRY, **{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        replace(GEOMETRY, **{name: 0})
    for tokens in ("n_vision", "n_text", "n_marked"):
        assert getattr(replace(GEOMETRY, **{tokens: 0}), tokens) == 0
        with pytest.raises(ValueError, match=f"{tokens}=-1 must be at least 0"):
            replace(GEOMETRY, **{tokens: -1})
