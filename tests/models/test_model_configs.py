"""Every configuration of conf/model: on a tiny folder of its layout, and as docs/real-models.md tells of it."""

import re
from pathlib import Path

import layouts
import pytest
import yaml
from expected_sorting import EXPECTED, OLDER
from families import FAMILIES
from popular import POPULAR
from toys import save_toy
from transformers import AutoModelForImageTextToText
from transformers.utils.import_utils import is_torchvision_available

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import check_checkpoint, load_model
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from policies.logistic_adaptive import LogisticAdaptivePolicy
from search.config.catalogue import conf_dir
from search.config.compose import compose
from search.config.instantiate import build

LINEAR = ("qwen3_5", "qwen3_5_moe", "minicpm_v_4_6")  # their linear layers are paid for by the chunk, however full
TOYS = {  # configuration -> toys of its checkpoint, and of sizes that have another decoder
    "llava_1_5_7b": ["llava"],
    "llava_1_5_13b": ["llava"],
    "llava_next_7b": ["llava_next"],
    "llava_next_mistral_7b": ["llava_next"],
    "llava_onevision": ["llava_onevision"],
    "qwen2_5_vl_7b": ["qwen2_5_vl"],
    "qwen3_vl": ["qwen3_vl"],
    "qwen3_vl_moe": ["qwen3_vl_moe"],
    "internvl": ["internvl"],
    "internvl3_5": ["internvl3_5", "internvl3_5_moe"],
    "glm4_6v": ["glm4_6v", "glm4_6v_moe"],
    "smolvlm": ["smolvlm"],
    "gemma3": ["gemma3"],
    "gemma4": ["gemma4", "gemma4_moe"],
    "mistral_small": ["mistral_small"],
    "ministral3": ["ministral3"],
    "llama4": ["llama4"],
    "qwen3_5": ["qwen3_5", "qwen3_5_moe"],
    "minicpm_v_4_6": ["minicpm_v_4_6"],
}
TORCHVISION = ["mistral_small", "ministral3", "llama4", "minicpm_v_4_6"]  # their processors need it for pictures, too


def exact(toy: str) -> pytest.MarkDecorator:
    """Only where the type is sorted so."""
    return pytest.mark.skipif(EXPECTED[POPULAR[toy].model_type] != "exact", reason="the type is not sorted exact")


NEW = [
    pytest.param(name, toy, id=toy, marks=exact(toy))
    for name, toys in TOYS.items()
    for toy in toys
    if toy in POPULAR and name not in TORCHVISION
]
current = pytest.mark.skipif(OLDER, reason="made with transformers 5.23")
HUB = {
    file.stem: settings["path"]
    for file in sorted((conf_dir() / "model").glob("*.yaml"))
    if "/" in (settings := yaml.safe_load(file.read_text()))["path"]
}


def pruner(toy: str) -> Pruner:
    return Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.95 if toy in LINEAR else 0.7))


def configured(name: str, folder: Path) -> tuple:
    """What `model=NAME task=files` means, for the toy in `folder`."""
    own = layouts.own_files(folder / "own")
    words = [f"model={name}", f"model.path={folder}", "model.dtype=float32", "model.device=cpu"]
    config = compose([*words, "task=files", f"task.path={own}", "task.split=all", "task.per_kind=1"]).config
    return build(config["model"], "model"), build(config["task"], "task")


@current
@pytest.mark.parametrize(("name", "toy"), NEW)  # others: test_real_checkpoints.py
def test_a_folder_of_the_layout_is_loaded_and_pruned_within_the_budget(name, toy, tmp_path):
    vlm, task = configured(name, save_toy(toy, tmp_path))
    prepared = prepare(vlm, task, batch_size=2)
    whole, pruned = evaluate(vlm, prepared).rows, evaluate(vlm, prepared, pruner(toy)).rows
    assert len(pruned) == len(task.samples()) == 2
    for before, after in zip(whole, pruned, strict=True):
        assert 0 < after.mean_tokens < after.n_vision == before.mean_tokens
        assert after.prediction
        assert 0.6 < after.decoder_flops / before.decoder_flops <= pruner(toy).budget.flops_ratio


@current
@pytest.mark.parametrize("name", [pytest.param(name, marks=exact(name)) for name in TORCHVISION])
def test_pictures_made_by_hand_are_pruned_where_the_processor_cannot_be_made(name, tmp_path):
    folder = check_checkpoint(str(save_toy(name, tmp_path)))
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = POPULAR[name].batch([POPULAR[name].sample(seed=0)])
    with pruner(name).attach(model) as trace:
        answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    (sample,) = trace.samples
    assert answer.shape[1] > inputs["input_ids"].shape[1]
    assert 0.6 < sample.flops_ratio <= pruner(name).budget.flops_ratio
    assert sample.counts[0] == sample.geometry.n_vision > sample.counts[-1]


@current
@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_is_named_where_a_processor_needs_it(name, tmp_path):
    with pytest.raises(CheckpointError, match=r"(?i)torchvision") as told:
        load_model(str(save_toy(name, tmp_path)))
    assert "\n" not in str(told.value)


def test_every_configuration_of_a_hub_checkpoint_has_a_toy():
    assert HUB.keys() == TOYS.keys()
    assert {toy for toys in TOYS.values() for toy in toys} <= FAMILIES.keys() | POPULAR.keys()


@pytest.mark.parametrize("name", HUB)
def test_the_docs_tell_each_configuration_s_checkpoint(name):
    root = Path(__file__).parents[2]
    rows = re.findall(r"^\| (`.*?) \| (`.*?) \|", (root / "docs" / "real-models.md").read_text(), re.MULTILINE)
    assert any(f"`{name}`" in names and f"`{HUB[name]}`" in ids for names, ids in rows)
    assert f"hf download {HUB[name]}\n" in (conf_dir() / "model" / f"{name}.yaml").read_text()
