"""`autoprune transfer`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.compare import add_ratios, finished_among
from search.config import arguments

if TYPE_CHECKING:
    from search.methods.transfer import Column

SUMMARY = "ask what tuned pruners are worth on other models, tasks and budgets: a matrix of scores and differences"
DESCRIPTION = """\
Each row is what a study tuned: the trial that is best within a FLOPs ratio (--at) on its tune split. Each column is a
model, a task and a FLOPs ratio where it is used: first those that the studies were tuned on, so that several studies
make a square; then those that words name, which may name several: model=A,B, task=A,B (here two tasks), and
budget.flops_ratio=0.25,0.35 (by default the ratios of --at). What no word says of model, task and report is as in the
study.

In a column every pruner is scaled to its ratio: all spend the same, and cells differ in what was tuned. Answers are
those of the report split. Prints the scores, and on the same samples, with 95 % intervals (paired bootstrap), what each
is better by than the pruner that was tuned there, and than a published method that nobody tuned (--against); writes
them as Markdown, CSV and LaTeX, and as a heat map (PNG, PDF, SVG).

Nothing is searched and no label is read to move a pruner: its budget alone is fitted anew. What does not fit, such as a
probe behind the last layer, is one line before a model is loaded; a ratio that a pruner cannot reach is a note in its
cell. Answers are kept in --out: the same command goes on, and with more words runs what is new. What is no finished
study is named and left out, so that runs/NAME/* may be said."""
EXAMPLES = """\
  autoprune transfer runs/worlds/* --out runs/worlds-transfer
  autoprune transfer runs/crowded model=embedded_dense_s1,embedded_dense_s2 --at 0.25 --dry-run
  autoprune transfer runs/crowded --at 0.25 budget.flops_ratio=0.22,0.25,0.3
  autoprune transfer runs/pope task=gqa,textvqa report.task.per_kind=300 --against pdrop"""

TUNED = "pruners are those that the studies tuned"
BUDGETS = ("budget.flops_ratio", "pruner.budget.flops_ratio")
UNUSED = {
    **dict.fromkeys(("policy", "scorer", "complexity", "recovery", "pruner"), TUNED),
    "method": "a published method beside them: --against NAME",
    "experiment": "what no word says is as in the study",
    "budget": f"every pruner is scaled to a FLOPs ratio: {BUDGETS[0]}=A,B",
    **dict.fromkeys(("search", "space", "calibration"), "nothing is searched"),
    "report.episodes": "a transfer is of answers; a study ends with episodes: autoprune study",
    **dict.fromkeys(("report.ratios", "report.points", "report.arms"), "rows are the studies' trials: --at RATIO"),
    "out": "name the folder with --out DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The studies, where their pruners are used, at which ratios, and the folder."""
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="a study's folder, or its name in runs/")
    arguments.add_words(parser)
    add_ratios(parser)
    parser.set_defaults(at=[0.35])
    parser.add_argument("--against", default="fastv", metavar="METHOD", help="an untuned method (default: fastv)")
    parser.add_argument("--package", action="append", default=[], help="a package that the pruners may name code of")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/transfer"), metavar="DIR", help="where files are written"
    )
    parser.add_argument("--dry-run", action="store_true", help="find what is wrong, say what would run, run nothing")


def run(given: argparse.Namespace) -> int:
    """Check, answer, print, write."""
    from search.config.early_checks import check_folder
    from search.config.overrides import check_used, key_of

    bounds = [word for word in given.overrides if key_of(word) in BUDGETS]
    words = [word for word in given.overrides if word not in bounds]
    check_used(words, UNUSED)
    check_folder(given.out, "--out")
    columns = _columns(given, words, [*dict.fromkeys(given.at)], _ratios(bounds))
    from search.methods import transfer_answers, transfer_page

    if given.dry_run:
        print(f"{transfer_answers.described(columns, given.out)}\nfiles: {given.out}")
        return 0
    frame = transfer_answers.run(columns, given.out)
    print(f"{transfer_page.write(frame, given.out)}\n\nwritten  {given.out}/transfer.{{md,csv,tex,png,pdf,svg}}")
    return 0


def _columns(given: argparse.Namespace, words: list[str], within: list[float], used_at: list[float]) -> "list[Column]":
    """All that is asked, checked as far as it can be before a model is loaded. Raises ConfigError."""
    from search.config import threads
    from search.config.errors import ConfigError
    from search.config.experiment import Experiment
    from search.config.trust import trusted
    from search.results.folder import study_folder

    for ratio in (*within, *used_at):
        if not 0 < ratio <= 1:
            raise ConfigError(f"a FLOPs ratio of {ratio:g} is outside (0, 1]: give a share of the unpruned prefill")
    places = [place if (place := Path(name)).exists() else study_folder(name) for name in given.studies]
    folders = list(dict.fromkeys(finished_among(places)))
    method = Experiment.compose([f"method={given.against}"], given.config_dir)
    from search.methods import transfer
    from search.results.study_result import StudyResult

    packages, studies = trusted(method, given.package), [StudyResult.read(folder) for folder in folders]
    used_on = transfer.places_of(studies, words, given.config_dir)
    threads.use(used_on[0].experiment.typed.threads)
    rows, untuned = transfer.rows_of(studies, within, packages), (f"{given.against}, untuned", method.pruner())
    return transfer.columns_of(used_on, used_at or within, rows, untuned, packages)


def _ratios(words: list[str]) -> list[float]:
    """The FLOPs ratios that words name. Raises ConfigError for what is no number."""
    from search.config.errors import ConfigError
    from search.config.overrides import values_of

    named = [value for word in words for value in values_of(word) or [word.partition("=")[2]]]
    try:
        return list(dict.fromkeys(map(float, named)))
    except ValueError as error:
        raise ConfigError(f"{words[0]} must name FLOPs ratios, such as {BUDGETS[0]}=0.25,0.35") from error
