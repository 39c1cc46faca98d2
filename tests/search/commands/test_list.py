"""`autoprune list`: everything that may be chosen, in a sentence each, and nothing imported to say so."""

import subprocess
import sys

import pytest
from fake_evaluator import refused

from search.cli import main
from search.config.catalogue import KINDS, conf_dir, options_of, summaries


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_has_a_sentence(kind, capsys):
    group = KINDS[kind]
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"{group}={name}" for name in options_of(group)]
    for name, told in summaries(group).items():
        assert len(told) > 10, name
        assert "\n" not in told


def test_every_group_is_a_kind():
    assert {folder.name for folder in conf_dir().iterdir() if folder.is_dir()} == set(KINDS.values())


def test_sentences_come_from_the_code_or_from_the_file():
    assert summaries("policy")["layerwise"] == "A few cuts at fixed depths, the same for every sample."
    assert summaries("scorer")["random"].startswith("A pseudo-random score in [0, 1)")
    assert summaries("model")["llava_1_5_7b"] == "LLaVA-1.5, Vicuna 7B: 576 visual tokens a picture."
    assert summaries("search")["nsga2"] == "Genetic algorithm."


def test_ones_own_are_found_and_only_read(here, capsys):
    (here / "mine" / "policy").mkdir(parents=True)
    (here / "mine" / "policy" / "steep.yaml").write_text("# @package pruner.policy\n_target_: own.steep.SteepPolicy\n")
    (here / "own").mkdir()
    (here / "own" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (here / "own" / "steep.py").write_text('"""Steep. And more."""\n\nclass SteepPolicy:\n    """Its own."""\n')
    assert main(["list", "policies", "--config-dir", "mine"]) == 0
    assert any(line.split() == ["policy=steep", "Steep."] for line in capsys.readouterr().out.splitlines())
    refused(["list", "policies", "--config-dir", "nowhere"], ["nowhere", "does not exist"], capsys, here)
    refused(["list", "polices"], ["polices", "policies"], capsys, here)


def test_without_a_kind_the_kinds_are_told(capsys):
    assert main(["list"]) == 0
    assert ["estimators", str(len(options_of("complexity"))), "complexity="] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_it_is_quick():
    code = (
        "import sys; from search.cli import main; [main(['list', kind]) for kind in ('methods', 'scorers', 'tasks')];"
        "sys.exit(any(name in sys.modules for name in ('torch', 'optuna', 'mlflow', 'hydra', 'pandas', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
