"""Several benchmarks as one task: kinds, ids, scores by each one's rules, official figures, mistakes."""

import dataclasses
from collections import Counter

import layouts
import pytest

from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Sample, Task, TaskError
from autoprune_lab.tasks.files import FilesTask
from autoprune_lab.tasks.gqa import GQATask
from autoprune_lab.tasks.mme import MMETask
from autoprune_lab.tasks.pope import PopeTask
from autoprune_lab.tasks.several import SeveralTask
from autoprune_lab.tasks.textvqa import TextVQATask

WRITERS = {
    "pope": (PopeTask, layouts.pope_llava),
    "gqa": (GQATask, layouts.gqa_llava),
    "textvqa": (TextVQATask, layouts.textvqa_llava),
    "mme": (MMETask, layouts.mme_llava),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Each benchmark with its usual split and number of samples."""
    place = tmp_path_factory.mktemp("several")
    return {name: make(str(write(place / name))) for name, (make, write) in WRITERS.items()}


def three(parts, **given):
    return SeveralTask({name: parts[name] for name in ("pope", "gqa", "textvqa")}, **given)


def answered(sample, prediction, score):
    return Record(sample.id, sample.kind, prediction, sample.answers, score, None, 1, 1, 1.0, 1, 1, 0, 1, 1, 1.0, (1,))


def test_each_benchmark_is_a_kind_of_equally_many_samples_and_ids_are_unique(parts):
    task = three(parts, per_kind=4)
    samples = task.samples()
    assert task.name == "pope+gqa+textvqa"
    assert Counter(sample.kind for sample in samples) == {"pope": 3, "gqa": 4, "textvqa": 4}  # 3 splits, 2 types, none
    assert Counter(sample.id.split("-")[0] for sample in samples if sample.kind == "pope") == dict.fromkeys(
        ("pope/adversarial", "pope/popular", "pope/random"), 1
    )
    assert len({sample.id for sample in samples}) == len(samples)
    every = three(parts, split="all", per_kind=None).samples()
    assert Counter(sample.kind for sample in every) == {"pope": 3 * layouts.N, "gqa": layouts.N, "textvqa": layouts.N}


def test_a_finer_benchmark_keeps_its_own_kinds(parts):
    kinds = Counter(sample.kind for sample in three(parts, per_kind=2, finer=("gqa", "textvqa")).samples())
    assert kinds == {"pope": 3, "gqa/verify": 2, "gqa/query": 2, "textvqa/textvqa": 2}


def test_halves_are_those_of_the_benchmarks(parts):
    tune, report = (
        {sample.id for sample in three(parts, split=split, per_kind=None).samples()} for split in ("tune", "report")
    )
    assert tune.isdisjoint(report)
    own = dataclasses.replace(parts["gqa"], split="report", per_kind=None).samples()
    assert {f"gqa/{sample.id}" for sample in own} == {name for name in report if name.startswith("gqa/")}


def test_every_answer_is_scored_by_the_rules_of_its_benchmark(parts):
    task = three(parts)
    first = {sample.kind: sample for sample in reversed(task.samples())}
    assert task.score("No, there is none", next(s for s in task.samples() if s.answers == ("no",))) == 1
    assert task.score("No, there is none", first["gqa"]) == 0
    assert task.score("No.", first["gqa"]) == 1
    assert task.score("stop", first["textvqa"]) == pytest.approx(0.6)  # two of ten said so: VQA accuracy


def test_the_summary_has_each_benchmark_s_own_figures(parts):
    task = SeveralTask({name: parts[name] for name in ("pope", "gqa", "mme")}, split="all", per_kind=None)
    rows = [
        answered(sample, prediction, task.score(prediction, sample))
        for sample in task.samples()
        if (prediction := {"pope": "yes", "gqa": "No", "mme": "Yes"}[sample.kind])
    ]
    own = {name: dataclasses.replace(parts[name], split="all", per_kind=None) for name in ("pope", "mme")}
    expected = {}
    for name, prediction in (("pope", "yes"), ("mme", "Yes")):
        mine = [answered(s, prediction, own[name].score(prediction, s)) for s in own[name].samples()]
        expected |= {f"{name}: {figure}": value for figure, value in own[name].summary(mine).items()}
    assert task.summary(rows) == expected | {"gqa: mean score": 1.0}
    assert expected["pope: random: accuracy"] == 0.5
    assert expected["mme: perception"] == 2 * 50  # half of either category's questions, no picture with both
    assert set(task.summary([row for row in rows if row.kind == "gqa"])) == {"gqa: mean score"}


def test_what_is_left_out_is_told_of_each(tmp_path):
    place = layouts.pope_llava(tmp_path / "pope")
    sorted((place / "val2014").iterdir())[0].unlink()
    other = GQATask(str(layouts.gqa_llava(tmp_path / "gqa")))
    task = SeveralTask({"pope": PopeTask(str(place)), "gqa": other}, split="all", per_kind=None)
    (note,) = task.notes()
    assert note.startswith("task pope, all: left out 3 with a missing picture")


class Own(Task):
    """A task without a split."""

    max_new_tokens = 16

    def samples(self):
        return (Sample("1", (), "?", ("x",), "k"),)

    def score(self, prediction, sample):
        return 0.0


@pytest.mark.parametrize(
    ("tasks", "fields", "said"),
    [
        ({}, {}, "task.tasks is empty: name benchmarks, for example task=pope,gqa,textvqa"),
        ({"own": Own()}, {}, "task.tasks.own: Own has no fields split and per_kind"),
        ({"pope": PopeTask()}, {"finer": ["mme"]}, "task.finer: 'mme' is none of pope"),
        ({"pope": PopeTask()}, {"split": "half"}, "task.split 'half' is unknown"),
        ({"pope": PopeTask()}, {"per_kind": 0}, "task.per_kind 0 must be a whole number of at least 1"),
        ({"pope": PopeTask(), "files": FilesTask("x")}, {}, "max_new_tokens: pope 16, files 32; run them apart"),
    ],
)
def test_bad_fields(tasks, fields, said):
    with pytest.raises(ValueError, match=said):
        SeveralTask(tasks, **fields)


def test_a_mistake_in_the_files_says_whose_and_which_field_mends_it(parts, tmp_path):
    broken = dataclasses.replace(parts["pope"], images=str(tmp_path / "none"))
    task = SeveralTask({"gqa": parts["gqa"], "pope": broken})
    for ask in (task.samples, task.notes):
        with pytest.raises(TaskError) as error:
            ask()
        assert str(error.value) == (
            f"pope: {tmp_path / 'none'} does not exist; say where it is with task.tasks.pope.images=PATH"
        )
