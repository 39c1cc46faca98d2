"""The host runs ahead of the device: how often a pruned model waits for it, and how many calls a cut costs."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from tiny_models import LLAVA, PATCHES, batch, sample

from autoprune_lab.decoder import tap
from autoprune_lab.evidence.complexity import attention_entropy, mutual_information, mutual_information_official
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.official_budget import OfficialBudget
from autoprune_lab.selection import scorers
from autoprune_lab.selection.by_cut import ByCut
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.dart import Dart
from autoprune_lab.selection.dycoke import Dycoke
from autoprune_lab.selection.evs import evs
from autoprune_lab.selection.fastvid import Fastvid
from autoprune_lab.selection.ficoco import FicocoL
from autoprune_lab.selection.grid_pooling import GridPooling
from autoprune_lab.selection.holitom import Holitom
from autoprune_lab.selection.keep_distinct import KeepDistinct
from autoprune_lab.selection.per_window import per_window
from autoprune_lab.selection.pool_dropped import PoolDropped
from autoprune_lab.selection.recovery import drop
from autoprune_lab.selection.vidcom2 import vidcom2
from benchmarks.memory import peak_bytes
from benchmarks.waits import Device
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

N_LAYERS = 14


def stairs(n_cuts, **parts):
    """One picture's patches lose one before each of the layers 2, 3, ..."""
    cuts = range(1, n_cuts + 1)
    return Pruner(LayerwisePolicy([(1 + i) / N_LAYERS for i in cuts], [1 - i / PATCHES for i in cuts]), **parts)


@pytest.fixture(scope="module")
def model():
    return LLAVA.build(num_hidden_layers=N_LAYERS)


@pytest.fixture(scope="module", params=["even", "ragged"])
def inputs(request):
    return even() if request.param == "even" else batch([sample(1), sample(2, n_images=2), sample(3, n_images=0)])


def even():
    return batch([sample(1), sample(2)])


@torch.inference_mode()
def seen(model, inputs, pruner=None):
    """What one prefill did."""
    with pruner.attach(model) if pruner else nullcontext(), Device() as device:
        model(**inputs)
    return device


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        (lambda x: bool(x.any()), "aten._local_scalar_dense"), (lambda x: x.sum().item(), "aten._local_scalar_dense"),
        (lambda x: x.tolist(), "tolist"), (lambda x: x.cpu().numpy(), "cpu"), (lambda x: x.to("cpu"), "to"),
        (lambda x: x[x > 0], "aten.index"), (lambda x: x.nonzero(), "aten.nonzero"), (lambda x: x.numpy(), "numpy"),
        (lambda x: torch.tensor([2.0], device=x.device), "tensor"),
        (lambda x: torch.as_tensor(np.ones(2), device=x.device), "as_tensor"),
        (lambda x: (torch.arange(3) + 1).to(x.device), "to"),
        (lambda x: torch.from_numpy(np.ones(3))[:2].to(x.device), "to"),
    ],
)  # fmt: skip
def test_the_count_sees_every_kind_of_wait(wait, name):
    x = torch.ones(3, device="cpu")
    with Device() as device:
        wait(x)
    assert device.waits == [name]
    with torch.inference_mode(), Device() as device:
        wait(torch.ones(3, device="cpu"))
    assert len(device.waits) == 1  # there calls made of others are seen whole


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.from_numpy(np.ones(3)).to(x.device, non_blocking=True) + x[torch.arange(2)].sum(),
        lambda x: x.sum().to(torch.float64).to(x.device), lambda x: torch.tensor([[2, 3]]).unbind(1)[0].tolist(),
        lambda x: torch.arange(3, device=x.device).to(x.device), lambda x: bool((torch.arange(3) > 1).any()),
    ],
)  # fmt: skip
def test_the_count_sees_no_other(call):
    """What stays on the device, or on the host, and copies that nobody waits for."""
    x = torch.ones(3, device="cpu")
    with Device() as device:
        call(x)
    assert device.waits == []


def places(evidence):
    return evidence.grid.sum(-1).float()


@pytest.mark.parametrize(
    "scorer", [scorers.last_token_attention, scorers.text_attention, scorers.cls_attention, places]
)
@pytest.mark.parametrize("n_cuts", [1, 12])
def test_a_pruned_prefill_waits_twice_however_many_cuts(model, inputs, scorer, n_cuts):
    stock = len(seen(model, inputs).waits)
    assert len(seen(model, inputs, stairs(n_cuts, scorer=scorer)).waits) - stock == 2


@pytest.mark.parametrize("scorer", [evs, per_window, vidcom2])
def test_who_goes_by_places_knows_them_before_any_cut_and_their_bounds_later(model, inputs, scorer):
    stock = len(seen(model, inputs).waits)
    more = [len(seen(model, inputs, stairs(n, scorer=scorer)).waits) - stock for n in (1, 12)]
    assert more == [2, 13 if scorer is vidcom2 else 2]  # that one asks which tokens are left at each later cut


@pytest.mark.parametrize(
    ("recovery", "n"), [(Dycoke(True), 2), (Fastvid(), 2), (Holitom(in_place=True), 2), (GridPooling(), 2), (Dart(), 3)]
)
def test_what_is_grouped_on_the_host_is_known_there_before_any_cut(model, inputs, recovery, n):
    """DART's turns go in the order of a Python set of its pivots: the host has to know them."""
    assert len(seen(model, inputs, stairs(1, recovery=recovery)).waits) - len(seen(model, inputs).waits) == n


@pytest.mark.parametrize(
    "recovery",
    [drop, ContextualMerge(in_place=True), ClusterMerge(), KeepDistinct(), FicocoL(), PoolDropped(), ByCut()],
)
def test_no_recovery_waits(model, inputs, recovery):
    assert len(seen(model, inputs, stairs(12, recovery=recovery)).waits) - len(seen(model, inputs).waits) == 2


