"""Which vision-language models of transformers are pruned exactly, and what is with the others.

    python -m benchmarks.families              # all: a minute of one CPU core; writes docs/models.md and the results
    python -m benchmarks.families llava gemma3 # these, only printed

A tiny random model of every type in transformers' image-text-to-text mapping is run: keeping every token against the
unpruned model, three pruners and a few decoded tokens against an independent masked reference, FLOPs against torch's
counter. See `tests/support/sorting.py`.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers

from search.results.text_table import markdown_table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))  # the models and their reference are the tests'
from mapping import TYPES, VARIANTS  # noqa: E402
from sorting import CELLS, FINE, sort  # noqa: E402

if TYPE_CHECKING:
    from sorting import Finding

PAGE, RESULTS = ROOT / "docs" / "models.md", ROOT / "benchmarks" / "results" / "families.json"
KINDS: dict[str, Collection[str]] = {"model types": TYPES, "variants": VARIANTS}
BEGIN, END = "<!-- python -m benchmarks.families -->\n", "<!-- end -->\n"


def table(findings: "list[Finding]") -> str:
    """Markdown: how many types of each sorting, then a row a type and a row a variant."""
    told = [_counts(what, [f for f in findings if f.model_type in of]) for what, of in KINDS.items()]
    head = f"transformers {transformers.__version__}, {'; '.join(filter(None, told))}.\n\n"
    rows = [(f.model_type, f.sorting, *(_cell(getattr(f, name)) for name in CELLS), _why(f)) for f in findings]
    return head + markdown_table(["family", "sorted", *CELLS, "why"], rows) + "\n"


def _counts(what: str, findings: "list[Finding]") -> str:
    told = Counter(finding.sorting for finding in findings)
    first = [sorting for sorting in ("exact", "refused", "not applicable") if sorting in told]
    order = [*first, *(sorting for sorting in told if sorting not in first)]
    return f"{len(findings)} {what}: {', '.join(f'{told[one]} {one}' for one in order)}" if told else ""


def _cell(text: str) -> str:
    """A cell says that something is wrong; what, says the last column."""
    return text if text in FINE else "no"


def _why(finding: "Finding") -> str:
    text = finding.why.replace("|", "/")
    return text if len(text) < 240 else f"{text[:240]} ..."


def write(text: str) -> None:
    """Put the table between the page's markers."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2])


def main() -> None:
    """Print the table; of all types, write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="model types and variants (default: all)")
    types = parser.parse_args().types
    if unknown := sorted(set(types) - {*TYPES, *VARIANTS}):
        parser.error(f"not in transformers' image-text-to-text mapping, and no variant: {', '.join(unknown)}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    findings = [sort(model_type) for model_type in types or (*TYPES, *VARIANTS)]
    text = table(findings)
    print(text, end="")
    if not types:
        write(text)
        settings = {"torch": torch.__version__, "transformers": transformers.__version__}
        RESULTS.write_text(json.dumps({"settings": settings, "families": list(map(asdict, findings))}, indent=1) + "\n")


if __name__ == "__main__":
    main()
