"""Published FLOPs columns from arithmetic alone: schedule, prompt length and the papers' own count."""

import numpy as np
import pytest

from autoprune_lab.curve import RetentionCurve
from autoprune_lab.flops import macs_3ndm
from autoprune_lab.geometry import Geometry
from autoprune_lab.official import OfficialBudget
from autoprune_lab.policy import Signal
from policies.autoprune_official import AutoPruneOfficialPolicy
from policies.layerwise import LayerwisePolicy

LLAVA_7B = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=70)


def percent(tokens):
    """Share of the unpruned prefill of LLaVA-1.5-7B, by the count of SparseVLM, AutoPrune and PyramidDrop."""
    return 100 * macs_3ndm(LLAVA_7B, tokens) / macs_3ndm(LLAVA_7B, np.full(32, 576))


@pytest.mark.parametrize(("mean_tokens", "published"), [(192, 42.9), (128, 33.7), (64, 23.2)])
def test_autoprune(mean_tokens, published):
    shape = AutoPruneOfficialPolicy().shape(Signal(33, complexity=0.0))
    tokens = OfficialBudget(mean_tokens).plan(shape[None], [LLAVA_7B]).tokens[0]
    assert percent(tokens) == pytest.approx(published, abs=1.0)


def test_pyramid_drops_own_list_costs_more_than_any_budget_it_is_listed_at():
    tokens = RetentionCurve.from_shape(LayerwisePolicy().shape(Signal(32))).tokens(576)
    assert round(percent(tokens), 1) == 52.2  # listed at 43.9, 35.1 and 25.5
