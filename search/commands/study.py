"""`autoprune study`."""

import argparse
import shlex

from search.command_line import resumable
from search.config import arguments

SUMMARY = "find good settings of a policy: many trials, and the front of accuracy against cost"
DESCRIPTION = f"""\
Search a policy's settings: each trial prunes the model in one way and answers the task's questions. The study
keeps the trials that nothing beats in both cost and accuracy (the Pareto front), compares the best of them with
other policies on fresh questions, and writes tables, a picture and the tuned pruners to runs/NAME.

Running the same command again goes on where it stopped (also after Ctrl-C), or prints the result.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune study                                          the default study
  autoprune study experiment=quick                         the whole line in about a minute
  autoprune study policy=fixed study=fastv_space           another policy, under a name of your own
  autoprune study search.n_trials=300                      the same study, made longer
  autoprune study budget.flops_ratio=0.35 study=tight      a tighter bound
  autoprune study model=llava_1_5_7b task=pope study=pope  a checkpoint and a benchmark that you fetched
  autoprune study search.workers=4                         four processes at a time
  autoprune study policy=mine --config-dir my_policies/conf"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, and whether an old study of that name is put aside."""
    arguments.add_arguments(parser)
    parser.add_argument("--fresh", action="store_true", help="start over; an old study is kept as NAME.old-N")


def run(given: argparse.Namespace) -> int:
    """Check, search, compare on the report split, print; after Ctrl-C, say how to go on."""
    experiment = arguments.study(given)
    if experiment is None:
        return 0
    from search import pipeline

    words = shlex.join(arguments.command_line(given, "study"))
    return resumable(lambda: pipeline.show(pipeline.run(experiment, given.fresh)), experiment.out, words)
