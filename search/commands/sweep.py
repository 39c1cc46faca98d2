"""`autoprune sweep`."""

import argparse
import logging
import shlex
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from search.command_line import resumable
from search.commands.compare import add_ratios, splits_of
from search.config import arguments

if TYPE_CHECKING:
    from search.config.experiment import Experiment
    from search.config.sweep import Point
    from search.results.study_result import StudyResult

SUMMARY = "run a study for each of several policies, seeds, budgets, ..., and compare them"
DESCRIPTION = f"""\
A word may name several values, such as policy=fixed,layerwise seed=0,1,2 or budget.flops_ratio=0.3,0.5 or
seed=range(0,5): a study is run for each combination, one after the other, in runs/NAME/VALUES-sSEED (study=NAME; by
default sweep). All are checked before the first begins. At the end their fronts are compared as by autoprune compare,
seeds of the same values as one, in runs/NAME: fronts.png, summary.csv, summary.tex.

The same command again goes on where it stopped, and with more values it runs what is new. Each study is one like any
other: autoprune study, export, compare and worker know it.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune sweep policy=fixed,layerwise,logistic_adaptive seed=0,1,2 experiment=several_seeds
  autoprune sweep policy=fixed,layerwise budget.flops_ratio=0.3,0.5 study=budgets
  autoprune sweep search=tpe,random 'seed=range(0,5)' study=samplers search.workers=2"""

LOG = logging.getLogger(__name__)
UNUSED = {"out": "the studies have folders of their own: folder=DIR study=NAME"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiments, and the ratios to compare at."""
    arguments.add_arguments(parser)
    add_ratios(parser)


def run(given: argparse.Namespace) -> int:
    """Check all, run what is missing, compare."""
    from search.config.early_checks import check_folder
    from search.config.errors import ConfigError
    from search.config.overrides import check_used
    from search.config.sweep import place_of, points
    from search.results.folder import CONFIG

    check_used(given.overrides, UNUSED)
    asked, place = points(given.overrides), Path(place_of(given.overrides))
    given.multirun = False  # what it asks for is what this command does
    found = [_experiment(given, point) for point in asked]
    if given.cfg is not None:
        return 0
    check_folder(place, "the sweep's folder")
    if (place / CONFIG).is_file():
        raise ConfigError(f"{place} is the folder of a study: give the sweep another name, study=NAME")
    _check(found)
    del found  # each holds its task, and would keep its model
    words = shlex.join(arguments.command_line(given, "sweep"))
    runs = (_run(given, point, f"{i} of {len(asked)}") for i, point in enumerate(asked, 1))
    studies: list[StudyResult] = []
    code = resumable(lambda: studies.extend(runs), place, words)
    if code == 0:
        _compare(studies, given.at, place)
    return code


def _experiment(given: argparse.Namespace, point: "Point") -> "Experiment | None":
    """That of one study, printed where --cfg asks for it. Raises ConfigError for what is wrong with its words."""
    from search.config.early_checks import check_search

    if given.cfg is not None:
        print(f"--- # {point.name}")
    experiment = arguments.experiment(argparse.Namespace(**vars(given) | {"overrides": point.words}), {})
    if experiment is not None:
        check_search(experiment)
    return experiment


def _check(experiments: "Sequence[Experiment | None]") -> None:
    """Raise what any of the studies would raise before its model is loaded, or what would leave them incomparable.

    What one notes is noted when it runs.
    """
    from search import pipeline
    from search.config.errors import ConfigError

    costs = dict.fromkeys(experiment.typed.search.cost for experiment in experiments if experiment is not None)
    if len(costs) > 1:
        raise ConfigError(f"search.cost={','.join(costs)}: fronts of unlike costs cannot be compared: a sweep for each")
    with redirect_stderr(StringIO()):
        for experiment in experiments:
            if experiment is not None:
                pipeline.check(experiment)


def _run(given: argparse.Namespace, point: "Point", which: str) -> "StudyResult":
    """Run what is missing of one study, and say in a line what it found."""
    from search import pipeline

    experiment = _experiment(given, point)
    assert experiment is not None
    LOG.info("study %s: %s", which, point.name)
    result = pipeline.run(experiment)
    front = result.front
    best = f"best score {front.scores[-1]:.3f} at {front.costs[-1]:.3f}, " if front.costs else ""
    print(f"{result.folder}  {len(result.trials)} trials, {best}hypervolume {front.hypervolume():.4f}", flush=True)
    return result


def _compare(studies: "Sequence[StudyResult]", ratios: "Sequence[float]", place: Path) -> None:
    """One table, one picture."""
    from search.results.comparison_text import text, write_summary
    from search.results.pictures import overlay
    from search.results.seeds import contenders

    splits, picture = splits_of(list(studies), "both"), place / "fronts.png"
    print(f"\n{text(studies, ratios, splits)}")
    write_summary(studies, ratios, splits, place / "summary")
    overlay(contenders(studies), splits, picture)
    print(f"picture  {picture}\ntables   {place}/summary.{{csv,tex}}\nstudies  {place}/*")
