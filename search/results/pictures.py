"""Pictures of one study and of several, tune and report split apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.fronts.plot import SCORE_LABEL, plot_fronts
from autoprune_lab.fronts.shown import ShownFigure
from autoprune_lab.fronts.styles import save
from search.config.goal import COSTS, OWN_SCORE, SCORES
from search.config.paths import select
from search.results.seeds import Contender
from search.results.study_result import LAYERS_PICTURE, PICTURE, REPORT_PICTURE, StudyResult

SPLITS = {False: "tune split", True: "report split"}


def cost_label(result: StudyResult) -> str:
    """What the horizontal axis says."""
    return COSTS.get(result.cost, result.cost)


def score_label(result: StudyResult) -> str:
    """What the vertical axis of the tune split says."""
    return SCORE_LABEL if result.score == OWN_SCORE else SCORES.get(result.score, result.score)


def about(result: StudyResult) -> list[str]:
    """Model and task, as a title says them."""
    model, task = select(result.config, "model.path"), select(result.config, "task._target_")
    return [*([str(model).rpartition("/")[2]] if model else []), *([str(task).split(".")[-2]] if task else [])]


def draw(result: StudyResult) -> None:
    """front.png: every trial within the bound and the front; report.png: front and arms, report split; layers.png.

    All also as PDF and SVG; layers.png, what the front's trials keep, only where the folder tells it.
    """
    save(plot_tune(result), result.folder / PICTURE, bbox_inches="tight")
    save(plot_report(result), result.folder / REPORT_PICTURE, bbox_inches="tight")
    if not result.layers.empty:
        save(plot_layers(result), result.folder / LAYERS_PICTURE, bbox_inches="tight")


def plot_tune(result: StudyResult, axes: Axes | None = None) -> Figure:
    """The front and all other trials within the bound."""
    title = ", ".join([result.name, *about(result), SPLITS[False]]) + f"\n{result.front.left_out}"
    return plot_fronts(
        {"front": result.front},
        result.tried,
        bounds=result.bounds,
        axes=axes,
        title=title,
        xlabel=cost_label(result),
        ylabel=score_label(result),
    )


def plot_report(result: StudyResult, axes: Axes | None = None) -> Figure:
    """What the report split says, with intervals; behind it the front of the tune split, where it counts the same."""
    is_same = result.cost == "flops_ratio" and result.score == OWN_SCORE
    return plot_fronts(
        {"front, tune split": result.front} if is_same else {},
        result.arms,
        {"its points, report split": result.report_points},
        result.bounds,
        result.unpruned,
        axes,
        title=", ".join([result.name, *about(result), f"{SPLITS[True]}, 95 % intervals"]),
    )


def plot_layers(result: StudyResult) -> Figure:
    """The share of visual tokens that enters each layer, mean over the tune split: a line a trial of the front.

    Trials that an earlier version ran did not note it, and have none.
    """
    figure = ShownFigure(figsize=(7.5, 4.2), layout="constrained")
    axes, kept = figure.subplots(), result.layers.groupby("trial")["mean"]
    front = zip(map(int, result.front.labels), result.front.costs, strict=True)
    costs = {number: cost for number, cost in front if number in kept.groups}
    shade = ScalarMappable(Normalize(min(costs.values(), default=0), max(costs.values(), default=1)), "viridis_r")
    for number, cost in costs.items():
        curve = kept.get_group(number)
        axes.stairs(
            curve, range(len(curve) + 1), baseline=None, color=shade.to_rgba(np.array(cost)), label=f"trial {number}"
        )
    figure.colorbar(shade, ax=axes, label=cost_label(result))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set(title=", ".join([result.name, *about(result), "the front"]), xlabel="decoder layer")
    axes.set(ylabel="visual tokens entering (% of all)", xlim=(0, None), ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def overlay(
    contenders: Sequence[Contender], splits: Sequence[bool] = (False, True), path: Path | str | None = None
) -> Figure:
    """The fronts, one panel a split (False: tune, True: report), with bounds; seeds as a median in a band.

    On the report split, where a few points of each front were measured, these alone, of all seeds, with intervals, and
    the arms of the first study beside them.
    """
    figure = ShownFigure(figsize=(1.5 + 5.6 * len(splits), 4.4), layout="constrained")
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    bounds = [bound for contender in contenders for study in contender.studies for bound in study.bounds]
    for axes, report in zip(panels, splits, strict=True):
        fronts = {} if report else {one.name: _one_or_all(one.fronts(report)) for one in contenders}
        again = {one.name: [p for study in one.studies for p in study.report_points] for one in contenders}
        first = contenders[0].studies[0]
        arms, levels = (first.arms, first.unpruned) if report else ({}, {})
        named = {f"arm {name}": points for name, points in arms.items()}  # a study may have the same name
        title = SPLITS[report] if report or first.score == OWN_SCORE else f"{SPLITS[report]}: {first.score}"
        plot_fronts(
            fronts, named, again if report else {}, bounds, levels, axes=axes, title=title, xlabel=cost_label(first)
        )
    for axes in panels[1:]:
        axes.set_ylabel("")
    figure.suptitle(", ".join(about(contenders[0].studies[0])))
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
    return figure


def _one_or_all(fronts: list[ParetoFront]) -> ParetoFront | list[ParetoFront]:
    return fronts[0] if len(fronts) == 1 else fronts
