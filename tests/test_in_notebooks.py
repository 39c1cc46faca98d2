"""What a notebook shows of an object that stands alone in a cell: short, and the figures that matter."""

from dataclasses import replace

import numpy as np
import pytest
from fake_evaluator import SMALL, FakeReportEvaluator

from autoprune_lab.fronts.front import NotOnFront, ParetoFront
from autoprune_lab.fronts.plot import plot_fronts
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.statistics.records import LeftOut
from autoprune_lab.trace.sample import SampleTrace
from autoprune_lab.trace.trace import Trace
from policies.layerwise import LayerwisePolicy

MANY = 2000


def front(n):
    steps = tuple((np.arange(1, n + 1) / (n + 1)).tolist())
    return ParetoFront(steps, steps, tuple(map(str, range(n))), NotOnFront(3, 2, 1))


def records(n):
    return FakeReportEvaluator(n=n).run(Pruner(LayerwisePolicy(), Budget(flops_ratio=0.5)))


def trace(n):
    counts = np.full(SMALL.n_layers, 144)
    one = SampleTrace(SMALL, counts, counts, 1, 0, kept=[np.arange(144)] * SMALL.n_layers)
    return Trace([one] * n, [3])


def pruner(n):
    depths = tuple(np.linspace(0.01, 0.99, n).tolist())
    return Pruner(LayerwisePolicy(depths=depths, keep=tuple(np.linspace(0.9, 0.1, n).tolist())))


@pytest.mark.parametrize("made", [front, records, trace, pruner])
def test_it_is_short_however_much_there_is(made):
    shown = made(MANY)._repr_html_()
    assert shown.startswith("<table>")
    assert len(shown) < 8_000
    if made not in (front, pruner):
        assert len(repr(made(MANY))) < 200  # a notebook keeps it as well


def test_a_front_says_its_points_and_what_is_not_on_it():
    shown = front(2)._repr_html_()
    assert "2 points, hypervolume 0.3333; 3 dominated, 2 over a bound, 1 without a result" in shown
    assert "<tr><td>1</td><td>0.667</td><td>0.667</td></tr>" in shown


def test_records_say_each_kind_with_its_interval():
    found = replace(records(60), left_out=(LeftOut("x", "broken"),))
    shown = found._repr_html_()
    low, high = found.interval("odd")
    assert f"60 samples, score {found.score:.4f}, FLOPs ratio {found.flops_ratio:.4f}, 1 left out" in shown
    assert f"<td>odd</td><td>30</td><td>{found.by_kind()['odd']:.3f}</td><td>{low:.3f}</td><td>{high:.3f}</td>" in shown


def test_a_trace_says_what_reached_the_last_layer():
    shown = trace(1)._repr_html_()
    assert "Trace(1 samples, 1 calls kept visual tokens whole)" in shown
    assert "<tr><td>0</td><td>144</td><td>12</td><td>144</td>" in shown


def test_a_pruner_says_its_parts():
    shown = pruner(2)._repr_html_()
    assert "<td>probe_layer</td><td>1</td>" in shown
    assert "LayerwisePolicy(depths=(0.01, 0.99)" in shown


def test_a_figure_is_shown_in_any_kernel():
    figure = plot_fronts({"a": front(3)})
    assert figure._repr_png_()[:4] == b"\x89PNG"
    assert figure._repr_png_() == figure._repr_png_()
