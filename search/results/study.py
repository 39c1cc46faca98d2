"""A finished study as a notebook takes it: shown, drawn, and set against others, in a line each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from search.results.folder import study_folder
from search.results.study_result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from search.results.seeds import Contender

RATIOS = (0.5, 0.35, 0.25)


def load_study(study: Path | str) -> "Study":
    """A finished study, by its folder or by its name below runs/. ConfigError names those that there are."""
    return Study.read(study_folder(str(study)))


class Study(StudyResult):
    """A study that has ended, and its pictures."""

    def plot(self) -> "Figure":
        """The front with all trials within the bound, on the tune split; below it what the report split says of it.

        Where a study chose the policy (or another part), every trial has the look of its choice.
        """
        from autoprune_lab.fronts.shown import ShownFigure
        from search.results.pictures import plot_report, plot_tune

        n = 1 if self.report.empty else 2
        figure = ShownFigure(figsize=(7.5, 4.0 * n), layout="constrained")
        for axes, plot in zip(figure.subplots(n, 1, squeeze=False)[:, 0], (plot_tune, plot_report), strict=False):
            plot(self, axes)
        return figure

    def compare(self, *others: StudyResult | Path | str, at: Sequence[float] = RATIOS) -> "Comparison":
        """This study beside others: studies, their folders, or their names below runs/. `at`: FLOPs ratios."""
        loaded = [other if isinstance(other, StudyResult) else load_study(other) for other in others]
        return Comparison((self, *loaded), tuple(at))


@dataclass(frozen=True, repr=False)
class Comparison:
    """Several studies beside one another; NAME-s0, NAME-s1, ... are seeds of one. A notebook shows table and picture.

    `print` gives all tables. On the report split where all were measured there, else on the tune split.
    """

    studies: tuple[StudyResult, ...]
    ratios: tuple[float, ...] = RATIOS

    @property
    def contenders(self) -> "list[Contender]":
        """The studies, seeds together."""
        from search.results.seeds import contenders

        return contenders(self.studies)

    @property
    def splits(self) -> list[bool]:
        """False: tune, True: report."""
        return [False, True] if all(not study.report.empty for study in self.studies) else [False]

    @property
    def summary(self) -> pd.DataFrame:
        """One row a contender (`search.summary`), on the last of the splits."""
        from search.results.comparison import summary

        return summary(self.contenders, self.ratios, self.splits[-1])

    @property
    def figure(self) -> "Figure":
        """The fronts, a panel a split."""
        from search.results.pictures import overlay

        return overlay(self.contenders, self.splits)

    def __str__(self) -> str:
        from search.results.comparison_text import text

        return text(self.studies, self.ratios, self.splits)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(study.name for study in self.studies)})"

    def _repr_html_(self) -> str:
        """The summary."""
        from autoprune_lab.html_table import html_table
        from search.results.pictures import SPLITS

        frame = self.summary
        return html_table(SPLITS[self.splits[-1]], list(frame.columns), frame.to_numpy(object).tolist())

    def _ipython_display_(self) -> None:
        """The summary and the picture: one output would be either."""
        from IPython.display import HTML, Image, display  # type: ignore[import-not-found,unused-ignore]

        from autoprune_lab.fronts.shown import png

        display(HTML(self._repr_html_()))  # type: ignore[no-untyped-call,unused-ignore]
        display(Image(png(self.figure)))  # type: ignore[no-untyped-call,unused-ignore]
