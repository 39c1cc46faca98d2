"""The Tab key: what bash is told may follow."""

import subprocess
import sys

import pytest

from search import commands
from search.cli import main
from search.commands.completion import candidates, replies


def test_commands_then_their_options():
    known = commands.find()
    assert candidates("autoprune st", known) == ["study "]
    assert {f"{name} " for name in known} == set(candidates("autoprune ", known))
    assert candidates("autoprune study --fr", known) == ["--fresh "]
    assert candidates("autoprune nothing x", known) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("autoprune study pol", {"policy="}),
        ("autoprune study search=ns", {"search=nsga2 ", "search=nsga3 "}),
        ("autoprune study experiment=quick space=pol", {"space=policies "}),
        ("autoprune study policy=fixed pruner.policy.l", {"pruner.policy.layer="}),
        ("autoprune study search.mo", {"search.mode="}),
        ("autoprune study nothing=", set()),
        ("autoprune study --cfg ", {"job "}),
        ("autoprune compare --split r", {"report "}),
        ("autoprune list sco", {"scorers ", "scorer "}),
        ("autoprune study policy=fixed --fresh search=gri", {"search=grid "}),  # words stand behind options, too
        ("autoprune table --methods fastv mod", {"model="}),
        # paths: the shell's own
        ("autoprune study --config-dir ru", set()),
        ("autoprune study task.path=/da", set()),
        ("autoprune compare runs/", set()),
    ],
)
def test_groups_their_files_and_fields(line, expected):
    assert set(candidates(line, commands.find())) == expected


def test_a_folder_of_ones_own_is_completed_too(tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "mine.yaml").write_text("# @package pruner.policy\n")
    assert candidates(f"autoprune study --config-dir {tmp_path} policy=mi", commands.find()) == ["policy=mine "]


def test_bash_replaces_only_what_follows_the_equals_sign():
    assert replies("autoprune study policy=fi", commands.find()) == ["fixed "]


def test_bash_completes_by_the_printed_script(capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    call = f"{sys.executable} -c 'import sys; from search.cli import main; sys.exit(main())'"
    line = "autoprune study search=gri"
    asked = f'autoprune() {{ {call} "$@"; }}\n{script}\nCOMP_LINE="{line}"; COMP_POINT={len(line)}; _autoprune\n'
    done = subprocess.run(["bash", "-c", asked + 'printf "%s|" "${COMPREPLY[@]}"'], capture_output=True, text=True)
    assert done.stdout == "grid |"


def test_bash_completes_paths_where_nothing_else_is_known(capsys):
    assert main(["completion"]) == 0
    script = capsys.readouterr().out
    assert script.splitlines()[-1] == "complete -o nospace -o default -F _autoprune autoprune"


def test_zsh_takes_the_same_by_its_emulation(capsys):
    assert main(["completion", "zsh"]) == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert ("compinit" in first, "bashcompinit" in second) == (True, True)
    assert main(["completion"]) == 0
    assert rest == capsys.readouterr().out.splitlines()
