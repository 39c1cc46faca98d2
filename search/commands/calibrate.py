"""`autoprune calibrate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config import arguments

if TYPE_CHECKING:
    from search.config.compose import Settings
    from search.config.experiment import Experiment
    from search.study.calibration import Calibration

SUMMARY = "fit an estimator to what samples need, and write its numbers"
DESCRIPTION = f"""\
Measure what each sample of the tune split needs: answer it with all visual tokens in the first layers and none in the
others, for every depth, and with some in every layer. Then fit the estimator (complexity=needed_depth or kind_of_need)
to the figures of the probe layer's evidence, every third sample of each kind left out, and tell how well its number
says what those need, beside mutual information at the same layer. With --out the fitted estimator is kept as a
complexity of your own, for any command: complexity=NAME --config-dir DIR.

A study with such an estimator calibrates it by itself, once for each probe layer and opening that it tries.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune calibrate complexity=needed_depth pruner.probe_layer=2 --out mine/complexity/depth.yaml
  autoprune study complexity=depth --config-dir mine pruner.probe_layer=2 policy=staircase_table \\
    pruner.policy.edges=[4,8]
  autoprune calibrate complexity=kind_of_need pruner.complexity.text=32 calibration.labels=false
  autoprune calibrate --dry-run experiment=adaptivity_real"""

GROUP = "complexity"
UNUSED = {
    "report.task": "needs are those of the task itself: task.FIELD=VALUE",
    **dict.fromkeys(("report", "search", "space"), "one estimator is fitted"),
    "study": "nothing is kept but --out FILE",
    "out": "keep the fitted estimator with --out FILE",
    "tracking": "nothing is logged",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, and where the fitted estimator is kept."""
    arguments.add_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="DIR/complexity/NAME.yaml, a file of your own configs")
    parser.add_argument("--dry-run", action="store_true", help="find what is wrong, say what would run, run nothing")


def run(given: argparse.Namespace) -> int:
    """Measure, fit, print, write."""
    experiment = arguments.experiment(given, UNUSED)
    if experiment is None:
        return 0
    if given.out is not None:
        _check_out(given.out)
    pruner, settings = experiment.pruner(), experiment.settings
    _check_estimator(pruner, settings)
    from search.study import preflight
    from search.study.calibration import calibrate
    from search.study.model_evaluator import open_evaluator

    preflight.prompts(experiment.model_settings, experiment.task)
    if given.dry_run:
        print(described(experiment))
        return 0
    evaluator = open_evaluator(experiment.model, experiment.task, experiment.typed, progress=True)
    found = calibrate(evaluator, pruner, experiment.typed.calibration)
    print(calibration_table(found))
    if hasattr(found.estimator, "figures"):  # one of a user's own may go by something else
        print(f"\n{figures_table(found.estimator)}")
    if given.out is not None:
        _write(found.estimator, given.out)
        folder = given.out.resolve().parents[1]
        print(f"\nwritten  {given.out}\nuse it   {GROUP}={given.out.stem} --config-dir {folder}")
    return 0


def described(experiment: "Experiment") -> str:
    """What would run, in a line."""
    asked, task = experiment.typed.calibration.filled(), experiment.task
    curves = f"up to {asked.depths} depths and {len({*asked.fractions, 1.0})} token counts"
    return f"needs: {len(task.samples())} samples of {task.name}, along {curves}"


def calibration_table(found: "Calibration") -> str:
    """How many samples were fitted; what they need; how well it is told on those that were held out."""
    import numpy as np

    from search.results.text_table import table

    known = found.needs.part(found.needs.known)
    units = {"depth in layers": known.depth, "tokens": known.tokens}
    needs = [(f"needed {unit}", *np.quantile(values, (0.1, 0.5, 0.9)).tolist()) for unit, values in units.items()]
    rows = [("this estimator", found.quality), ("mutual information alone", found.baseline)]
    told = [(name, *vars(quality).values()) for name, quality in rows if quality is not None]
    lost = (
        f"; {found.n_lost} have no need: without a picture, or not even all of it keeps the answer"
        if found.n_lost
        else ""
    )
    return (
        f"{found.n_fit} samples fitted, {found.n_held_out} held out{lost}\n\n"
        f"{table(['', '10 %', 'median', '90 %'], needs)}\n\n"
        f"{table(['held-out samples', 'R2', 'Spearman', 'AUC of >= median', 'accuracy'], told)}"
    )


def figures_table(estimator: Any) -> str:
    """What a fit of ours goes by: each figure with its weight, or with one weight a kind, once all are standardised."""
    from autoprune_lab.evidence.figures import FIGURES
    from search.results.text_table import table

    weights = estimator.weights if isinstance(estimator.weights[0], tuple) else (estimator.weights,)
    columns = ["weight"] if len(weights) == 1 else [f"kind {i}" for i in range(len(weights))]
    named = enumerate(estimator.figures)
    rows = [(f"{name}: {FIGURES[name].meaning}", *(row[i] for row in weights)) for i, name in named]
    shown = table(["figure", *columns], rows)
    return shown + (f"\nand {estimator.text} numbers of the text" if estimator.text else "")


def _check_estimator(pruner: Any, settings: "Settings") -> None:
    """Raise ConfigError unless there is an estimator to fit, and a policy that would read it."""
    from search.config.catalogue import options_of
    from search.config.errors import ConfigError
    from search.study.calibrator import is_uncalibrated

    chosen = f"{GROUP}={settings.choices[GROUP]}"
    if not pruner.policy.adaptive:
        raise ConfigError(f"policy={settings.choices['policy']} reads no number of the sample: choose an adaptive one")
    if not is_uncalibrated(pruner):
        known = ", ".join(name for name in options_of(GROUP, settings.folders))
        raise ConfigError(f"{chosen} has nothing left to calibrate: choose one that has, of {known}")


def _check_out(file: Path) -> None:
    """Raise ConfigError unless Hydra will find a file of that name, and no shipped one before it."""
    from search.config.catalogue import conf_dir
    from search.config.early_checks import check_file
    from search.config.errors import ConfigError

    if file.suffix != ".yaml" or file.resolve().parent.name != GROUP:
        raise ConfigError(f"--out {file} must be a config of your own: DIR/{GROUP}/NAME.yaml")
    if (conf_dir() / GROUP / file.name).exists():
        raise ConfigError(f"--out {file}: {file.stem} is the name of a shipped {GROUP}: take another one")
    check_file(file, "--out")


def _write(estimator: Any, file: Path) -> None:
    """A config file that holds the estimator with its numbers."""
    import yaml

    from autoprune_lab.pruner_file import plain

    file.parent.mkdir(parents=True, exist_ok=True)
    node = yaml.safe_dump(plain(estimator), sort_keys=False, width=110, default_flow_style=None)
    file.write_text(f"# @package pruner.{GROUP}\n# written by autoprune calibrate\n{node}", encoding="utf-8")
