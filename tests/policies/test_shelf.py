"""What each policy of the shelf says, by hand; that it is a policy at all is the contract's business."""

import numpy as np
import pytest

from autoprune_lab.plugins.discovery import find_policy
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.curve import FULL, whole_tokens
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.policy import Signal, check_shape
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy
from policies.staircase_blend import StaircaseBlendPolicy
from policies.staircase_table import StaircaseTablePolicy
from policies.withdrawal import WithdrawalPolicy


def tokens(policy, n_layers=32, bits=0.0, n_vision=576):
    return whole_tokens(np.minimum(policy.shape(Signal(n_layers, bits)), 1.0), n_vision).tolist()


def test_a_policy_is_found_by_its_name():
    assert find_policy("fixed") is FixedPolicy
    with pytest.raises(ValueError, match=r"policies has no policy 'fixd'; did you mean fixed.*there are: .*layerwise"):
        find_policy("fixd")


def test_fixed_is_fastv():
    assert tokens(FixedPolicy()) == [576] * 2 + [288] * 30


def test_layerwise_is_pyramiddrop_at_every_depth():
    assert tokens(LayerwisePolicy()) == [576] * 8 + [288] * 8 + [144] * 8 + [72] * 8
    assert tokens(LayerwisePolicy(), n_layers=12) == [576] * 3 + [288] * 3 + [144] * 3 + [72] * 3


def test_layerwise_takes_the_stages_of_sparsevlm():
    policy = LayerwisePolicy(depths=[2 / 32, 6 / 32, 15 / 32], keep=[0.5, 0.35, 0.2])
    assert tokens(policy, n_vision=100) == [100] * 2 + [50] * 4 + [35] * 9 + [20] * 17
    assert policy.depths == (0.0625, 0.1875, 0.46875)


@pytest.mark.parametrize("n_layers", [1, 2, 16, 32, 61, 97])
def test_withdrawal_is_all_or_nothing(n_layers):
    first = max(round(0.46875 * n_layers), 1)
    assert tokens(WithdrawalPolicy(), n_layers) == [576] * first + [0] * (n_layers - first)
    assert tokens(WithdrawalPolicy(0.0), n_layers) == [576] + [0] * (n_layers - 1)
    assert tokens(WithdrawalPolicy(1.0), n_layers) == [576] * n_layers


@pytest.mark.parametrize("n_layers", [4, 32, 97])
@pytest.mark.parametrize("depth", [0.0, 0.46875, 1.0])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_budget_withdraws_after_the_layers_that_it_fills(n_layers, depth, part):
    geometry = Geometry(n_layers, 64, 128, 4, 4, 16, n_vision=576, n_text=10)
    shape, full = WithdrawalPolicy(depth).shape(Signal(n_layers)), n_layers // 2
    found = Budget(mean_tokens=(full + part) * 576 / n_layers + 1e-9).fit(shape, geometry, free_from=0)
    assert found.tolist() == [576] * full + [int(part * 576)] + [0] * (n_layers - full - 1)


def test_logistic_has_the_published_defaults():
    expected = 1 / (1 + np.exp((0.4 - 0.2 * 1.5) * (np.arange(32) - 14.9)))
    np.testing.assert_allclose(LogisticAdaptivePolicy().shape(Signal(32, 1.5)), expected, rtol=1e-12)


def test_logistic_is_the_official_curve_up_to_its_scale():
    """Fractions the official code keeps (32 layers, 64 of 576 tokens, MI 0); it moves the midpoint by k0."""
    official = [0.7795325919, 0.7420668329, 0.3366532637, 0.0233740505, 0.0014624267]
    ours = LogisticAdaptivePolicy(x0=14.9 + 0.4).shape(Signal(32))[[1, 8, 16, 24, 31]]
    np.testing.assert_allclose(ours * 0.75 * 1.04278564453125, official, rtol=1e-7)


def test_logistic_is_flat_once_complexity_takes_the_whole_slope():
    assert np.ptp(LogisticAdaptivePolicy().shape(Signal(32, 2.5))) == 0.0


