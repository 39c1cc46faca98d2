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

With --all every trial of the front is written, as trial-NUMBER.yaml in the folder --out (default: NAME-pruners).
Everything may also be said in KEY=VALUE words: study, pick, at, out."""
EXAMPLES = """\
  autoprune export runs/logistic_adaptive --pick knee --out tuned.yaml
  autoprune export study=logistic_adaptive pick=budget at=0.35
  autoprune export runs/logistic_adaptive --pick 84
  autoprune export runs/logistic_adaptive --all --out tuned"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, which trial, and the file."""
    parser.add_argument("words", nargs="*", metavar="DIR | KEY=VALUE", help="a study's folder or its name in runs/")
    parser.add_argument("--pick", default="knee", metavar="knee|budget|NUMBER", help="which trial (default: knee)")
    parser.add_argument("--at", type=float, metavar="RATIO", help="the most that pick=budget may spend")
    parser.add_argument("--all", action="store_true", help="every trial of the front, into a folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: tuned.yaml")


def run(given: argparse.Namespace) -> int:
    """Write the file and say what is in it."""
    from search.config.early_checks import check_file
    from search.results.export import Pick, export, load_line
    from search.results.folder import check_finished, study_folder

    study, words, said = _understood(given)
    folder, pick = study_folder(study), Pick(*words)
    check_finished(folder)
    if given.all:
        return _export_all(folder, words, said)
    out = said or Path("tuned.yaml")
    check_file(out, "--out")
    from search.results.study_result import StudyResult

    result = StudyResult.read(folder)
    print(f"{export(result, pick, out)}\n\nwritten  {out}\nuse it   {load_line(result, pick, out)}")
    return 0


def _export_all(folder: Path, words: tuple[str, float | None], said: Path | None) -> int:
    """Every trial of the front; nothing is written where one of them cannot be."""
    from search.config.early_checks import check_folder
    from search.config.errors import ConfigError
    from search.results.export import KNEE, export_all
    from search.results.study_result import StudyResult

    if words != (KNEE, None):
        raise ConfigError("--all writes every trial of the front: leave out pick and at, or --all")
    out = said or Path(f"{folder.resolve().name}-pruners")
    check_folder(out, "--out")
    for line in export_all(StudyResult.read(folder), out):
        print(line)
    return 0


def _understood(given: argparse.Namespace) -> tuple[str, tuple[str, float | None], Path | None]:
    """Study, pick and file if one was named, from words and options. ConfigError names the word."""
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
    return str(said["study"]), (str(said["pick"]), at), None if said["out"] is None else Path(said["out"])
