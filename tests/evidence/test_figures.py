"""Figures of evidence: against their definitions, by hand and by the estimators that measure the same."""

from math import log2

import pytest
import torch

from autoprune_lab.evidence import complexity
from autoprune_lab.evidence.evidence import Evidence, NoAttentionError
from autoprune_lab.evidence.figures import FIGURES, NO_ATTENTION, read_figures, text_state
from autoprune_lab.plugins.plain_evidence import copied, evidence_of, random_attention, uneven_attention

ATTENTION = [name for name in FIGURES if name not in NO_ATTENTION]


def figure(name, evidence):
    return read_figures(evidence, (name,))[:, 0]


def two_heads(*rows):
    """One sample: the same rows for both heads, unless a row gives one for each."""
    heads = [[row[i] if isinstance(row[0], list) else row for row in rows] for i in range(2)]
    return evidence_of(torch.tensor([heads]))


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("mutual_information", complexity.mutual_information),
        ("mutual_information_official", complexity.mutual_information_official),
        ("attention_entropy", complexity.attention_entropy),
    ],
)
def test_what_is_an_estimator_too_says_the_same(name, estimator):
    evidence = evidence_of(uneven_attention(3, 4, 5, 30), (30, 21, 9, 0), (5, 3, 2, 0))
    torch.testing.assert_close(figure(name, evidence), estimator(evidence), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mutual_information", 0.5),  # head 0: rows alike; head 1: two tokens, one each: 1 bit
        ("information_spread", 0.5),
        ("attention_entropy", 0.5),  # 1 and 0 bits
        ("mean_row_entropy", 1.0),
        ("mean_row_max", 0.5),
        ("mean_row_top", 1.0),
        ("visual_mass", 0.6),
        ("last_row_entropy", 0.5),
        ("last_row_tokens", 2 ** -(0.25 * log2(0.25) + 0.75 * log2(0.75))),
        ("last_row_max", 0.75),
        ("last_row_top", 1.0),
        ("last_row_mass", 0.6),
        ("head_spread", -(0.25 * log2(0.25) + 0.75 * log2(0.75)) - 0.5),
        ("text_rows", log2(3)),
        ("visual_tokens", log2(3)),
    ],
)
def test_each_by_hand(name, value):
    first, last = [[0.4, 0.4], [0.4, 0.0]], [[0.4, 0.4], [0.0, 0.4]]
    assert figure(name, two_heads(first, last)).item() == pytest.approx(value, abs=1e-6)


def test_shares_are_those_of_the_tokens_that_are_looked_at_most():
    attention = torch.tensor([0.5, *[0.05] * 10]).expand(1, 2, 1, 11)
    evidence = evidence_of(attention)
    assert figure("last_row_max", evidence).item() == pytest.approx(0.5)
    assert figure("last_row_top", evidence).item() == pytest.approx(0.5 + 7 * 0.05)


@pytest.mark.parametrize(
    ("names", "text", "asked"),
    [
        (("text_rows", "visual_tokens"), 0, []),
        (("text_rows",), 4, ["text"]),
        (("last_row_mass", "last_row_max"), 0, ["last_row"]),
        (("visual_mass", "mutual_information"), 0, ["attention"]),
        (tuple(FIGURES), 2, ["attention", "last_row", "text"]),
    ],
)
def test_nothing_is_computed_that_they_do_not_need(names, text, asked):
    evidence = evidence_of(random_attention(2, 1, 2, 5, 12))
    assert read_figures(evidence, names, text).shape == (1, len(names) + text)
    assert evidence.source.asked == asked


def test_they_come_in_the_order_asked_and_are_0_without_a_picture():
    evidence = evidence_of(uneven_attention(3, 2, 5, 30), (30, 0), (5, 0))
    backwards = tuple(reversed(FIGURES))
    torch.testing.assert_close(read_figures(evidence, backwards), read_figures(evidence, tuple(FIGURES)).flip(1))
    assert not read_figures(evidence, tuple(FIGURES), 3)[1].any()
    assert read_figures(evidence, tuple(FIGURES), 3).isfinite().all()


def test_before_layer_0_there_are_words_and_counts_alone():
    inner = evidence_of(uneven_attention(3, 2, 5, 30))
    entrance = Evidence(-1, inner.vision_mask, inner.text_mask, inner.index, inner.source)
    torch.testing.assert_close(read_figures(entrance, NO_ATTENTION, 4), read_figures(inner, NO_ATTENTION, 4))
    for name in ATTENTION:
        with pytest.raises(NoAttentionError, match=rf"no attention to take {name} of: figures=\[text_rows"):
            read_figures(entrance, (*NO_ATTENTION, name))


def test_the_text_is_its_mean_direction_on_axes_that_do_not_depend_on_their_number():
    evidence = evidence_of(uneven_attention(3, 2, 5, 30), None, (5, 2))
    state = text_state(evidence, 6)
    torch.testing.assert_close(state[:, :3], text_state(evidence, 3))
    louder = copied(evidence, text_=evidence.source.text_ * 7)
    torch.testing.assert_close(state, text_state(louder, 6))
    one_row = copied(evidence, text_=torch.ones(2, 5, 8) * evidence.text_mask[..., None])
    signs = text_state(one_row, 400)[0] * 8**0.5  # sums of eight signs
    assert {round(x) for x in signs.tolist()} <= {*range(-8, 9, 2)}
    assert abs(signs.mean()) < 0.5
