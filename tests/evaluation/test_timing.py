"""Times side by side, by a clock of our own: how fast a machine is decides nothing here."""

from contextlib import contextmanager, nullcontext
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tiny_models import N_LAYERS, batch, sample, tiny_llava

from autoprune_lab.decoder.attach import attached
from autoprune_lab.evaluation import timing
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.evaluation.timing import interleaved, latency_ratio, prefill_time_ratios, selection_shares, stopwatch
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from policies.fixed import FixedPolicy


def test_a_stopwatch_reads_both_clocks_when_the_block_is_left(monkeypatch):
    cpu, wall = iter([3.0, 3.5]), iter([10.0, 12.0])
    monkeypatch.setattr(timing, "process_time", lambda: next(cpu))
    monkeypatch.setattr(timing, "perf_counter", lambda: next(wall))
    with stopwatch(torch.device("cpu")) as spent:
        pass
    assert spent.tolist() == [0.5, 2.0]


def test_every_round_starts_with_another_run_and_the_first_does_not_count():
    order, seconds = [], iter(range(99))

    def run(name):
        order.append(name)
        return np.full(2, float(next(seconds)))

    taken = interleaved([lambda: run("a"), lambda: run("b"), lambda: run("c")], rounds=2)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert taken[..., 0].tolist() == [[5, 3, 4], [7, 8, 6]]
    assert (taken[..., 0] == taken[..., 1]).all()


class Model(torch.nn.Module):
    device = torch.device("cpu")

    def forward(self, **arguments):
        assert arguments == {"x": 1, "use_cache": True, "logits_to_keep": 1}


LOADED = Mock(spec=VLM, model=Model())
BATCH = Mock(spec=Batch, arguments=lambda pixels: {"x": 1})


def test_prefill_ratios_are_medians_over_rounds_by_the_clock_that_counts(monkeypatch):
    """Unpruned 1, 2, 4 s; the first arm takes 0.5, 1 and 4 of it, the second always a quarter, another batch a half."""
    spent = {"unpruned": iter([9.0, 1, 2, 4]), "a": iter([9.0, 0.5, 2, 16]), "b": iter([9.0, 0.25, 0.5, 1])}
    spent["other"] = iter([9.0, 0.5, 1, 2])
    at_work = ["unpruned"]

    def attach(pruner, model, warn):
        at_work[0] = {0.5: "a", 0.25: "b"}[pruner.policy.keep]
        return nullcontext()

    def clock(device):
        name, at_work[0] = at_work[0], "unpruned"
        return nullcontext(np.array([next(spent[name]), 99.0]))

    monkeypatch.setattr(timing, "attached", attach)
    monkeypatch.setattr(timing, "stopwatch", clock)
    pruners = [Pruner(FixedPolicy(keep=keep)) for keep in (0.5, 0.25)]
    other = Mock(spec=Batch, arguments=lambda pixels: at_work.__setitem__(0, "other") or {"x": 1})
    assert prefill_time_ratios(LOADED, BATCH, pruners, rounds=3, others=[other]).tolist() == [1.0, 0.25, 0.5]


def test_a_selection_s_share_is_what_happens_between_the_layers(monkeypatch):
    """Of 4, 8 and 5 s of a prefill two steps between layers take 1 + 1, 1 + 1 and 2 + 3."""
    steps, given = [], iter([9, 0, 0, 4, 1, 1, 8, 1, 1, 5, 2, 3])

    class Stepping(Model):
        def forward(self, **arguments):
            for _ in range(2):
                with steps[-1]():
                    pass

    def attach(pruner, model, warn, own):
        steps.append(own)
        return nullcontext()

    monkeypatch.setattr(timing, "attached", attach)
    monkeypatch.setattr(timing, "stopwatch", lambda device: nullcontext(np.array([next(given), 99.0])))
    loaded = Mock(spec=VLM, model=Stepping())
    assert selection_shares(loaded, BATCH, [Pruner(FixedPolicy())], rounds=3).tolist() == [0.5]
    assert selection_shares(loaded, BATCH, []).tolist() == []


@torch.inference_mode()
def test_what_a_pruner_does_between_layers_is_told_to_who_times_it():
    entered = []

    @contextmanager
    def own():
        entered.append(True)
        yield

    model = tiny_llava()
    with attached(Pruner(FixedPolicy(keep=0.5)), model, own=own) as trace:
        model(**batch([sample(0)]))
    assert len(entered) == 1 + N_LAYERS + 1  # the decoder's beginning and end
    assert trace.samples[0].flops_ratio < 1


@pytest.mark.parametrize(("n_batches", "wanted", "chosen"), [(5, 1, [2]), (5, 2, [1, 2]), (4, 1, [1]), (2, 9, [0, 1])])
def test_latency_is_of_batches_from_the_middle_of_the_task(monkeypatch, n_batches, wanted, chosen):
    seen = []
    monkeypatch.setattr(
        timing, "_answer_seconds", lambda vlm, batches, arm, n, _: seen.append((batches, n)) or np.ones(2)
    )
    prepared = Mock(spec=PreparedTask, batches=tuple(range(n_batches)), task=Mock(max_new_tokens=7))
    assert latency_ratio(LOADED, prepared, Pruner(FixedPolicy()), wanted, rounds=1) == 1.0
    assert set(seen) == {(tuple(chosen), 7)}