def test_logistic_midpoint_moves_with_complexity():
    moved = LogisticAdaptivePolicy(gamma=0.0, x_gamma=-2.0).shape(Signal(32, 3.0))
    np.testing.assert_allclose(moved, LogisticAdaptivePolicy(x0=8.9).shape(Signal(32)), rtol=1e-12)


def test_logistic_means_the_same_depth_in_every_decoder():
    at_32, at_16 = (LogisticAdaptivePolicy().shape(Signal(n, 0.3)) for n in (32, 16))
    np.testing.assert_allclose(at_16, at_32[::2], rtol=1e-12)


def test_logistic_floor_keeps_a_tail():
    steep = LogisticAdaptivePolicy(k0=5.0, floor=0.1).shape(Signal(32))
    assert steep[-1] == pytest.approx(0.1)
    assert steep[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("bits", "first"),
    [(-1e308, 20), (0.0, 20), (0.0539, 20), (0.054, 14), (0.0719, 14), (0.072, 10), (1e308, 10)],
)
def test_a_table_s_row_is_how_many_edges_the_number_reaches(bits, first):
    assert tokens(StaircaseTablePolicy(), bits=bits) == [576] * first + [57] * (32 - first)


def test_a_table_takes_any_number_of_edges_steps_and_units():
    depths, keep = ((0.25,), (0.0, 0.5, 0.75), (), (0.5, 0.5)), ((0.5,), (0.8, 0.4, 0.0), (), (0.5, 0.25))
    policy = StaircaseTablePolicy(edges=(3.0, 7.0, 7.5), depths=depths, keep=keep)  # a depth in layers, say
    rows = [policy.shape(Signal(8, layers)).tolist() for layers in (2.9, 3.0, 7.0, 9.0)]
    assert rows == [
        [FULL] * 2 + [0.5] * 6,
        [0.8] * 4 + [0.4] * 2 + [0.0] * 2,
        [FULL] * 8,
        [FULL] * 4 + [0.25] * 4,
    ]
    alike = StaircaseTablePolicy(edges=(), depths=((0.5,),), keep=((0.5,),))
    assert tokens(alike, 4, bits=9.0, n_vision=10) == [10, 10, 5, 5]


@pytest.mark.parametrize(
    ("bits", "first"), [(-1e308, 20), (0.0, 20), (0.04, 20), (0.0625, 14), (0.085, 8), (2.0, 8), (1e308, 8)]
)
def test_a_blend_is_clamped_at_both_ends(bits, first):
    assert tokens(StaircaseBlendPolicy(), bits=bits) == [576] * first + [57] * (32 - first)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (1.0, [FULL] * 2 + [1.0] * 4 + [0.0] * 10),
        (4.0, [FULL] * 3 + [0.875] * 5 + [0.0625] * 8),
        (6.0, [FULL] * 4 + [0.75] * 6 + [0.125] * 6),
        (10.0, [FULL] * 6 + [0.5] * 8 + [0.25] * 2),
    ],
)
def test_a_blend_moves_each_depth_and_each_keep(layers, shape):
    policy = StaircaseBlendPolicy(2.0, 10.0, depths=((0.125, 0.375), (0.375, 0.875)), keep=((1.0, 0.0), (0.5, 0.25)))
    assert policy.shape(Signal(16, layers)).tolist() == shape