def test_an_adaptive_policy_waits_once_more_for_its_estimates(model, inputs):
    policy = LogisticAdaptivePolicy(k0=1.0, gamma=0.5, x0=7.0)
    adaptive = Pruner(policy, scorer=scorers.text_attention)
    opening = Pruner(policy, OfficialBudget(mean_tokens=9), recovery=ClusterMerge())
    official = Pruner(policy, complexity=mutual_information_official)
    stock = len(seen(model, inputs).waits)
    assert [len(seen(model, inputs, pruner).waits) - stock for pruner in (adaptive, opening, official)] == [3, 3, 3]


@torch.inference_mode()
def one_token(model, inputs, pruner=None):
    """What the second decoded token did."""
    new = torch.full((len(inputs["input_ids"]), 1), 7)
    with pruner.attach(model) if pruner else nullcontext():
        step = {"past_key_values": model(**inputs).past_key_values, "attention_mask": inputs["attention_mask"]}
        for _ in range(2):
            step["attention_mask"] = torch.cat([step["attention_mask"], torch.ones_like(new)], dim=1)
            with Device() as device:
                model(input_ids=new, **step)
    return device


@pytest.mark.parametrize("n_cuts", [2, 12])
def test_a_decode_step_waits_no_more_than_the_stock_model_and_makes_the_masks_of_all_stages_in_six_calls(
    model, inputs, n_cuts
):
    stock, pruned = one_token(model, inputs), one_token(model, inputs, stairs(n_cuts))
    assert len(pruned.waits) == len(stock.waits)
    assert pruned.calls.total() - stock.calls.total() in (0, 6)


def test_renumbered_positions_of_all_stages_are_made_in_one_rotary_call(model, inputs):
    stock, *pruned = (
        one_token(model, inputs, arm) for arm in (None, *(stairs(n, positions="compact") for n in (2, 12)))
    )
    assert [len(device.waits) for device in pruned] == 2 * [len(stock.waits)]
    few, many = (device.calls.total() - stock.calls.total() for device in pruned)
    assert few == many <= 12


@pytest.mark.parametrize(("n_kv_heads", "n_calls"), [(4, 19), (2, 20)])
@pytest.mark.parametrize(("positions", "more"), [("original", 0), ("compact", 1)])
@pytest.mark.parametrize("n_samples", [1, 2])
def test_a_cut_costs_19_calls(n_kv_heads, n_calls, positions, more, n_samples):
    """A plain drop by the last token's attention without padding; grouped queries are put side by side."""
    model = LLAVA.build(num_hidden_layers=N_LAYERS, num_key_value_heads=n_kv_heads)
    inputs = batch([sample(seed) for seed in range(n_samples)])
    seen(model, inputs, stairs(1))  # the vision tower's FLOPs are counted in the first block
    few, many = (seen(model, inputs, stairs(n, positions=positions)).calls.total() for n in (1, 12))
    assert many - few == 11 * (n_calls + more)


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("n_kv_heads", [4, 2])
def test_with_padding_a_cut_costs_25_calls(n_kv_heads, positions):
    """As many visual tokens in each sample: padding is what was padding in the prompts."""
    model = LLAVA.build(num_hidden_layers=N_LAYERS, num_key_value_heads=n_kv_heads)
    inputs = batch([sample(1, after=30), sample(2, after=7)])
    seen(model, inputs, stairs(1))
    two, many = (seen(model, inputs, stairs(n, positions=positions)).calls.total() for n in (2, 12))
    assert many - two == 10 * 25


@torch.inference_mode()
def looked_at(model, inputs, look):
    """What `look` makes of the evidence of a cut, in a prefill that may compute only twelve rows at once."""
    found = []

    def spy(evidence):
        found.append([one(evidence) for one in look])
        return evidence.index.float()

    with Pruner(LayerwisePolicy([0.5], [0.5]), scorer=spy).attach(model) as trace:
        model(**inputs)
    return found[0], trace.samples


LOOKS = [scorers.text_attention, scorers.rater_attention, mutual_information, attention_entropy]


def test_rows_that_come_part_by_part_give_the_same_numbers(monkeypatch, model):
    inputs = batch([sample(1, after=30), sample(2, n_images=2, after=7), sample(3, n_images=0)])
    whole, samples = looked_at(model, inputs, LOOKS)
    monkeypatch.setattr(tap, "_FEW", 0)
    parts, again = looked_at(model, inputs, LOOKS)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    # each looks anew, raters twice: who they are, and what they see
    assert [5 * one.scoring_flops for one in samples] == [one.scoring_flops for one in again]
    (attention,), _ = looked_at(model, inputs, [lambda evidence: evidence.attention])
    monkeypatch.undo()
    (expected,), _ = looked_at(model, inputs, [lambda evidence: evidence.attention])
    torch.testing.assert_close(attention, expected, atol=1e-6, rtol=1e-5)


def test_text_rows_need_hardly_more_memory_than_the_last_row():
    model, inputs = LLAVA.build(num_hidden_layers=4), batch([sample(1, n_images=36, after=111)])  # 576 and 4000 tokens
    pruners = [
        Pruner(LayerwisePolicy([0.5], [0.1]), scorer=one)
        for one in (scorers.last_token_attention, scorers.text_attention)
    ]
    peaks = [peak_bytes(partial(prefilled, model, inputs, pruner)) for pruner in pruners]
    assert peaks[1] <= 1.2 * peaks[0]


def prefilled(model, inputs, pruner):
    with pruner.attach(model):
        model(**inputs, logits_to_keep=1)
