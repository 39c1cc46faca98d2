"""`autoprune adaptivity`."""

import argparse

from search.config import arguments

SUMMARY = "ask whether a policy's adaptivity helps: against the best fixed curve, and shuffled"
DESCRIPTION = f"""\
Tune an adaptive policy on the tune split at exactly the budget, and with as many trials the same policy told 0 bits of
every sample: that is the best fixed curve. Then answer the report split with both, with the adaptive one told other
samples' complexities, and with it told their mean. Prints accuracy, cost and the paired differences with 95 %
intervals. Where shuffling costs nothing, the policy makes no use of what it is told.

Both searches are studies like any other (NAME-adaptive, NAME-constant): the same command again goes on.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune adaptivity budget.flops_ratio=0.35 search.n_trials=60
  autoprune adaptivity policy=complexity_spend budget=mean budget.flops_ratio=0.35 study=spend"""

UNUSED = {
    "report.ratios": "arms are compared at the budget itself: budget.flops_ratio=RATIO",
    "report.points": "only the best trial of either search is measured",
    "report.arms": "the arms are the two that are tuned; others: autoprune study",
    "search.storage": "both studies are kept in journals: folder=DIR",
    "search.heartbeat": "both studies are kept in journals, which have none",
    "search.workers": "both searches run in this process",
    "out": "both studies have folders of their own: folder=DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment and the number of shufflings."""
    arguments.add_arguments(parser)
    parser.add_argument("--shuffles", type=int, default=3, metavar="N", help="how often complexities are shuffled")


def run(given: argparse.Namespace) -> int:
    """Tune twice, measure, print."""
    experiment = arguments.experiment(given, UNUSED)
    if experiment is None:
        return 0
    from search.config.early_checks import check_folder, check_search
    from search.config.errors import ConfigError

    if given.shuffles < 1:
        raise ConfigError(f"--shuffles {given.shuffles} must be at least 1")
    check_search(experiment)
    check_folder(experiment.out.parent, "folder=")
    from search.methods import adaptivity

    report = adaptivity.measure(experiment, given.shuffles)
    print(f"{adaptivity.arms_table(report)}\n\n{report.answer}")
    return 0
