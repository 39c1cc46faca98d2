"""`autoprune calibrate`: from words to a complexity of one's own that any command takes."""

import pytest
from fake_evaluator import refused

from search.cli import main
from search.config.experiment import Experiment

SHORT = ["calibration.depths=3", "calibration.fractions=[0.25]", "calibration.labels=false", "task.per_kind=3"]


@pytest.mark.parametrize(
    ("complexity", "fields"),
    [
        ("needed_depth", ["pruner.complexity.figures=[mutual_information,last_row_mass]"]),
        ("kind_of_need", ["pruner.complexity.figures=[text_rows]", "pruner.complexity.text=4", "pruner.probe_layer=-1",
                          "scorer=max_min_diversity"]),
    ],
)  # fmt: skip
def test_what_it_writes_is_used_at_once(complexity, fields, here, checkpoint, capsys):
    model = [f"model.path={checkpoint}", "model=path"]
    probe = [word for word in fields if not word.startswith("pruner.complexity.")]
    out = "mine/complexity/fitted.yaml"
    assert main(["calibrate", *model, f"complexity={complexity}", *fields, *SHORT, "--out", out]) == 0
    said = capsys.readouterr()
    assert "16 samples fitted, 8 held out" in said.out
    assert "AUC of >= median" in said.out
    assert ("mutual information alone" in said.out) == (complexity == "needed_depth")  # not before layer 0
    assert f"use it   complexity=fitted --config-dir {here / 'mine'}" in said.out
    own = ["complexity=fitted", *probe, "policy=staircase_table", "pruner.policy.edges=[2,3]"]
    assert Experiment.compose(own, [here / "mine"]).pruner().complexity.ready
    assert main(["evaluate", *model, *own, "task.per_kind=1", "--no-baseline", "--config-dir", "mine"]) == 0
    capsys.readouterr()
    other = [*own, "pruner.probe_layer=0"]
    refused(["evaluate", *model, *other, "--config-dir", "mine"], ["complexity was calibrated at layer"], capsys, here)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ["complexity=mutual_information"],
            ["complexity=mutual_information has nothing left to calibrate", "needed_depth"],
        ),
        (["complexity=needed_depth", "policy=fixed"], ["policy=fixed reads no number of the sample"]),
        (["complexity=needed_depth", "--out", "fitted.yaml"], ["--out fitted.yaml", "DIR/complexity/NAME.yaml"]),
        (["complexity=needed_depth", "--out", "complexity/constant.yaml"], ["constant is the name of a shipped"]),
        (["complexity=needed_depth", "calibration.depths=0"], ["calibration.depths=0 must be at least 1"]),
        (["complexity=needed_depth", "calibration.fractions=[0]"], ["calibration.fractions: 0.0 is outside (0, 1]"]),
        (["complexity=needed_depth", "pruner.complexity.text=-2"], ["give text a number above 0"]),
        (["complexity=needed_depth", "pruner.complexity.needs=width"], ["pruner.complexity.needs", "depth, tokens"]),
        (["complexity=needed_depth", "search.n_trials=3"], ["search.n_trials", "one estimator is fitted"]),
    ],
)
def test_mistakes_are_one_line(words, parts, here, capsys, no_model):
    refused(["calibrate", *words], parts, capsys, here)


def test_too_few_samples_are_told(here, checkpoint, capsys):
    words = [f"model.path={checkpoint}", "model=path", "complexity=needed_depth", *SHORT, "task.per_kind=1"]
    assert main(["calibrate", *words]) == 2
    assert "8 samples have a need: none is left to test a fit on; raise task.per_kind" in capsys.readouterr().err
