"""The page of the public names, from the one list of them: a package's `__init__.pyi`."""

import ast
from itertools import groupby
from pathlib import Path

ABOUT = {
    "autoprune_lab": "The core: `import autoprune_lab as ap`. No Hydra, Optuna or MLflow is needed for it.",
    "search": "Studies: `import search`. Its commands are on the command line, `autoprune --help`.",
}
ROOMS = {
    "": "Pruners",
    "config": "Experiments and spaces",
    "decoder": "Attaching",
    "evaluation": "Evaluating",
    "evidence": "Evidence and complexity",
    "fronts": "Fronts",
    "models": "Models",
    "pipeline": "Running",
    "plugins": "Finding plug-ins",
    "results": "Results",
    "schedule": "Schedules, budgets, FLOPs",
    "selection": "Scorers and recoveries",
    "statistics": "Statistics",
    "study": "Studies",
    "tasks": "Tasks",
    "trace": "Traces",
    "tracking": "MLflow",
}


def page(root: Path) -> str:
    """One section a package and room, one entry a name; mkdocstrings fills them in."""
    parts = ["# Python API"]
    for package, about in ABOUT.items():
        parts += [f"## `{package}`", about]
        for room, names in groupby(sorted(public(root / package / "__init__.pyi")), key=lambda one: one[0]):
            parts += [f"### {ROOMS[room]}", *(f"::: {package}.{home}" for _, home in names)]
    return "\n\n".join(parts) + "\n"


def public(stub: Path) -> list[tuple[str, str]]:
    """(room, module and name) of every name on the list."""
    found = []
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            room = node.module.partition(".")[0] if "." in node.module or node.module == "pipeline" else ""
            found += [(room, f"{node.module}.{alias.name}") for alias in node.names]
    return found
