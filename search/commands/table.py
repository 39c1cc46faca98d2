"""`autoprune table`."""

import argparse
import sys
from pathlib import Path

from search import composed

SUMMARY = "compare published methods at equal FLOPs: one table, methods x budgets"
DESCRIPTION = f"""\
Run every method of conf/method (or those of --methods) at the same budgets on the report split, with the unpruned
model and random and evenly spread tokens among them. Prints a Markdown table: accuracy with 95 % intervals (paired
bootstrap over the samples), its share of the unpruned accuracy, FLOPs ratio in our count and in the papers', mean
tokens entering and leaving a layer, measured prefill time ratio. Writes it with a CSV file and a picture.

Budgets are given as papers do: mean tokens leaving a layer, of 576, scaled to the model's own number of visual tokens.
Running the same command again runs only what is missing.
{composed.ABOUT}"""
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
    **dict.fromkeys(("report.ratios", "report.points", "report.arms"), "the arms are those of --methods and --tokens"),
    **dict.fromkeys(("search", "space"), "a table searches nothing"),
    "out": "name the folder with --out DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, the methods, the budgets and the folder."""
    composed.add_arguments(parser)
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    parser.add_argument("--tokens", nargs="+", type=float, default=[192, 128, 64], metavar="N", help="budgets, of 576")
    parser.add_argument("--out", type=Path, default=Path("runs/table"), metavar="DIR", help="where files are written")


def run(given: argparse.Namespace) -> int:
    """Check, run, print, write."""
    settings = composed.settings(given, UNUSED)
    if settings is None:
        return 0
    from search.early import check_folder

    check_folder(given.out, "--out")
    from search import bench, methods, methods_page, methods_table, preflight
    from search.errors import ConfigError
    from search.words import changed_keys

    for count in given.tokens:
        if not 0 < count <= methods.OF:
            raise ConfigError(f"--tokens {count:g} is outside (0, {methods.OF}]: give mean tokens of {methods.OF}")
    names = methods.check_methods(given.methods, settings.folders)
    report = preflight.report_config(settings, changed_keys(settings.overrides))
    folder, geometries = preflight.prompts(settings, report)
    arms = methods.method_arms(settings, names, given.tokens, geometries)
    vlm, progress = bench.load(settings.config), sys.stderr.isatty()
    on_report = bench.open_bench(vlm, report, progress)
    on_tune = bench.open_bench(vlm, settings.config, progress)
    made_of = {"weights": bench.weights_mark(folder), "task": bench.fingerprint(on_report.prepared)}
    shelf = methods_table.Shelf(given.out / "records", made_of)
    frame = methods_table.run_arms(arms, on_report, on_tune, shelf)
    given.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(given.out / "table.csv", index=False)
    text = methods_page.markdown(frame)
    (given.out / "table.md").write_text(text + "\n", encoding="utf-8")
    title = f"{settings.typed.model['path']}, {on_report.prepared.task.name}, report split"
    methods_page.draw(frame, given.out / "table.png", title)
    print(text + f"\n\nwritten  {given.out}/table.md  {given.out}/table.csv  {given.out}/table.png")
    return 0
