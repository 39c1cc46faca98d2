"""The page of every word that a configuration knows, from the comments of `conf/`."""

import re
from collections.abc import Iterator
from pathlib import Path

ABOUT = """\
# Configuration

Every key may be changed on the command line, `autoprune study budget.flops_ratio=0.4`, or in a file of `--config-dir`;
`--cfg job` prints what becomes of it. A group's option is taken by its name: `autoprune study policy=fixed task=pope`.
What a study may change: [search space](search-space.md). This page is made from the files of `conf/`.
"""
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.@]+):(?: +(?P<value>[^#]*?))? *(?:# (?P<said>.*))?$")


def page(conf: Path) -> str:
    """The page: keys of config.yaml, then every group with its options."""
    main = conf / "config.yaml"
    groups = [(name, said) for name, said in _groups(main) if (conf / name).is_dir()]
    parts = [ABOUT, "## Keys", _table(["key", "default", "what it says"], _keys(main))]
    workers = _keys(conf / "workers.yaml", "search.")
    parts += ["### Where a study is kept, and who works on it", _table(["key", "default", "what it says"], workers)]
    for name, said in groups:
        options = sorted((conf / name).glob("*.yaml"))
        rows = [[f"`{file.stem}`", summary(file)] for file in options]
        parts += [f"## {name}", f"{said[:1].upper()}{said[1:]}.", _table(["option", "what it is"], rows)]
        parts += [f'??? note "{name}={file.stem}"\n{_code(file)}' for file in options]
    return "\n\n".join(parts) + "\n"


def summary(file: Path) -> str:
    """The first sentence of the comment at a file's head; what it builds, where there is none."""
    text = file.read_text(encoding="utf-8")
    head = [
        line[1:].strip() for line in text.splitlines() if line.startswith("#") and not line.startswith("# @package")
    ]
    if head:
        return re.split(r"(?<=[.?]) (?=[A-Z])|: (?=autoprune )", " ".join(head))[0].rstrip(".")
    target = re.search(r"_target_: ([\w.]+)", text)
    return f"`{target[1]}`" if target else ""


def _groups(main: Path) -> list[tuple[str, str]]:
    """(name, what the comment says) of every group in the defaults list, in order."""
    found = re.findall(r"^  - (?:optional )?(\w+): [^#\n]*# (.+)$", main.read_text(encoding="utf-8"), re.MULTILINE)
    return [(name, said) for name, said in found]


def _keys(file: Path, prefix: str = "") -> list[list[str]]:
    """(path, default, comment) of every key below the defaults list."""
    leaves = [(path, value, re.sub(r"(\{.*?\})", r"`\1`", said)) for path, value, said in _leaves(file)]
    return [[f"`{prefix}{path}`", f"`{value}`" if value else "", said] for path, value, said in leaves]


def _leaves(file: Path) -> Iterator[tuple[str, str, str]]:
    parents: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        found = KEY.match(line)
        if found is None or found["key"] == "defaults":
            continue
        indent, key, value, said = len(found["indent"]), found["key"], found["value"] or "", found["said"] or ""
        parents = [one for one in parents if one[0] < indent]
        path = ".".join([*(name for _, name in parents), key])
        parents.append((indent, key))
        if value or said:
            yield path, value, said


def _table(headers: list[str], rows: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [headers, ["---"] * len(headers), *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _code(file: Path) -> str:
    return "\n".join(f"    {line}".rstrip() for line in ["```yaml", *file.read_text("utf-8").splitlines(), "```"])
