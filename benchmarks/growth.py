"""What a trial costs beside the model, in studies of 100 to 10,000 trials: `python -m benchmarks.growth`.

A journal is filled with ended trials, then a few more are run by the loop of `autoprune study`, on the recorded
objective (`benchmarks.recorded`), so that no model runs. Milliseconds of CPU a trial, the median:

- loop: everything from one trial's end to the next one's, with random settings: the loop, the journal, the objective
- terminal: the line that says how far the search is
- MLflow: finding what is not sent, and the study's figures after the trial; nothing is sent
- TPE: what the sampler of later trials adds to `loop`; it is optuna's own, and reads all trials
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import optuna
from optuna.trial import FrozenTrial, create_trial

from benchmarks.problems import DATA
from benchmarks.recorded import Recorded
from search.config.experiment import Experiment
from search.study import loop
from search.study.ledger import Ledger
from search.study.objective import CONSTRAINT, Objective
from search.study.progress import line
from search.study.storage import StudyStorage
from search.tracking.fields import Progress
from search.tracking.mirror import Mirror
from search.tracking.settings import MlflowTracking

SIZES = (100, 1000, 3000, 10_000)


def trials_like(experiment: Experiment, n: int) -> list[FrozenTrial]:
    """Ended trials of random settings, cost and score; half of them over the bound."""
    design, rng = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), np.random.default_rng(0)
    made = []
    for _ in range(n):
        trial = design.ask()
        experiment.space.suggest(trial)
        values, bound = rng.random(2).tolist(), {CONSTRAINT: float(rng.choice([-0.1, 0.1]))}
        made.append(
            create_trial(values=values, params=trial.params, distributions=trial.distributions, constraints=bound)
        )
    return made


def spent(action: Callable[[], object]) -> float:
    """Milliseconds of CPU that it takes."""
    start = time.process_time()
    action()
    return 1000 * (time.process_time() - start)


def a_trial(experiment: Experiment, study: optuna.Study, recorded: Recorded, n_more: int) -> dict[str, float]:
    """Run so many trials, and say what one costs."""
    mirror = Mirror(study, MlflowTracking("sqlite:///none.db"), experiment.out)
    ledger, progress = Ledger(study).look(), Progress(study)
    ledger.front(), progress.after()
    mirror.sent |= {trial.number for trial in ledger.ended}
    rows: list[tuple[float, float, float]] = []
    last = 0.0

    def look(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal last
        whole = 1000 * time.process_time() - last
        terminal = spent(lambda: line(ledger.look(), 1, 0, 1.0))
        tracking = spent(lambda: (mirror.pending(), progress.after(trial.number - 1)))
        mirror.sent.add(trial.number)
        rows.append((whole, terminal, tracking))
        last = 1000 * time.process_time()

    experiment.typed.search.n_trials = Ledger(study).look().n_ended + n_more + 1
    loop.run(study, Objective.of(experiment, recorded), experiment, [look])
    return dict(zip(("loop", "terminal", "MLflow"), map(median, zip(*rows[1:], strict=True)), strict=True))


def growth(sizes: list[int], n_more: int) -> list[dict[str, float]]:
    """One row a size of study."""
    recorded, rows = Recorded.read(DATA), []
    words = ["study=growth", "tracking=none", "cache=null"]
    with tempfile.TemporaryDirectory() as folder:
        experiments = {
            kind: Experiment.compose([*words, f"folder={folder}", f"search={kind}"]) for kind in ("random", "tpe")
        }
        first = experiments["random"]
        study = loop.open_study(StudyStorage.of(first.typed), first.made_of())
        waiting = trials_like(first, max(sizes))
        for size in sizes:
            study.add_trials(waiting[len(study.get_trials(deepcopy=False)) : size])
            costs = {kind: a_trial(one, study, recorded, n_more) for kind, one in experiments.items()}
            rows.append({"trials": size, **costs["random"], "TPE": costs["tpe"]["loop"] - costs["random"]["loop"]})
            print("".join(f"{value:>10.2f}" if key != "trials" else f"{value:>10}" for key, value in rows[-1].items()))
    return rows


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--trials", type=int, default=10, help="how many are run at each size")
    parser.add_argument("--out", type=Path, help="JSON")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("ms CPU a trial\n" + "".join(f"{name:>10}" for name in ("trials", "loop", "terminal", "MLflow", "TPE")))
    rows = growth(given.sizes, given.trials)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
