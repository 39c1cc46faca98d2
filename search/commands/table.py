"""`autoprune table`."""

import argparse
from functools import partial
from pathlib import Path

from search.config import arguments

SUMMARY = "compare published methods at equal FLOPs: one table, methods x budgets"
DESCRIPTION = f"""\
Run every method of conf/method (or those of --methods) at the same budgets on the report split, with the unpruned
model and the baselines (random, uniform, window_uniform, pooling, downsample) among them. Prints a Markdown table:
accuracy with 95 % intervals (paired bootstrap over the samples), its share of the unpruned accuracy, FLOPs ratio in our
count and in the papers', mean tokens entering and leaving a layer, measured prefill time ratio, and the part of a
pruned prefill's time that selection takes; how many answers are the unpruned model's, the score within group A and B
(what the unpruned model answers right, and after down-sampling wrong or right), and what its confidence is worth (ECE,
Brier, AURC). An arm that no output tells from the unpruned model is marked a no-op: it did nothing, or these samples
cannot say. Writes it as Markdown, CSV and LaTeX, with a figure (PNG, PDF, SVG), a panel a family of methods, for the
width of a page and (table_column) of a column.

Budgets are given as papers do: mean tokens leaving a layer, of 576, scaled to the model's own number of visual tokens.
Running the same command again runs only what is missing.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune table
  autoprune table --methods fastv pdrop autoprune --tokens 192 64 --out runs/small_table
  autoprune table task.per_kind=20 model=path model.path=DIR"""

AS_THEY_ARE = "every method is measured as it is; one of your own is a file: conf/method/NAME.yaml below --config-dir"
UNUSED = {
    **dict.fromkeys(("policy", "scorer", "complexity", "recovery"), AS_THEY_ARE),
    **dict.fromkeys(("budget", "pruner.budget"), "the budgets are those of --tokens"),
    "method": "the methods are those of --methods",
    "task.split": "methods are measured on the report split: report.task.split=NAME takes another",
    "report.episodes": "a table is of answers; a study ends with episodes: autoprune study",
    **dict.fromkeys(("report.ratios", "report.points", "report.arms"), "the arms are those of --methods and --tokens"),
    **dict.fromkeys(("search", "space"), "a table searches nothing"),
    "out": "name the folder with --out DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, the methods, the budgets and the folder."""
    arguments.add_arguments(parser)
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    parser.add_argument("--tokens", nargs="+", type=float, default=[192, 128, 64], metavar="N", help="budgets, of 576")
    parser.add_argument("--out", type=Path, default=Path("runs/table"), metavar="DIR", help="where files are written")


def run(given: argparse.Namespace) -> int:
    """Check, run, print, write."""
    experiment = arguments.experiment(given, UNUSED)
    if experiment is None:
        return 0
    from search.config.early_checks import check_folder

    check_folder(given.out, "--out")
    from search.config.errors import ConfigError
    from search.config.overrides import changed_keys
    from search.methods import arms, downsample, figure, page, table
    from search.study import preflight
    from search.study.model_evaluator import fingerprint, open_evaluator, weights_mark

    for count in given.tokens:
        if not 0 < count <= arms.OF:
            raise ConfigError(f"--tokens {count:g} is outside (0, {arms.OF}]: give mean tokens of {arms.OF}")
    settings = experiment.settings
    names = arms.check_methods(given.methods, settings.folders)
    report_task = experiment.report_task_with(changed_keys(settings.overrides))
    checkpoint, geometries = preflight.prompts(experiment.model_settings, report_task)
    compared = arms.method_arms(settings, names, given.tokens, geometries)
    trusted = bool(experiment.model_settings.get("trust_remote_code"))
    compared += downsample.downsample_arms(checkpoint, trusted, report_task, given.tokens, geometries)
    vlm = experiment.model
    opened = partial(open_evaluator, vlm, settings=experiment.typed, progress=True)
    on_report, on_tune = opened(report_task), opened(experiment.task)
    made_of = {"weights": weights_mark(checkpoint), "task": fingerprint(on_report.prepared)}
    cache = table.AnswerCache(given.out / "records", made_of)
    frame = table.run_arms(compared, on_report, on_tune, cache, opened)
    given.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(given.out / "table.csv", index=False)
    text = page.markdown(frame)
    (given.out / "table.md").write_text(text + "\n", encoding="utf-8")
    title = f"{settings.typed.model['path']}, {on_report.prepared.task.name}, report split"
    (given.out / "table.tex").write_text(page.latex(frame) + "\n", encoding="utf-8")
    figure.draw(frame, given.out / "table.png", title)
    figure.draw(frame, given.out / "table_column.png", title, figure.COLUMN)
    print(text + f"\n\nwritten  {given.out}/table.{{md,csv,tex}}  {given.out}/table{{,_column}}.{{png,pdf,svg}}")
    return 0
