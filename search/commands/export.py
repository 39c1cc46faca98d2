"""`autoprune export`."""

import argparse
from pathlib import Path

KEYS = ("study", "pick", "at", "out")

SUMMARY = "write one trial of a study as a pruner file, ready to use"
DESCRIPTION = """\
Write the pruner of one trial as YAML, for Pruner.load(FILE) or autoprune evaluate --pruner FILE. Which trial:

  knee     the point farthest above the straight line between the front's ends, cost and score scaled to [0, 1]
  budget   the best that costs at most --at (a FLOPs ratio) on the tune split
  NUMBER   that trial, on the front or not

Everything may also be said in KEY=VALUE words: study, pick, at, out."""
EXAMPLES = """\
  autoprune export runs/logistic_adaptive --pick knee --out tuned.yaml
  autoprune export study=logistic_adaptive pick=budget at=0.35
  autoprune export runs/logistic_adaptive --pick 84"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, which trial, and the file."""
    parser.add_argument("words", nargs="*", metavar="DIR | KEY=VALUE", help="a study's folder or its name in runs/")
    parser.add_argument("--pick", default="knee", metavar="knee|budget|NUMBER", help="which trial (default: knee)")
    parser.add_argument("--at", type=float, metavar="RATIO", help="the most that pick=budget may spend")
    parser.add_argument("--out", type=Path, default=Path("tuned.yaml"), metavar="FILE", help="default: tuned.yaml")


def run(given: argparse.Namespace) -> int:
    """Write the file and say what is in it."""
    from search.config.early_checks import check_file
    from search.results.export import Pick, export, load_line
    from search.results.folder import check_finished, study_folder

    study, words, out = _understood(given)
    folder, pick = study_folder(study), Pick(*words)
    check_finished(folder)
    check_file(out, "--out")
    from search.results.study_result import StudyResult

    result = StudyResult.read(folder)
    print(f"{export(result, pick, out)}\n\nwritten  {out}\nuse it   {load_line(result, pick, out)}")
    return 0


def _understood(given: argparse.Namespace) -> tuple[str, tuple[str, float | None], Path]:
    """Study, pick and file, from words and options. ConfigError names the word."""
    from search.config.errors import ConfigError, close

    said = {"pick": given.pick, "at": given.at, "out": given.out}
    for word in given.words:
        key, equals, value = word.partition("=")
        key, value = (key, value) if equals and not Path(word).is_dir() else ("study", word)
        if key not in KEYS:
            raise ConfigError(f"unknown key '{key}'{close(key, KEYS)}; keys: {', '.join(KEYS)}")
        if key == "study" and key in said:
            raise ConfigError(f"one study at a time: {said[key]} and {value} were given")
        said[key] = value
    if "study" not in said:
        raise ConfigError("which study? Name its folder, for example autoprune export runs/logistic_adaptive")
    try:
        at = None if said["at"] is None else float(said["at"])
    except ValueError as error:
        raise ConfigError(f"at={said['at']} must be a FLOPs ratio, for example at=0.35") from error
    return str(said["study"]), (str(said["pick"]), at), Path(said["out"])
