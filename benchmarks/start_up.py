"""What a command costs before it does anything: `python -m benchmarks.start_up`.

CPU seconds, of all threads, and wall seconds from the command to a study's first trial, where it is ended; beside them
`autoprune --help` as a whole. Every run is a process and a folder of its own; arms take turns, figures are medians.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.children import seconds

ARMS = {
    "autoprune --help": ["--help"],
    "study experiment=quick": ["study", "experiment=quick"],
    "study": ["study"],
}
ENDED = """
import os, sys
import optuna
optuna.Study.optimize = lambda *args, **kwargs: os._exit(0)
from search.cli import main
sys.exit(main())
"""
"""Runs a command up to its first trial, which is the end of it."""


def spent(words: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of a command, a study's up to its first trial."""
    with tempfile.TemporaryDirectory() as folder:
        own = [f"folder={folder}", f"tracking.uri=sqlite:///{folder}/mlflow.db", "cache=null"]
        program = ["-c", ENDED, *words, *own] if words[0] == "study" else ["-m", "search.cli", *words]
        return seconds([sys.executable, *program], {"OMP_NUM_THREADS": "1"})


def main() -> None:
    """Print one line an arm, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON")
    given = parser.parse_args()
    took: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
    for _ in range(given.rounds + 1):
        for arm, words in ARMS.items():
            took[arm].append(spent(words))
    rows = []
    for arm, (_, *runs) in took.items():  # the first fills the disk's cache
        cpu, wall = (median(one) for one in zip(*runs, strict=True))
        rows.append({"command": arm, "cpu_seconds": cpu, "wall_seconds": wall})
        print(f"{arm:<26}{cpu:8.2f} CPU s{wall:8.2f} s")
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
