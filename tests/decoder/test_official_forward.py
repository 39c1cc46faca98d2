"""The official AutoPrune, as a composition, against forward runs of the official code and of a plain one."""

import json
from pathlib import Path

import numpy as np
import official_reference
import pytest
import torch
from official_models import run

from autoprune_lab.plugins.plain_evidence import evidence_of
from autoprune_lab.schedule.flops import macs_3ndm
from autoprune_lab.selection import cluster_merge
from autoprune_lab.selection.scorers import random

CASES = json.loads((Path(__file__).parents[1] / "golden" / "forward.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_composition_runs_as_the_official_code(case, monkeypatch):
    ran = run(case, monkeypatch)
    sample = ran.sample
    assert sample.complexity == pytest.approx(case["layer1_mi_sum"], abs=1e-6)
    np.testing.assert_array_equal(sample.counts, case["visual_tokens_in"])
    np.testing.assert_array_equal(sample.kept[1], case["layer0_selected"])
    if case["layer1_kept_local_indices"] is not None:
        survivors = sample.kept[1][case["layer1_kept_local_indices"]]
        np.testing.assert_array_equal(sample.kept[2][: len(survivors)], survivors)
    assert macs_3ndm(sample.geometry, sample.counts) == case["upstream_MACs"]
    if case["last_token_hidden_usable"]:
        torch.testing.assert_close(ran.last, torch.tensor(case["last_token_hidden"]), atol=1e-5, rtol=0)


NOISE = 1e-3  # so large that rounding does not decide between the equal densities of mutual neighbours


def recipe(
    seed, layers=6, heads=4, kv_heads=4, hidden=64, n_sys=5, n_vis=120, n_txt=9, target=24.0, x0=3.0, k0=0.4, gamma=0.2,
    std=0.1, gain=1.0,
):  # fmt: skip
    """A case in the style of the golden ones."""
    config = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": 2 * hidden, "vocab_size": 32,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "pad_token_id": 0,
    }  # fmt: skip
    return {
        "config": config, "weight_recipe": {"seed": seed, "std": std, "qk_gain": gain},
        "input_recipe": {"seed": seed + 1, "emb_std": 1.0}, "n_sys": n_sys, "n_vis": n_vis, "n_txt": n_txt,
        "target_token_num": target, "x0": x0, "k0": k0, "gamma": gamma,
    }  # fmt: skip


RECIPES = {
    "plain": recipe(0),
    "plain again": recipe(10),
    "deep": recipe(20, layers=16, n_vis=240, target=40, x0=7.5),
    "odd layers, grouped heads": recipe(30, layers=7, heads=8, kv_heads=2),
    "no opening cut": recipe(40, n_vis=40, target=16),
    "one text token": recipe(50, n_txt=1),
    "nothing before the picture": recipe(60, n_sys=0),
    "three layers": recipe(70, layers=3, x0=1.0),
    "negative bits": recipe(80, std=0.03, n_txt=60, heads=8, n_vis=200, target=60),
    "many bits, flat curve": recipe(90, heads=16, kv_heads=16, gain=1.5),
    "steep, all merged": recipe(100, k0=60.0, gamma=0.0, x0=-100.0),
    "one token": recipe(110, target=1, n_vis=60),
    "half a token": recipe(120, target=12.5),
    "all tokens": recipe(130, target=120),
    "narrow": recipe(140, hidden=16, heads=2, kv_heads=1, n_vis=200, target=60),
    "early return": recipe(150, layers=4, target=28.0, gamma=0.0, k0=0.0, n_vis=300),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_composition_runs_as_a_plain_forward(name, monkeypatch):
    case = RECIPES[name]
    monkeypatch.setattr(cluster_merge, "_NOISE", NOISE)
    ran = run(case, monkeypatch)
    noise = NOISE * random(evidence_of(torch.zeros(1, 1, 1, case["n_vis"])))[0].double().numpy()
    expected = official_reference.forward(case, ran.embedded, ran.saliency, ran.weights, noise)
    sample = ran.sample
    assert sample.complexity == pytest.approx(expected.bits, abs=1e-6, rel=1e-6)
    assert sample.counts.tolist() == expected.entering
    for kept, labels in zip(sample.kept, expected.labels, strict=True):
        assert kept.tolist() == labels.tolist()
    assert macs_3ndm(sample.geometry, sample.counts) == expected.macs
    torch.testing.assert_close(ran.last.double(), torch.from_numpy(expected.last), atol=1e-5, rtol=0)


def test_the_recipes_reach_the_edges(monkeypatch):
    """Or a recipe would be one more ordinary case."""
    ran = {name: run(RECIPES[name], monkeypatch).sample for name in RECIPES}
    assert ran["negative bits"].complexity < -0.01
    assert ran["many bits, flat curve"].complexity > 2
    assert len(set(ran["many bits, flat curve"].counts[3:])) == 1
    assert ran["no opening cut"].counts[1] == 40
    assert ran["steep, all merged"].counts.tolist() == [120, 60, 2, 1, 1, 1]
