"""The notebooks run from top to bottom on the embedded model, hold no logic and no stored output."""

import ast
from pathlib import Path

import nbformat
import pytest

from benchmarks.notebooks import TAG, execute, main, pictures
from search.cli import main as autoprune

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = (
    "task.per_kind=1",
    "report.task.per_kind=1",
    "report.points=2",
    "report.ratios=[0.5]",
    "~report.arms.random",
    "~report.arms.uniform",
)


def shown(notebook, mime):
    return [
        data[mime] for cell in notebook.cells for o in cell.get("outputs", []) if mime in (data := o.get("data", {}))
    ]


def printed(notebook):
    return "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))


def test_a_policy_is_written_checked_drawn_and_evaluated():
    notebook = execute(ROOT / "notebooks" / "01_write_a_policy.ipynb")
    assert "1 plug-in: 11 ok" in printed(notebook)
    assert "failed" not in printed(notebook)
    assert list(pictures(notebook)) == ["policy-curves"]
    scores, intervals = shown(notebook, "text/html")
    assert "mean of kinds" in scores
    assert "high" in intervals
    assert not (ROOT / "notebooks" / "my_policies").exists()


def test_a_study_is_run_looked_at_and_its_pruner_used(monkeypatch):
    monkeypatch.setenv("STUDY", " ".join(("search.n_trials=6", *SMALL)))
    notebook = execute(ROOT / "notebooks" / "02_run_a_study.ipynb")
    assert list(pictures(notebook)) == ["study-front", "study-patches"]
    assert "_target_: autoprune_lab.pruner.Pruner" in printed(notebook)
    assert "95 % interval" in printed(notebook)
    trials, importance, report = shown(notebook, "text/html")
    assert "pruner.policy.k0" in trials
    assert "pruner.policy.k0" in importance
    assert "unpruned" in report


def test_studies_of_several_seeds_are_compared(tmp_path, monkeypatch):
    small = ("experiment=several_seeds", "search.n_trials=4", "~report.arms.layerwise", *SMALL, f"folder={tmp_path}")
    for policy in ("fixed", "logistic_adaptive"):
        for seed in (0, 1):
            words = (f"policy={policy}", f"seed={seed}", f"study={policy}-s{seed}")
            assert autoprune(["study", *words, *small]) == 0
    monkeypatch.setenv("STUDIES", str(tmp_path))
    notebook = execute(ROOT / "notebooks" / "03_compare_pareto_fronts.ipynb")
    assert len(shown(notebook, "image/png")) == 2
    assert list(pictures(notebook)) == ["attainment"]
    left, tune, report, shares, differences, seeds, importances = shown(notebook, "text/html")
    assert "over a bound" in left
    assert "hypervolume" in tune
    assert "measured" in report
    assert "logistic_adaptive" in shares
    assert "right_trials" in differences
    assert "least_p" in seeds
    assert "pruner.budget.flops_ratio" in importances
    assert "True" in shown(notebook, "text/plain")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_holds_no_logic_and_no_output_and_says_which_model_its_numbers_are_from(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    for cell in code:
        if cell.source.startswith(("!", "%%")):
            continue
        tree = ast.parse(cell.source.replace("%matplotlib inline", ""))
        logic = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Lambda)
        assert not any(isinstance(node, logic) for node in ast.walk(tree))
    assert "**embedded model**" in notebook.cells[0].source


def test_tagged_pictures_are_written(tmp_path):
    source = "from IPython.display import Image\nImage(data=b'\\x89PNG', format='png')"
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [f"{TAG}dot"]})
    path = tmp_path / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    main([str(path), "--pictures", str(tmp_path)])
    assert (tmp_path / "dot.png").read_bytes() == b"\x89PNG"
    assert nbformat.read(path, as_version=4).cells[0].outputs == []
