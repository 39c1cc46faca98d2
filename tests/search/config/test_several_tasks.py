"""task=A,B: words for several benchmarks as one task."""

import layouts
import pytest
from fake_evaluator import refused

from search.cli import main
from search.config.compose import compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.trust import check_code, check_words, words_for_others


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["task=several"], ["pope", "gqa", "textvqa"]),
        (["task=gqa,pope"], ["pope", "gqa"]),
        (["task=mme,vizwiz"], ["mme", "vizwiz"]),
        (["experiment=adaptivity_real", "task=textvqa,mme"], ["textvqa", "mme"]),
        (["task=files,gqa", "task=pope,mme"], ["pope", "mme"]),  # the last choice of a group counts
        (["task.tasks.files.path=7", "task=files,vizwiz"], ["files", "vizwiz"]),
    ],
)
def test_exactly_the_named_ones_are_one_task(words, names):
    node = compose(words).config["task"]
    assert list(node["tasks"]) == names
    assert not {"split", "per_kind"} & {field for part in node["tasks"].values() for field in part}
    assert node["tasks"].get("files", {"path": "7"})["path"] == "7"  # a text, as task.path is


def test_a_later_choice_of_one_benchmark_counts():
    assert compose(["task=pope,gqa", "task=mme"]).choices["task"] == "mme"


def test_workers_of_a_study_are_told_all_of_them():
    own = Experiment.compose(["task=pope,gqa", "study=s"])
    told = words_for_others(own.settings)
    assert told == ["task=pope,gqa"]
    assert check_words(told, Experiment.compose()) == told
    check_code(own, Experiment.compose())


def test_split_and_number_are_those_of_the_task_and_of_the_report():
    experiment = Experiment.compose(["task=pope,gqa", "task.per_kind=8", "task.finer=[gqa]"])
    assert (experiment.task.split, experiment.task.per_kind, experiment.task.finer) == ("tune", 8, ["gqa"])
    assert (experiment.report_task.split, experiment.report_task.per_kind) == ("report", 100)
    assert experiment.task.max_new_tokens == 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=pope,gq"], "unknown task 'gq'; did you mean gqa?; available: chartqa, dense, "),
        (["task=pope,several"], "unknown task 'several'"),
        (["task=pope,pope"], "task=pope,pope names pope twice: name each once"),
        (
            ["task=pope,gqa", "task.tasks.pope.per_kind=3"],
            "task.tasks.pope.per_kind: benchmarks of one task share it: ",
        ),
        (
            ["task=pope,gqa", "task.tasks.textvqa.path=x"],
            "unknown field 'task.tasks.textvqa'; did you mean task.tasks.",
        ),
        (["task=pope,files"], "task.tasks.files.path has no value: add task.tasks.files.path=VALUE"),
        (["policy=fixed,layerwise"], "policy=fixed,layerwise names several values"),
    ],
)
def test_mistakes_are_one_line(words, said):
    with pytest.raises(ConfigError) as error:
        compose(words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_missing_are_named_before_a_model_is_loaded(here, checkpoint, capsys, no_model):
    words = ["task=pope,gqa,textvqa", f"model.path={checkpoint}", *layouts.several_words(here)[:2]]
    for command in ("evaluate", "study", "adaptivity", "table"):
        argv = [command, *words, "task.tasks.textvqa.path=/nowhere"]
        refused(argv, ["task.tasks.textvqa.path /nowhere does not exist"], capsys, here)
        if command != "study":
            argv = [command, *words, f"task.tasks.textvqa.path={here / 'pope'}"]
            refused(argv, ["textvqa: ", "has no data/validation-*.parquet"], capsys, here)


def test_evaluate_prints_each_benchmark_and_its_official_figures(here, tmp_path, capsys):
    from toys import save_toy

    words = ["task=pope,gqa,textvqa", "model=path", f"model.path={save_toy('llava', tmp_path / 'llava')}"]
    words += layouts.several_words(tmp_path)
    assert main(["evaluate", *words, "policy=fixed", "budget.flops_ratio=0.9", "task.per_kind=3"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split("  ")[0] for line in shown.splitlines()]
    for line in ("pope", "gqa", "textvqa", "mean of kinds", "pope+gqa+textvqa, official", "pope: mean F1",
                 "gqa: mean score", "textvqa: mean score"):  # fmt: skip
        assert line in lines
