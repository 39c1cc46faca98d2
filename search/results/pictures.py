"""Pictures of one study and of several, tune and report split apart."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from autoprune_lab.fronts.plot import SCORE_LABEL, plot_fronts
from autoprune_lab.fronts.styles import save
from search.config.goal import COSTS, OWN_SCORE, SCORES
from search.results.seeds import Contender
from search.results.study_result import PICTURE, REPORT_PICTURE, StudyResult
from search.results.trial_table import cost_column

SPLITS = {False: "tune split", True: "report split"}


def cost_label(result: StudyResult) -> str:
    """What the horizontal axis says."""
    return COSTS.get(result.cost, result.cost)


def score_label(result: StudyResult) -> str:
    """What the vertical axis of the tune split says."""
    return SCORE_LABEL if result.score == OWN_SCORE else SCORES.get(result.score, result.score)


def draw(result: StudyResult) -> None:
    """front.png: every trial within the bound and the front; report.png: front and arms, report split.

    Both also as PDF and SVG.
    """
    run = result.trials[result.trials["feasible"] & ~result.trials["front"]]
    others = {"other trials": list(zip(run[cost_column(run)], run["score"], strict=True))}
    title, xlabel, bounds = f"{result.name}, tune split\n{result.front.left_out}", cost_label(result), result.bounds
    ylabel, labelled = score_label(result), result.score == OWN_SCORE
    figure = plot_fronts({"front": result.front}, others, bounds=bounds, title=title, xlabel=xlabel, ylabel=ylabel)
    save(figure, result.folder / PICTURE, bbox_inches="tight")
    same = {"front on the tune split": result.front} if result.cost == "flops_ratio" and labelled else {}
    figure = plot_fronts(
        {**same, "front on the report split": result.report_front},
        result.arms,
        {"front on the report split": result.report_points},
        bounds,
        result.unpruned,
        title=f"{result.name}: other arms on the report split, 95 % intervals",
    )
    save(figure, result.folder / REPORT_PICTURE, bbox_inches="tight")


def overlay(
    contenders: Sequence[Contender], splits: Sequence[bool] = (False, True), path: Path | str | None = None
) -> Figure:
    """The fronts, one panel a split (False: tune, True: report), with bounds; seeds as a median in a band.

    On the report split with intervals, and with the arms of the first study beside them.
    """
    figure = Figure(figsize=(4.2 + 3.9 * len(splits), 4.4), layout="constrained")
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    bounds = [bound for contender in contenders for study in contender.studies for bound in study.bounds]
    for axes, report in zip(panels, splits, strict=True):
        fronts = {one.name: fronts[0] if len(fronts := one.fronts(report)) == 1 else fronts for one in contenders}
        alone = [one for one in contenders if len(one.studies) == 1]
        measured = {one.name: one.studies[0].report_points for one in alone} if report else {}
        first = contenders[0].studies[0]
        arms, levels = (first.arms, first.unpruned) if report else ({}, {})
        named = {f"arm {name}": points for name, points in arms.items()}  # a study may have the same name
        title = SPLITS[report] if report or first.score == OWN_SCORE else f"{SPLITS[report]}: {first.score}"
        plot_fronts(fronts, named, measured, bounds, levels, axes=axes, title=title, xlabel=cost_label(first))
    for axes in panels[:-1]:
        axes.get_legend().remove()  # the last panel's names them all
    for axes in panels[1:]:
        axes.set_ylabel("")
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
    return figure
