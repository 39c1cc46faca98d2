"""Every mistake on the command line is one line, exit code 2, nothing written, before a model is loaded."""

import json
import shutil
import subprocess
import sys

import pytest
from fake_bench import refused

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
    "train": (["train"], ["--out"]),
    "steps": (["train", "--out", "x", "--steps", "0"], ["--steps 0"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, here, capsys, no_model, checkpoint):
    argv, words = MISTAKES[name]
    model = [f"model.path={checkpoint}"] if argv[0] in ("study", "evaluate") else []
    refused([*argv, *model], words, capsys, here)


@pytest.mark.parametrize("verb", ["study", "evaluate"])
def test_a_budget_below_the_floor_names_the_floor(verb, here, capsys, no_model, checkpoint):
    argv = [verb, f"model.path={checkpoint}", "task.per_kind=2", "budget.flops_ratio=0.13"]
    refused(argv, ["flops_ratio=0.13 is unreachable", "alone cost 0.1", "raise the bound"], capsys, here)


def test_a_budget_below_a_deep_cut_names_that_floor(here, capsys, no_model, checkpoint):
    argv = ["evaluate", f"model.path={checkpoint}", "task.per_kind=1", "policy=fixed", "pruner.policy.layer=8"]
    refused(argv, ["flops_ratio=0.5 is unreachable", "8 FULL", "alone cost 0.5"], capsys, here)


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
        (truncated, ["model.safetensors is truncated"]),
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
