"""The notebooks run from top to bottom on the embedded model, hold no logic, and show what they showed before."""

import ast
import re
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


def kinds(notebook):
    """What each cell shows, by kind."""
    return [
        [sorted(o.get("data", [o.output_type])) for o in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def told(notebook):
    """All words and figures, without what no two runs have in common: addresses of objects, folders of a moment."""
    texts = [printed(notebook), *shown(notebook, "text/html")]
    return [re.sub(r"0x[0-9a-f]+|/tmp/\w+", "", text) for text in texts]


def test_a_policy_is_written_checked_drawn_and_evaluated_as_stored():
    path = ROOT / "notebooks" / "01_write_a_policy.ipynb"
    notebook, stored = execute(path), nbformat.read(path, as_version=4)
    assert "1 plug-in: 11 ok" in printed(notebook)
    assert "failed" not in printed(notebook)
    assert list(pictures(notebook)) == ["policy-curves"]
    assert kinds(notebook) == kinds(stored)
    assert told(notebook) == told(stored)
    assert not (ROOT / "notebooks" / "my_policies").exists()


def test_a_study_is_run_looked_at_and_its_pruner_used(monkeypatch):
    monkeypatch.setenv("STUDY", " ".join(("search.n_trials=6", *SMALL)))
    path = ROOT / "notebooks" / "02_run_a_study.ipynb"
    notebook = execute(path)
    assert kinds(notebook) == kinds(nbformat.read(path, as_version=4))
    assert list(pictures(notebook)) == ["study-front", "study-patches"]
    assert "95 % interval" in printed(notebook)
    assert "study logistic_adaptive, trial " in printed(notebook)
    study, importance, pruner = shown(notebook, "text/html")
    assert "Study(logistic_adaptive: 6 trials" in study
    assert "pruner.policy.k0" in importance
    assert "LogisticAdaptivePolicy" in pruner


@pytest.mark.usefixtures("undrawn")
def test_studies_of_several_seeds_are_compared(tmp_path, monkeypatch):
    small = ("experiment=several_seeds", "search.n_trials=4", "~report.arms.layerwise", *SMALL, f"folder={tmp_path}")
    for policy in ("fixed", "logistic_adaptive"):
        for seed in (0, 1):
            words = (f"policy={policy}", f"seed={seed}", f"study={policy}-s{seed}")
            assert autoprune(["study", *words, *small]) == 0
    monkeypatch.setenv("STUDIES", str(tmp_path))
    path = ROOT / "notebooks" / "03_compare_pareto_fronts.ipynb"
    notebook = execute(path)
    assert kinds(notebook) == kinds(nbformat.read(path, as_version=4))
    assert list(pictures(notebook)) == ["attainment"]
    first, summary = shown(notebook, "text/html")
    assert "Study(fixed-s0: 4 trials" in first
    assert "measured" in summary
    for words in ("tune split", "report split", "right_trials", "least_p", "PED-ANOVA", "pruner.budget.flops_ratio"):
        assert words in printed(notebook)
    assert shown(notebook, "text/plain")[-1] == "True"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_holds_no_logic_and_says_which_model_its_numbers_are_from(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    for cell in code:
        if cell.source.startswith(("!", "%%")):
            continue
        tree = ast.parse(cell.source)
        logic = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Lambda)
        assert not any(isinstance(node, logic) for node in ast.walk(tree))
    assert "**embedded model**" in notebook.cells[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_outputs_are_stored_small_and_end_on_a_right_answer(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # run once, in order
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert path.stat().st_size < 300_000
    answer = re.fullmatch(r".+  ->  (.+?)  \(right: (.+?)\), .+\n", code[-1].outputs[-1].get("text", ""))
    assert answer[1] == answer[2] if answer else code[-1].outputs[-1].data["text/plain"] == "True"


def test_outputs_are_kept_and_tagged_pictures_are_written(tmp_path):
    source = "from IPython.display import Image\nImage(data=b'\\x89PNG', format='png')"
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [f"{TAG}dot"]})
    path = tmp_path / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    main([str(path), "--pictures", str(tmp_path)])
    assert (tmp_path / "dot.png").read_bytes() == b"\x89PNG"
    assert nbformat.read(path, as_version=4).cells[0].outputs[0].data["image/png"]
