"""The notebook runs from top to bottom on two small studies, holds no logic and no stored output."""

import ast
from pathlib import Path

import nbformat
import pytest
from fake_bench import FakeBench, objective, settings
from nbclient import NotebookClient

from search import report, results
from search import study as studies
from search.preflight import arm

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


class ReportBench(FakeBench):
    """Its outcomes have intervals, as the records of a real model do."""

    def run(self, pruner):
        whole = FakeBench.run(self, pruner) if pruner else None
        return Interval(whole.score if whole else 1.0, whole.flops_ratio if whole else 1.0)


class Interval:
    def __init__(self, score, ratio):
        self.score, self.flops_ratio, self.mean_tokens = score, ratio, 144 * ratio

    def by_kind(self):
        return {"easy": self.score}

    def interval(self):
        return self.score - 0.1, self.score + 0.1


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for policy in ("fixed", "logistic_adaptive"):
        given = settings(folder, f"policy={policy}", f"study={policy}", "search.n_trials=8")
        study = studies.open_study(given.out, policy, studies.settings_print(given))
        studies.run(study, objective(given, FakeBench()), given)
        front = results.write(study, given)
        tuned = report.tuned_pruners(study, given, front)
        arms = {name: arm(given, name, words) for name, words in given.typed.report.arms.items()}
        report.evaluate_report(given, front, tuned, arms, ReportBench)
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_tables_and_pictures(path, runs, monkeypatch):
    monkeypatch.setenv("STUDIES", str(runs))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) == 2
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert len(tables) == 3
    assert "hypervolume" in tables[0]
    assert "logistic_adaptive" in tables[0]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_holds_no_logic_and_no_output(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    for cell in code:
        tree = ast.parse(cell.source.replace("%matplotlib inline", ""))
        logic = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Lambda)
        assert not any(isinstance(node, logic) for node in ast.walk(tree))


def test_the_report_is_read_again_only_while_nothing_changed(runs):
    given = settings(runs, "policy=fixed", "study=fixed", "search.n_trials=8")
    study = studies.existing(given.out, "fixed")
    front = results.front_of(study)

    def refuse():
        raise AssertionError("evaluated again")

    again = report.evaluate_report(given, front, {}, {}, refuse)
    assert {"unpruned", "front", "fixed", "layerwise", "random", "uniform"} == set(again["arm"])
    changed = settings(runs, "policy=fixed", "study=fixed", "search.n_trials=8", "report.points=2")
    with pytest.raises(AssertionError, match="evaluated again"):
        report.evaluate_report(changed, front, {}, {}, refuse)
