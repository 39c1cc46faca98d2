"""The public door: `import autoprune_lab as ap` loads nothing heavy, and each of its names is there and explained."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from fake_evaluator import finished

import autoprune_lab as ap
from policies.fixed import FixedPolicy

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
]
SHELF = [*sorted((ROOT / "policies").glob("*.py")), ROOT / "search" / "commands" / "policy_template.txt"]
SHOWN = [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb")), *SHELF]


STUB = ast.parse((ROOT / "autoprune_lab" / "__init__.pyi").read_text(encoding="utf-8")).body[1:]
HOMES = {alias.name: f"autoprune_lab.{node.module}" for node in STUB for alias in node.names}


def explained(name: str) -> bool:
    """Has a class or function a docstring of its own, or the text below it where it is an alias or a number?"""
    value, home = getattr(ap, name), importlib.import_module(HOMES[name])
    if value.__class__ is type and "__dataclass_fields__" in vars(value):
        return not value.__doc__.startswith(f"{name}(")  # the one that dataclasses make up
    if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == home.__name__:
        return bool(value.__doc__)
    body = ast.parse(inspect.getsource(home)).body
    below = [after for node, after in pairwise(body) if name in map(ast.unparse, targets(node))]
    return [type(node) for node in below] == [ast.Expr] and isinstance(below[0].value.value, str)


def targets(node: ast.stmt) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else []


def test_the_door_and_a_policy_load_neither_torch_nor_transformers():
    code = "import sys, autoprune_lab as ap; dir(ap), ap.FULL, ap.Geometry, ap.Budget; import policies.fixed"
    heavy = "sys.exit(', '.join({'torch', 'transformers', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_door_alone_loads_no_module_of_ours():
    code = (
        "import sys, autoprune_lab; sys.exit(', '.join(m for m in sys.modules if m.startswith('autoprune_lab.')) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_is_found_and_explained():
    assert [name for name in ap.__all__ if not explained(name)] == []
    assert set(ap.__all__) <= set(dir(ap))


def test_no_public_name_is_a_module_below_which_importing_would_put_in_its_place():
    assert {module.name for module in pkgutil.iter_modules(ap.__path__)} & set(ap.__all__) == set()


def test_no_name_stands_twice_on_the_list():
    names = [(alias.name, alias.asname) for node in STUB for alias in node.names]
    assert sorted(name for name, _ in names) == ap.__all__
    assert all(name == again for name, again in names)  # only these does a type checker take for public


def test_every_part_that_comes_with_the_project_is_public():
    parts = [*ap.find_scorers("autoprune_lab"), *ap.find_estimators("autoprune_lab")]
    parts += ap.find_recoveries("autoprune_lab")
    assert [part.__name__ for part in parts if getattr(ap, part.__name__, None) is not part] == []


@pytest.mark.parametrize("file", SHOWN, ids=lambda file: file.name)
def test_what_users_read_goes_through_the_door(file):
    assert not re.findall(r'(?:^|")\s*(?:from|import) autoprune_lab\..*', file.read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("code", BLOCKS)
def test_a_block_of_python_in_the_docs_runs_as_it_stands(code, here, vlm, question):
    """`model`, `inputs` and `image` are the reader's own; so are studies, and the pruner file of one."""
    for place in map(Path, re.findall(r'(?:load_study|compare)\("(.*?)"\)', code)):
        finished(place.parent, place.name, "policy=fixed", "report.ratios=[0.5]")
    for file in map(Path, re.findall(r'load\("(.*?\.yaml)"\)', code)):
        file.parent.mkdir(parents=True, exist_ok=True)
        ap.Pruner(FixedPolicy(), ap.Budget(flops_ratio=0.35)).save(file)
    exec(code, {"model": vlm.model, "inputs": question[0], "image": question[1]})


@pytest.fixture(scope="module")
def vlm():
    return ap.load_model("embedded:shapes-s0")


@pytest.fixture(scope="module")
def question(vlm):
    """The tensors of one question, and its picture."""
    sample = ap.ShapesTask("report", per_kind=1).samples()[0]
    text = ap.prompt_text(vlm.processor, sample)
    return vlm.processor(text=[text], images=list(sample.images), return_tensors="pt"), sample.images[0]
