"""`autoprune adaptivity`."""

import argparse

from search.config import arguments

SUMMARY = "ask what a policy's adaptivity is worth: against the best fixed curve, and below the oracle's ceiling"
DESCRIPTION = f"""\
First the needs: along which curve is each kind of question still answered, on the tune split? Between their mean and
their envelope, and only there, can adaptivity pay. Budgets are taken inside this window, in visual tokens; a budget
that is typed replaces them.

At each budget an adaptive policy is tuned on the tune split at exactly the budget, and with as many trials the same
policy told 0 bits of every sample: that is the best fixed curve. Then the report split is answered with both, with the
adaptive one told other samples' numbers, and told their mean; and, as a ceiling, with the best curve for each kind and,
in hindsight, for each sample. Prints cost, score and paired differences with 95 % intervals, and the share of the
headroom that is won; writes tables and pictures to runs/NAME-adaptivity.

All searches are studies like any other, and replayed curves are kept: the same command again goes on.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune adaptivity search.n_trials=60
  autoprune adaptivity budget.flops_ratio=0.35
  autoprune adaptivity policy=complexity_spend budget=mean budget.mean_tokens=30 study=spend
  autoprune adaptivity --dry-run model=llava_1_5_7b task=pope,gqa,textvqa
  autoprune adaptivity experiment=adaptivity_real"""

UNUSED = {
    "report.ratios": "arms are compared at the budget itself: budget.flops_ratio=RATIO",
    "report.points": "only the best trial of either search is measured",
    "report.arms": "the arms are the two that are tuned; others: autoprune study",
    "report.episodes": "arms are compared by their answers; a study ends with episodes: autoprune study",
    "search.storage": "both studies are kept in journals: folder=DIR",
    "search.heartbeat": "both studies are kept in journals, which have none",
    "search.workers": "both searches run in this process",
    "out": "both studies have folders of their own: folder=DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, the number of shufflings and of budgets, and how finely needs are measured."""
    arguments.add_arguments(parser)
    parser.add_argument("--shuffles", type=int, default=3, metavar="N", help="how often numbers are shuffled")
    parser.add_argument("--budgets", type=int, default=3, metavar="N", help="budgets in the window, if none is typed")
    parser.add_argument(
        "--grid", type=int, default=10, metavar="N", help="depths, and token counts, of the needs' grid"
    )
    parser.add_argument("--dry-run", action="store_true", help="find what is wrong, say what would run, run nothing")


def run(given: argparse.Namespace) -> int:
    """Measure the needs, then at each budget tune twice, measure and print."""
    experiment = arguments.experiment(given, UNUSED)
    if experiment is None:
        return 0
    from search.config.early_checks import check_folder, check_search
    from search.config.errors import ConfigError

    for name, least in {"shuffles": 1, "budgets": 1, "grid": 2}.items():
        if (value := getattr(given, name)) < least:
            raise ConfigError(f"--{name} {value} must be at least {least}")
    check_search(experiment)
    check_folder(experiment.out.parent, "folder=")
    from search.methods import adaptivity, adaptivity_page

    bench = adaptivity.Bench(experiment, given.grid)
    checkpoint = bench.check()
    if given.dry_run:
        print(bench.described(given.budgets))
        return 0
    bench.folder.mkdir(parents=True, exist_ok=True)
    budgets = bench.budgets(given.budgets)
    adaptivity_page.write_needs(bench, budgets)
    print(adaptivity_page.needs_text(bench.needs), flush=True)
    compared = []
    for tokens in budgets:
        compared.append(bench.compare(tokens, checkpoint, given.shuffles))
        print(f"\n{adaptivity_page.arms_text(compared[-1])}", flush=True)
    adaptivity_page.write_arms(bench, compared)
    print(f"\nwritten  {'  '.join(str(file) for file in sorted(bench.folder.iterdir()))}")
    return 0
