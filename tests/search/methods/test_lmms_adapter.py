"""A task of lmms-eval's own kind, run by lmms-eval, answered by a pruned model."""

import json
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.tasks.shapes import ShapesTask
from policies.logistic_adaptive import LogisticAdaptivePolicy

pytest.importorskip("lmms_eval.models", reason="lmms-eval is not installed: pip install 'autoprune-lab[lmms-eval]'")

from search.methods import lmms_adapter

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.4))
TASK = ShapesTask("tune", 1)
YAML = """\
task: drawn
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/questions.jsonl
test_split: test
output_type: generate_until
doc_to_visual: !function functions.pictures
doc_to_text: !function functions.question
doc_to_target: answer
process_results: !function functions.results
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: 0
metric_list:
  - metric: said
    aggregation: !function functions.gather
    higher_is_better: true
"""
FUNCTIONS = """\
from PIL import Image

def pictures(doc):
    return [Image.open(doc["picture"])]

def question(doc, lmms_eval_specific_kwargs=None):
    return "<image>" + doc["question"]

def results(doc, answers):
    return {"said": (doc["place"], answers[0])}

def gather(said):
    return len({place for place, _ in said}) / 100
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A task in a folder, beside a tuned pruner."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = []
    for place, sample in enumerate(TASK.samples()):
        sample.images[0].save(picture := tmp_path / f"{place}.png")
        rows.append({"place": place, "question": sample.question, "answer": "yes", "picture": str(picture)})
    (tmp_path / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = tmp_path / "task"
    task.mkdir()
    (task / "functions.py").write_text(FUNCTIONS)
    (task / "drawn.yaml").write_text(YAML.format(folder=tmp_path, tokens=TASK.max_new_tokens))
    PRUNER.save(tmp_path / "tuned.yaml")
    return tmp_path


def run(model, words: str, folder: Path):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    tasks = TaskManager(include_path=str(folder / "task"), include_defaults=False, model_name="autoprune")
    return simple_evaluate(
        model, words, tasks=["drawn"], batch_size=2, device="cpu", task_manager=tasks, log_samples=True, cli_args=None
    )


def test_lmms_eval_gets_the_answers_of_the_pruned_model(folder, checkpoint, capsys):
    found = run("autoprune", f"path={checkpoint},pruner={folder / 'tuned.yaml'}", folder)
    vlm = load_model(str(checkpoint), "auto", "cpu")
    records = evaluate(vlm, prepare(vlm, TASK, batch_size=2), PRUNER)
    said = sorted(sample["said"] for sample in found["samples"]["drawn"])
    assert [answer for _, answer in said] == [row.prediction for row in records.rows]
    assert f"FLOPs ratio {records.flops_ratio:.4f}" in capsys.readouterr().err
    assert records.flops_ratio < 0.4


def test_the_entry_point_is_declared_and_leads_to_the_model():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["autoprune"].partition(":")
    manifest = getattr(import_module(module), name)()
    assert manifest.model_id == "autoprune"
    path, _, model = manifest.simple_class_path.rpartition(".")
    assert getattr(import_module(path), model) is lmms_adapter.PrunedModel


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"temperature": 0.7}, "greedily"), ({"num_beams": 4}, "greedily"), ({"do_sample": True}, "greedily")],
)
def test_an_answer_that_is_not_greedy_is_refused(asked, words):
    with pytest.raises(ValueError, match=f"task drawn .*{words}"):
        lmms_adapter._settings(asked, "drawn")


def test_words_that_end_an_answer_are_heeded():
    assert lmms_adapter._until("yes\n\nno. maybe", ["\n\n", "."]) == "yes"
    assert lmms_adapter._until("yes", []) == "yes"


def test_the_batch_size_must_be_a_number():
    with pytest.raises(ValueError, match="batch_size auto"):
        lmms_adapter.PrunedModel("nowhere", batch_size="auto")


def test_a_hostile_file_is_refused_and_one_of_other_packages_told_how_to_name_them(tmp_path, monkeypatch):
    monkeypatch.setattr(lmms_adapter, "load_model", lambda *_: pytest.fail("a model was loaded"))
    file = tmp_path / "tuned.yaml"
    for name, said in (
        (
            "search.methods.lmms_adapter.manifest",
            r"needs code of search, .*: add packages=mine\+search to --model_args",
        ),
        ("autoprune_lab.pruner_file.write", "scorer: got autoprune_lab.pruner_file.write, expected a scorer"),
    ):
        file.write_text(yaml.safe_dump(plain(PRUNER) | {"scorer": {"_target_": name, "_partial_": True}}))
        with pytest.raises(ValueError, match=said):
            lmms_adapter.PrunedModel("embedded", str(file), "mine")
