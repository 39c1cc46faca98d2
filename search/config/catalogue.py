"""What may be chosen: the files of conf/ by group, and what each is in one sentence. Imports nothing of it."""

import ast
import re
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

KINDS: Mapping[str, str] = {
    "policies": "policy",
    "scorers": "scorer",
    "recoveries": "recovery",
    "estimators": "complexity",
    "budgets": "budget",
    "methods": "method",
    "tasks": "task",
    "models": "model",
    "samplers": "search",
    "spaces": "space",
    "experiments": "experiment",
    "launchers": "launcher",
    "trackers": "tracking",
}
"""What a user would ask for, and the config group that it is."""
BY_DOCSTRING = ("policy", "scorer", "recovery", "complexity")  # elsewhere several files name one target


def conf_dir() -> Path:
    """The shipped configs: inside an installed package, else beside it in the repository."""
    import autoprune_lab

    package = Path(next(iter(autoprune_lab.__path__)))
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def files_of(group: str, folders: Sequence[Path] = ()) -> dict[str, Path]:
    """The file of each option of a config group, shipped ones before those in `folders`, by rising name."""
    found = {file.stem: file for root in (*folders, conf_dir()) for file in (root / group).glob("*.yaml")}
    return dict(sorted(found.items()))


def options_of(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """The options of a config group, shipped ones and those in `folders`, in alphabetical order."""
    return list(files_of(group, folders))


def summaries(group: str, folders: Sequence[Path] = ()) -> dict[str, str]:
    """One sentence for each option: from its code's docstring, or the comment at the file's head; empty without."""
    found = {}
    for name, file in files_of(group, folders).items():
        text = file.read_text(encoding="utf-8")
        told = [_comment(text), _docstring(text, name)]
        first, second = reversed(told) if group in BY_DOCSTRING else told
        found[name] = _sentence(first or second)
    return found


def _comment(text: str) -> str:
    """The comment that a file begins with, but for where Hydra puts it."""
    head = re.match(r"(?:#.*\n)*", text)
    assert head is not None
    lines = [line.lstrip("# ") for line in head[0].splitlines()]
    return " ".join(line for line in lines if not line.startswith("@package"))


def _docstring(text: str, option: str) -> str:
    """That of the class or function that a file names, or of the module, where that is the option's own.

    The code is only read; empty where it is not found as source.
    """
    target = re.search(r"^_target_: *([\w.]+)", text, re.MULTILINE)
    *module, name = target[1].split(".") if target else [""]
    if not module or (file := _source(module)) is None:
        return ""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name]
    found = [tree, *named] if file.stem == option else [*named, tree]
    return next(filter(None, map(ast.get_docstring, found)), "")


def _source(module: Sequence[str]) -> Path | None:
    """The file of a module, found without importing anything."""
    top, *below = module
    spec = PathFinder.find_spec(top)
    if spec is None:
        return None
    homes = [Path(place) for place in spec.submodule_search_locations or ()] or [Path(str(spec.origin)).with_suffix("")]
    files = [home.joinpath(*below).with_suffix(".py") for home in homes]
    return next((file for file in files if file.is_file()), None)


def _sentence(text: str) -> str:
    """The first one, on one line."""
    one = re.match(r".*?[.?!](?=\s+[^a-z\s]|$)", " ".join(text.partition("\n\n")[0].split()))
    return one[0] if one else " ".join(text.split())