@pytest.mark.parametrize("seed", range(5))
def test_staircases_by_a_number_are_valid_at_every_number(seed):
    draw = np.random.default_rng(seed)
    low, high = np.sort(draw.normal(0, 10.0 ** draw.integers(-3, 4), 2)).tolist()
    depths = tuple(map(tuple, np.sort(draw.random((2, 3))).tolist()))
    keep = tuple(map(tuple, np.sort(draw.random((2, 3)))[:, ::-1].tolist()))
    edge = (low,)
    for policy in (StaircaseTablePolicy(edge, depths, keep), StaircaseBlendPolicy(low, high, depths, keep)):
        for number in (-1e308, *np.linspace(2 * low - high, 2 * high - low, 99).tolist(), low, high, 1e308):
            for n_layers in (1, 2, 31):
                signal = Signal(n_layers, number)
                check_shape(policy.shape(signal), signal, policy)


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (FixedPolicy, {"layer": -1}),
        (FixedPolicy, {"keep": 1.5}),
        (FixedPolicy, {"keep": float("nan")}),
        (LayerwisePolicy, {"depths": (0.5, 0.25, 0.75)}),
        (LayerwisePolicy, {"depths": (0.25, 0.5, 1.75)}),
        (LayerwisePolicy, {"keep": (0.25, 0.5, 0.125)}),
        (LayerwisePolicy, {"keep": (0.5, 0.25)}),
        (WithdrawalPolicy, {"depth": -0.1}),
        (WithdrawalPolicy, {"depth": float("nan")}),
        (LogisticAdaptivePolicy, {"k0": -0.1}),
        (LogisticAdaptivePolicy, {"floor": 1.5}),
        (LogisticAdaptivePolicy, {"gamma": float("nan")}),
        (LogisticAdaptivePolicy, {"x0": float("inf")}),
        (StaircaseTablePolicy, {"edges": (0.1, 0.05)}),
        (StaircaseTablePolicy, {"edges": (0.05, float("nan"))}),
        (StaircaseTablePolicy, {"edges": (0.05, float("inf"))}),
        (StaircaseTablePolicy, {"edges": (0.05,)}),
        (StaircaseTablePolicy, {"depths": ((0.0, 0.5), (0.0, 0.5))}),
        (StaircaseTablePolicy, {"depths": ((0.0, 0.5), (0.0, 0.5), (0.5, 0.0))}),
        (StaircaseTablePolicy, {"depths": ((0.0, 0.5), (0.0, 0.5), (0.0, 1.5))}),
        (StaircaseTablePolicy, {"keep": ((1.0, 0.1), (1.0, 0.1), (1.0,))}),
        (StaircaseTablePolicy, {"keep": ((1.0, 0.1), (1.0, 0.1), (0.1, 1.0))}),
        (StaircaseTablePolicy, {"keep": ((1.0, 0.1), (1.0, 0.1), (1.0, float("nan")))}),
        (StaircaseBlendPolicy, {"low": 0.085}),
        (StaircaseBlendPolicy, {"low": float("nan")}),
        (StaircaseBlendPolicy, {"high": float("inf")}),
        (StaircaseBlendPolicy, {"depths": ((0.0, 0.5),)}),
        (StaircaseBlendPolicy, {"depths": ((0.0, 0.5), (0.0,))}),
        (StaircaseBlendPolicy, {"depths": ((0.0, 0.5), (0.5, 0.0))}),
        (StaircaseBlendPolicy, {"depths": ((0.0, 0.5), (0.5, 1.5))}),
        (StaircaseBlendPolicy, {"keep": ((1.0, 0.1), (1.0,))}),
        (StaircaseBlendPolicy, {"keep": ((1.0, 0.1), (0.1, 1.0))}),
        (StaircaseBlendPolicy, {"keep": ((1.0, 0.1), (1.0, float("nan")))}),
        (StaircaseBlendPolicy, {"keep": ((1.0, 0.1), (1.5, 0.1))}),
    ],
)
def test_a_field_out_of_range_is_refused_by_name_in_one_line(policy, fields):
    (name,) = fields
    with pytest.raises(ValueError, match=name) as caught:
        policy(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("signal", [(0, 1.0), (8, float("nan"))])
def test_a_signal_is_refused_where_no_policy_could_answer(signal):
    with pytest.raises(ValueError, match=r"n_layers=0|complexity=nan"):
        Signal(*signal)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([1.0, 0.5], r"\(2,\), expected \(3,\)"),
        ([FULL, 0.5, 0.6], "0.6 at layer 2"),
        ([1.0, float("nan"), 0.5], "nan at layer 1"),
        ([-0.1, -0.1, -0.2], "-0.1 at layer 0"),
    ],
)
def test_check_shape_names_policy_layer_and_value(shape, message):
    with pytest.raises(ValueError, match=rf"FixedPolicy\(.*{message}"):
        check_shape(np.array(shape), Signal(3), FixedPolicy())
