"""The arrows of the house: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("autoprune_lab", "policies", "search")
FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
SEARCH_TOOLS = {"hydra", "omegaconf", "optuna", "optunahub", "mlflow", "sqlalchemy", "psycopg", "submitit"}
NUMPY_CORE = {
    "curve",
    "policy",
    "discovery",
    "geometry",
    "flops",
    "allocation",
    "budget",
    "cuts",
    "official",
    "pareto",
    "front_plot",
    "plan",
}


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, relative ones resolved, wherever in the file they stand."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(path.parts[: -node.level]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def forbidden(path: Path) -> set[str]:
    """Top-level packages that a file must not import."""
    house = path.parts[0]
    if house == "policies":  # numpy and the contract alone; their finer list is in test_policies.py
        return {"search", "policies", "torch", "transformers"} | SEARCH_TOOLS
    if house == "search":
        return {"policies"}
    outer = {"search", "policies"} | SEARCH_TOOLS
    return outer | {"torch", "transformers"} if path.stem in NUMPY_CORE and len(path.parts) == 2 else outer


def test_there_is_something_to_check():
    assert {path.parts[0] for path in FILES} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_forbidden_arrow(path):
    arrows = {name for name in imported(path) if name.split(".")[0] in forbidden(path)}
    assert arrows == set()


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "policies"], ids=str)
def test_a_policy_knows_the_contract_and_the_shapes_only(path):
    ours = {".".join(name.split(".")[:2]) for name in imported(path) if name.startswith("autoprune_lab")}
    assert ours <= {"autoprune_lab.policy", "autoprune_lab.curve"}


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=str)
def test_packages_start_empty(path):
    assert (ROOT / path).read_text() == ""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from .. import policy", "pkg.policy"),
        ("from ..policy import Policy", "pkg.policy"),
        ("import a.b", "a.b"),
    ],
)
def test_the_check_sees_every_kind_of_import(tmp_path, monkeypatch, line, name):
    monkeypatch.setattr("test_architecture.ROOT", tmp_path)
    (tmp_path / "pkg" / "sub").mkdir(parents=True)
    (tmp_path / "pkg" / "sub" / "file.py").write_text(f"def late():\n    {line}\n")
    assert name in imported(Path("pkg/sub/file.py"))
