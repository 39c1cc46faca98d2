"""A film shows the episode that `evaluate` plays, and which patches its decisions were made of."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.film import film
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.tasks.base import TaskError
from autoprune_lab.tasks.driving import DrivingTask
from autoprune_lab.tasks.driving_closed_loop import DrivingClosedLoopTask
from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.driving.layout import layout
from autoprune_lab.trace.contact_sheet import DARK
from autoprune_lab.trace.film import Decision, Film
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

TASK = DrivingClosedLoopTask("report", 1, seconds=1.5)


@pytest.fixture(scope="module")
def novice() -> VLM:
    small = layout(n_layers=6, hidden=16)
    return VLM(build_untrained(small, 0).eval(), build_processor(small), "novice")


def test_it_is_the_drive_that_is_evaluated(novice):
    pruner = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.7))
    row = evaluate(novice, prepare(novice, TASK, 6), pruner).rows[3]
    shown = film(novice, TASK, TASK.samples()[3], pruner)
    assert (shown.id, shown.outcome, shown.score) == (row.id, row.prediction, row.score)
    assert len(shown.decisions) == 3
    table = pd.DataFrame(shown.rows())
    assert table["seconds"].tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert table["complexity"].mean() == pytest.approx(row.complexity, rel=1e-5)
    assert table["flops_ratio"].mean() == pytest.approx(row.decoder_flops / row.unpruned_flops, abs=1e-4)
    assert table[[f"tokens/{i}" for i in range(3)]].sum(axis=1).mean() == pytest.approx(row.mean_tokens, abs=0.5)
    assert shown.decisions[0].kept.shape == (3, 8, 8)
    assert shown.decisions[-1].kept.sum() == pytest.approx(row.tokens[-1], abs=1)


def test_what_is_answered_once_is_no_film(novice):
    task = DrivingTask("report", 1)
    with pytest.raises(TaskError, match="no closed loop"):
        film(novice, task, task.samples()[0], Pruner(FixedPolicy(2)))


def decision(seconds: float, kept: list[list[bool]], complexity: float | None = 0.5) -> Decision:
    picture = np.full((8, 8, 3), 200, dtype=np.uint8)
    cells, states = np.array([kept, kept]), {"seconds": seconds, "speed, m/s": 3.0}
    return Decision((picture, picture), cells, np.array([1.0, 2.0]), complexity, 0.4, states)


def test_dropped_patches_are_dark(tmp_path):
    half = [[True, False], [True, False]]
    Film("a", (decision(0.0, half), decision(0.5, [[True] * 2] * 2)), "", 1.0).write_gif(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (2, 500)
        times = 600 // 18  # two pictures of 8 pixels and 2 between them
        assert gif.size == (18 * times, 8 * times)
        pixels = np.asarray(gif.convert("RGB"))
    left, right = pixels[0, times], pixels[0, 6 * times]
    assert left.tolist() == pytest.approx([200] * 3, abs=2)
    assert right.tolist() == pytest.approx([200 * DARK] * 3, abs=2)


def test_the_figure_has_a_panel_for_what_is_known():
    whole = Film("a", (decision(0.0, [[True]]), decision(0.5, [[True]])), "", 0.5)
    assert [axis.get_ylabel().split("\n")[0] for axis in whole.plot().axes] == [
        "complexity",
        "tokens kept",
        "FLOPs ratio",
        "speed, m/s",
    ]
    legend = whole.plot(["left", "right"]).axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["left", "right"]
    blind = replace(whole, decisions=(decision(0.0, [[True]], None),))
    assert len(blind.plot().axes) == 3
