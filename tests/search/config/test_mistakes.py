"""Every mistake on the command line is one line, exit code 2, nothing written, before a model is loaded."""

import json
import shutil
import subprocess
import sys

import pytest
from fake_evaluator import refused

MISTAKES = {
    "verb": (["stdy"], ["unknown command 'stdy'", "did you mean study"]),
    "option": (["study", "--freesh"], ["--freesh", "autoprune study --help"]),
    "no equals sign": (["study", "fixed"], ["'fixed'", "KEY=VALUE"]),
    "policy": (["study", "policy=fixd"], ["unknown policy 'fixd'", "fixed, layerwise, logistic_adaptive"]),
    "task": (["evaluate", "task=shape"], ["unknown task 'shape'", "shapes"]),
    "field": (["evaluate", "pruner.policy.gama=1"], ["'pruner.policy.gama'", "pruner.policy.gamma"]),
    "added field": (["evaluate", "+pruner.policy.gama=1"], ["'pruner.policy.gama'", "did you mean gamma"]),
    "task field": (["evaluate", "+task.kinds=1"], ["'task.kinds'", "per_kind"]),
    "task value": (["evaluate", "task.split=train"], ["train", "tune, report"]),
    "model field": (["evaluate", "+model.pth=1"], ["'model.pth'", "path"]),
    "sampler field": (["study", "+search.sampler.sed=1"], ["'search.sampler.sed'", "seed"]),
    "group": (["study", "polcy=fixed"], ["'polcy'", "did you mean policy"]),
    "space": (["study", "space=fixd"], ["unknown space 'fixd'", "fixed"]),
    "field of a group": (
        ["study", "policy=fixed", "policy.layer=2"],
        ["unknown field 'policy.layer'", "did you mean pruner.policy.layer?", "keep, layer"],
    ),
    "new field": (["study", "+serch=1"], ["unknown field 'serch'", "did you mean search"]),
    "plus": (["study", "+policy=fixed"], ["policy=NAME", "without a plus"]),
    "plus on a field": (["study", "+pruner.policy.x0=1"], ["pruner.policy.x0=VALUE", "without a plus"]),
    "hydra": (["study", "hydra.run.dir=x"], ["hydra.run.dir=x", "--config-dir DIR"]),
    "several": (["study", "policy=fixed,layerwise"], ["once for each", "autoprune sweep", "space=policies"]),
    "several in brackets": (["study", "policy=[fixed,layerwise]"], ["once for each", "space=policies"]),
    "several numbers": (["study", "budget.flops_ratio=0.3,0.5"], ["budget.flops_ratio=0.3,0.5", "once for each"]),
    "multirun": (["study", "-m", "seed=1"], ["--multirun", "once for each value", "autoprune sweep", "space=policies"]),
    "half a list": (["study", "report.ratios=[0.5"], ["cannot read 'report.ratios=[0.5'", "quoted"]),
    "study above": (["study", "study=../x"], ["study='../x'", "folder=DIR"]),
    "study elsewhere": (["study", "study=/x"], ["study='/x'", "folder=DIR"]),
    "study around": (["worker", "study=a/../../b"], ["study='a/../../b'", "folder=DIR"]),
    "study without a name": (["adaptivity", "study="], ["study=''", "study=mine"]),
    "study here": (["study", "study=."], ["study='.'", "study=mine"]),
    "pinned type": (["study", "policy=fixed", "pruner.policy.layer=2.5"], ["pruner.policy.layer=2.5", "whole number"]),
    "pinned and searched": (
        ["study", "pruner.policy.x0=9", "space.pruner.policy.x0.low=3"],
        ["pruner.policy.x0", "space.pruner.policy.x0", "leave one of the two out"],
    ),
    "pinned out of reach": (
        ["study", "policy=fixed", "pruner.policy.layer=99"],
        ["pruner.policy.layer=99", "every trial would be refused", "flops_ratio=0.5 is unreachable"],
    ),
    "pinned over the bound": (
        ["study", "pruner.budget.flops_ratio=0.7"],
        ["pruner.budget.flops_ratio=0.7", "every trial would be refused", "over the bound"],
    ),
    "all pinned": (
        ["study", "policy=fixed", "scorer=random", "pruner.policy.layer=3", "pruner.budget.flops_ratio=0.4"],
        ["nothing is left to search", "pruner.policy.layer=3", "pruner.budget.flops_ratio=0.4", "evaluate"],
    ),
    "report of an evaluation": (["evaluate", "report.task.per_kind=3"], ["report.task.per_kind=3", "task.FIELD=VALUE"]),
    "film nowhere": (["evaluate", "task=driving_closed_loop", "--film", "tune-turn-0"], ["--film", "--out DIR"]),
    "film of what is none": (
        ["evaluate", "--out", "e", "task=driving", "--film", "tune-turn-0"],
        ["--film tune-turn-0", "films are of episodes"],
    ),
    "film of nothing": (
        ["evaluate", "--out", "e", "task=driving_closed_loop", "--film", "tune-tun-0"],
        ["--film tune-tun-0", "did you mean tune-turn-0"],
    ),
    "episodes of an evaluation": (
        ["evaluate", "report.episodes=null"],
        ["report.episodes=null", "one pruner is measured"],
    ),
    "episodes of a table": (["table", "report.episodes=null"], ["report.episodes=null", "autoprune study"]),
    "search of an evaluation": (["evaluate", "search=gp"], ["search=gp", "has no place"]),
    "folder of an evaluation": (["evaluate", "out=x"], ["out=x", "--out DIR"]),
    "bound without a budget": (
        ["evaluate", "budget=none", "budget.flops_ratio=0.3"],
        ["budget.flops_ratio=0.3", "no effect", "budget=none"],
    ),
    "package without a file": (["evaluate", "--package", "mine"], ["--package mine", "--pruner FILE"]),
    "early stopping of a front": (["study", "search.blocks=4"], ["search.blocks=4", "search.mode=best"]),
    "stopper of a front": (["study", "search.pruner=null"], ["search.pruner=null", "search.least_gain="]),
    "heartbeat of a journal": (["study", "search.heartbeat=9"], ["search.heartbeat=9", "search.storage="]),
    "workers of twins": (["adaptivity", "search.workers=2"], ["search.workers=2", "this process"]),
    "policy of a table": (["table", "policy=fixed"], ["policy=fixed", "conf/method/NAME.yaml"]),
    "budget of a table": (["table", "budget.flops_ratio=0.3"], ["budget.flops_ratio=0.3", "--tokens"]),
    "split of a table": (["table", "task.split=tune"], ["task.split=tune", "report.task.split"]),
    "no command": (["policy=fixed"], ["which command", "autoprune study policy=fixed"]),
    "config folder": (["study", "--config-dir", "nowhere"], ["nowhere", "does not exist"]),
    "zero": (["evaluate", "budget.flops_ratio=0"], ["budget.flops_ratio=0", "(0, 1]"]),
    "negative": (["study", "budget.flops_ratio=-0.5"], ["budget.flops_ratio=-0.5", "(0, 1]"]),
    "above one": (["evaluate", "budget.flops_ratio=1.01"], ["budget.flops_ratio=1.01", "(0, 1]"]),
    "nan": (["study", "budget.flops_ratio=nan"], ["budget.flops_ratio=nan"]),
    "no number": (["evaluate", "budget.flops_ratio=half"], ["budget.flops_ratio", "half"]),
    "tokens": (["evaluate", "budget=tokens", "budget.mean_tokens=0"], ["budget.mean_tokens=0"]),
    "trials": (["study", "search.n_trials=0"], ["search.n_trials=0", "at least 1"]),
    "workers": (["study", "search.workers=0"], ["search.workers=0", "at least 1"]),
    "launcher": (["study", "launcher=slurm"], ["unknown launcher 'slurm'", "submitit_slurm"]),
    "launcher field": (["study", "+launcher.parameter=1"], ["'launcher.parameter'"]),
    "slurm without a server": (["study", "launcher=submitit_slurm"], ["search.storage=null", "postgresql://"]),
    "storage": (["study", "search.storage=mysql://a/b"], ["search.storage=mysql://a/b", "sqlite:///FILE"]),
    "low above high": (["study", "space.pruner.policy.x0.low=30"], ["space.pruner.policy.x0", "low=30", "high=28"]),
    "unknown path": (
        ["study", "+space.pruner.policy.x1={type: float, low: 0, high: 1}"],
        ["pruner.policy.x1", "did you mean pruner.policy.x0"],
    ),
    "space against policy": (["study", "space.pruner.policy.floor.high=2"], ["every dimension at its high", "floor=2"]),
    "baseline": (
        ["study", "search.baselines=[{pruner.policy.x0: 99}]"],
        ["search.baselines[0]", "pruner.policy.x0=99", "[2", "28"],
    ),
    "baseline key": (["study", "search.baselines=[{pruner.policy.x9: 1}]"], ["pruner.policy.x9", "pruner.policy.x0"]),
    "choice": (["study", "space=policies", "space.policy.choices=[fixd]"], ["space.policy.choices", "'fixd'", "fixed"]),
    "choice's baseline": (
        ["study", "space=policies", "search.baselines=[{policy: fixed, pruner.policy.k0: 1}]"],
        ["search.baselines[0]", "pruner.policy.k0", "belongs to policy=", "logistic_adaptive"],
    ),
    "another group": (
        ["study", "+space.task={type: group, choices: [shapes, pope]}"],
        ["space.task", "'pope'", "task"],
    ),
    "mode": (["study", "search.mode=bset"], ["search.mode=bset", "did you mean best", "front, best"]),
    "cost": (["study", "search.cost=flops"], ["search.cost=flops", "flops_ratio", "latency"]),
    "limit": (["study", "search.limits={collisions: 0.05}"], ["search.limits.collisions", "no such figure"]),
    "limit's value": (["study", "search.limits={collisions: nan}"], ["search.limits.collisions=nan", "number"]),
    "blocks": (["study", "search.mode=best", "search.blocks=0"], ["search.blocks=0", "at least 1"]),
    "least gain": (["study", "search.least_gain=1"], ["search.least_gain=1", "outside [0, 1)", "0.001"]),
    "least gain of the best": (
        ["study", "search.mode=best", "search.least_gain=0"],
        ["search.least_gain=0", "search.mode=front", "search.pruner"],
    ),
    "least gain in seconds": (
        ["study", "search.cost=latency", "search.least_gain=0"],
        ["search.least_gain=0", "latency", "known before"],
    ),
    "least gain in nats": (["study", "search.score=kl", "search.least_gain=0"], ["search.least_gain=0", "agreement"]),
    "least gain of a closed loop": (
        ["study", "task=driving_closed_loop", "search.least_gain=0"],
        ["search.least_gain=0", "closed loop"],
    ),
    "stopper": (["study", "search.mode=best", "search.pruner.p_threshold=2"], ["search.pruner", "p_threshold"]),
    "sampler's goal": (
        ["study", "~search.sampler", "+search.sampler={_target_: optuna.samplers.CmaEsSampler}"],
        ["search.sampler", "multi-objective"],
    ),
    "grid": (["study", "policy=fixed", "search=grid", "search.n_trials=900"], ["search.n_trials=900", "at most"]),
    "memory": (["study", "prefix_gib=-1"], ["prefix_gib=-1", "at least 0"]),
    "step": (
        ["study", "policy=fixed", "+space.pruner.policy.layer.step=4"],
        ["space.pruner.policy.layer", "step=4", "low=2", "high=8"],
    ),
    "arm": (["study", "report.arms.fixed=['policy=fixd']"], ["report.arms.fixed", "unknown policy 'fixd'"]),
    "report ratio": (["study", "report.ratios=[2]"], ["report.ratios: 2"]),
    "report on tuned samples": (["study", "report.task.split=tune"], ["report.task gives samples that trials see"]),
    "pruner file": (["evaluate", "--pruner", "none.yaml"], ["none.yaml"]),
    "no study": (["compare", "nothing"], ["nothing", "trials.csv"]),
    "policy name": (["new-policy", "My-Policy"], ["'My-Policy'", "lower-case"]),
    "package": (["new-policy", "mine", "--package", "a/b"], ["a/b", "package in the current folder"]),
    "shipped policy": (["new-policy", "fixed"], ["policy=fixed", "another name"]),
    "keyword": (["new-policy", "class"], ["'class'"]),
    "our package": (["new-policy", "mine", "--package", "policies"], ["--package policies", "another one"]),
    "a module's package": (["new-policy", "mine", "--package", "json"], ["--package json", "another one"]),
    "an installed package": (["new-policy", "mine", "--package", "optuna"], ["--package optuna", "another one"]),
    "train": (["train"], ["--out"]),
    "steps": (["train", "--out", "x", "--steps", "0"], ["--steps 0"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, here, capsys, no_model, checkpoint):
    argv, words = MISTAKES[name]
    model = [f"model.path={checkpoint}"] if argv[0] in ("study", "evaluate") else []
    refused([*argv, *model], words, capsys, here)


def test_a_pruner_s_file_leaves_no_room_for_words_about_the_pruner(here, capsys, no_model):
    (here / "p.yaml").touch()
    for word in ("policy=fixed", "budget.flops_ratio=0.3", "pruner.probe_layer=2"):
        refused(["evaluate", "--pruner", "p.yaml", word], [word, "--pruner p.yaml says it"], capsys, here)


@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "--out", "file"],
        ["evaluate", "--out", "file/e"],
        ["table", "--out", "file"],
        ["train", "--out", "file"],
        ["study", "folder=file"],
        ["adaptivity", "folder=file"],
    ],
)
def test_an_output_on_a_file_is_told_at_once(argv, here, capsys, no_model):
    (here / "file").touch()
    refused(argv, ["file", "is a file; give a folder"], capsys, here)


