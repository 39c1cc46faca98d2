"""Workers of one thread each, or one with all threads? `python -m benchmarks.workers`, on a machine that is else idle.

The same study, by the command line, with random settings, without tracking and without a cache; arms take turns. Wall
seconds count, start-up included; CPU seconds say how busy the machine was. The load before each run is printed too: at
more than a few tenths the wall seconds mean nothing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def one_run(n_workers: int, threads: int, words: list[str]) -> dict[str, Any]:
    """Seconds of a whole study."""
    load, before, start = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "search.cli", "study", f"folder={folder}", "tracking=none", "cache=null"),
            *("search=random", f"search.workers={n_workers}", f"threads={n_workers * threads}", *words),
        ]
        subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"workers": n_workers, "threads each": threads, "load before": load, "wall": wall, "cpu": cpu}


def main() -> None:
    """Print one line a run, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=["experiment=quick", "search.n_trials=40"], metavar="KEY=VALUE")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON")
    given = parser.parse_args()
    arms = [(1, given.cores), (given.cores, 1)]
    rows = []
    for i in range(given.rounds):
        for n_workers, threads in arms if i % 2 == 0 else arms[::-1]:
            rows.append(one_run(n_workers, threads, given.words))
            print("  ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()), flush=True)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
