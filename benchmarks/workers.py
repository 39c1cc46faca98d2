"""Workers of one thread each, or one with all threads? `python -m benchmarks.workers`, on a machine that is else idle.

The same study, by the command line, with random settings, without tracking and without a cache; arms take turns. Wall
seconds count, start-up included; CPU seconds say how busy the machine was. The load before each run is printed too: at
more than a few tenths the wall seconds mean nothing.

`--busy 2` runs every arm beside two endless loops as well, and prints how many times its idle CPU seconds that takes:
threads that spin while they wait pay for waiting.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.children import seconds


@contextmanager
def busy(n_loops: int) -> Iterator[None]:
    """So many processes that count for ever."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_loops)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def one_run(n_workers: int, threads: int, words: list[str], loops: int = 0) -> dict[str, Any]:
    """Seconds of a whole study, beside so many loops, whose own are not counted."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "search.cli", "study", f"folder={folder}", "tracking=none", "cache=null"),
            *("search=random", f"search.workers={n_workers}", f"threads={n_workers * threads}", *words),
        ]
        with busy(loops):
            cpu, wall = seconds(command)
    arm = {"workers": n_workers, "threads each": threads, "loops": loops}
    return arm | {"load before": load, "wall": wall, "cpu": cpu}


def main() -> None:
    """Print one line a run, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=["experiment=quick", "search.n_trials=40"], metavar="KEY=VALUE")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, metavar="LOOPS", help="run each arm beside so many loops, too")
    parser.add_argument("--out", type=Path, help="JSON")
    given = parser.parse_args()
    arms = [(1, given.cores), (given.cores, 1)]
    rows = []
    besides = sorted({0, given.busy})
    for i in range(given.rounds):
        for (n_workers, threads), loops in list(itertools.product(arms, besides))[:: 1 if i % 2 == 0 else -1]:
            rows.append(one_run(n_workers, threads, given.words, loops))
            print("  ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()), flush=True)
    for n_workers, threads in arms if given.busy else ():
        cpu = {n: median(r["cpu"] for r in rows if (r["workers"], r["loops"]) == (n_workers, n)) for n in besides}
        print(f"workers {n_workers}  threads each {threads}  CPU busy / idle {cpu[given.busy] / cpu[0]:.2f}")
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