@pytest.mark.parametrize("verb", ["compare", "export"])
def test_an_output_on_a_folder_is_told_at_once(verb, here, capsys):
    (here / "s").mkdir()
    for name in ("trials.csv", "front.csv"):
        (here / "s" / name).touch()
    refused([verb, "s", "--out", "s"], ["--out s is a folder", "name a file"], capsys, here)


def test_a_config_of_a_shipped_one_s_name_is_refused(here, capsys, no_model):
    (here / "policy").mkdir()
    (here / "policy" / "fixed.yaml").write_text("# @package pruner.policy\n_target_: mine.Mine\n")
    refused(["study", "policy=fixed", "--config-dir", "."], ["policy/fixed.yaml", "another name"], capsys, here)


def test_mistakes_are_found_before_anything_heavy_is_imported(here):
    mistakes = [
        ["study", "policy=fixd"],
        ["study", "serch=gp"],
        ["study", "batch_size=x"],
        ["study", "study=../x"],
        ["study", "+pruner.policy.gama=1"],
        ["study", "pruner.policy._target_=policies.fixed.FixdPolicy"],
        ["evaluate", "budget.flops_ratio=2"],
        ["evaluate", "task=files", "task.path=/nowhere"],
        ["evaluate", "model.path=/nowhere"],
        ["evaluate", "--pruner", "none.yaml"],
        ["table", "policy=fixed"],
        ["compare", "nothing"],
        ["export", "nothing"],
        ["export", "nothing", "pick=best"],
        ["new-policy", "Mine"],
    ]
    code = f"""
import sys
from search.cli import main

assert [main(argv) for argv in {mistakes}] == [2] * {len(mistakes)}
heavy = ("torch", "transformers", "optuna", "mlflow", "pandas", "scipy", "sqlalchemy", "matplotlib")
sys.exit(", ".join(name for name in heavy if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(mistakes)


@pytest.mark.parametrize("verb", ["study", "evaluate"])
def test_a_budget_below_the_floor_names_the_floor(verb, here, capsys, no_model, checkpoint):
    argv = [verb, f"model.path={checkpoint}", "task.per_kind=2", "budget.flops_ratio=0.13"]
    refused(argv, ["flops_ratio=0.13 is unreachable", "alone cost 0.1", "raise the bound"], capsys, here)


def test_a_budget_below_a_deep_cut_names_that_floor(here, capsys, no_model, checkpoint):
    argv = ["evaluate", f"model.path={checkpoint}", "task.per_kind=1", "policy=fixed", "pruner.policy.layer=8"]
    refused(argv, ["flops_ratio=0.5 is unreachable", "8 FULL", "alone cost 0.5"], capsys, here)


@pytest.mark.parametrize("argv", [["study", "task=highway"], ["evaluate", "task=highway"], ["train", "--out", "x"]])
def test_a_simulator_that_is_not_installed_is_named(argv, here, capsys, no_model, checkpoint, monkeypatch):
    monkeypatch.setattr("autoprune_lab.testbed.highway.simulator.find_spec", lambda name: None)
    more = ["--world", "highway"] if argv[0] == "train" else [f"model.path={checkpoint}"]
    refused([*argv, *more], ["highway-env is not installed", "pip install 'autoprune-lab[highway]'"], capsys, here)


def empty(folder):
    for file in folder.iterdir():
        file.unlink()


def not_a_vlm(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))


def truncated(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("verb", ["study", "evaluate"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, ["does not exist"]),
        (empty, ["is empty"]),
        (not_a_vlm, ["'bert'", "not a vision-language model"]),
        (truncated, ["model.safetensors", "is truncated", "not fully covered"]),
    ],
)
def test_a_damaged_checkpoint_is_one_line(verb, damage, words, here, capsys, no_model, checkpoint):
    folder = here / "model"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    refused([verb, f"model.path={folder}", "task.per_kind=1"], words, capsys, here)


def test_a_mistake_in_a_new_process_has_no_traceback(here):
    code = "import sys; from search.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "study", "policy=fixd"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
