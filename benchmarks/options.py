"""What the speed benchmarks of `random_llava` take on the command line, and what their files say they are of."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from benchmarks.random_llava import DIMS, random_llava

RESULTS = Path(__file__).parent / "results"


def parser(doc: str | None) -> argparse.ArgumentParser:
    """`--device`, `--dims`, `--dtype`, `--threads` and `--out`; `doc` is the benchmark's docstring."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options.add_argument("--dims", choices=DIMS, default="bench")
    options.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    options.add_argument("--threads", type=int, default=1, help="torch's threads on the host")
    options.add_argument("--out", type=Path, help="JSON file to write (default: in benchmarks/results)")
    return options


def model_of(given: argparse.Namespace, tower: bool = False) -> PreTrainedModel:
    """The model that is asked for, and as many threads."""
    torch.set_num_threads(given.threads)
    return random_llava(given.dims, given.device, getattr(torch, given.dtype), tower)


def out_of(given: argparse.Namespace, benchmark: str) -> Path:
    """The file to write."""
    out: Path | None = given.out
    return out or RESULTS / f"{benchmark}-{given.device}-{given.dims}.json"


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """The command line, torch's version and the GPU's name, if there is one."""
    settings = {name: value for name, value in vars(given).items() if name != "out"} | {"torch": torch.__version__}
    return settings | ({"gpu": torch.cuda.get_device_name()} if getattr(given, "device", None) == "cuda" else {})


def write_tables(given: argparse.Namespace, benchmark: str, tables: Iterable[tuple[str, list[dict[str, Any]]]]) -> None:
    """Print titles and rows, each as soon as it is measured, and write them, with the settings, as JSON."""
    out, results = out_of(given, benchmark), dict[str, Any]()
    for title, rows in tables:
        results[title] = rows
        table = pd.DataFrame(rows).dropna(axis=1, how="all")
        print(f"\n{title}\n{table.to_string(index=False, na_rep='', float_format='{:.4g}'.format)}", flush=True)
        out.write_text(json.dumps({"settings": settings_of(given), "tables": results}, indent=1) + "\n")
