"""The decoders of the golden forwards, made by their recipes, and a run of `method=autoprune_official` on one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from autoprune_lab.decoder.sight import Sight
from autoprune_lab.evidence.complexity import mutual_information_official
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.official_budget import OfficialBudget
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.official_opening import official_opening
from autoprune_lab.selection.scorers import text_attention
from autoprune_lab.trace.sample import SampleTrace
from policies.autoprune_official import AutoPruneOfficialPolicy


@dataclass(frozen=True, eq=False)
class Run:
    """`last` is the last token's last hidden state; the others are what went in."""

    sample: SampleTrace
    last: torch.Tensor
    embedded: np.ndarray
    saliency: np.ndarray
    weights: dict[str, np.ndarray]


def official(case: dict[str, Any]) -> Pruner:
    """`method=autoprune_official`."""
    return Pruner(
        AutoPruneOfficialPolicy(case["k0"], case["gamma"], case["x0"]), OfficialBudget(case["target_token_num"]),
        scorer=text_attention, complexity=mutual_information_official, recovery=ClusterMerge(in_place=False),
        probe_layer=1, positions="compact", opening_scorer=official_opening,
    )  # fmt: skip


def llava(case, embeddings):
    """The case's decoder; the embedding table holds one prompt's text, ids 0, 1, 2, ... in their order."""
    text = LlamaConfig(**case["config"])
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=len(embeddings))
    config.text_config.vocab_size = len(embeddings) + 1
    model = LlavaForConditionalGeneration(config).eval()
    recipe, draw = case["weight_recipe"], np.random.RandomState(case["weight_recipe"]["seed"])
    state = dict(model.get_decoder().state_dict())
    for name in sorted(state):
        if state[name].ndim == 1:
            state[name].fill_(1.0)
            continue
        shape = (case["config"]["vocab_size"], text.hidden_size) if "embed" in name else state[name].shape
        gain = recipe["qk_gain"] if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.0
        values = torch.from_numpy(np.float32(draw.standard_normal(shape) * recipe["std"] * gain))
        if "embed" not in name:
            state[name].copy_(values)
    model.get_input_embeddings().weight.data[:-1] = embeddings
    model.lm_head = torch.nn.Identity()  # the logits are the last hidden state
    return model


def run(case, monkeypatch) -> Run:
    n_sys, n_vis, n_txt = case["n_sys"], case["n_vis"], case["n_txt"]
    draw, hidden = np.random.RandomState(case["input_recipe"]["seed"]), case["config"]["hidden_size"]
    embedded = draw.standard_normal((1, n_sys + n_vis + n_txt, hidden)) * case["input_recipe"]["emb_std"]
    embedded = torch.from_numpy(np.float32(embedded))[0]
    saliency = draw.gamma(0.3, 1.0, (1, n_vis))
    saliency = torch.from_numpy(np.float32(saliency / saliency.sum(1, keepdims=True)))[0]
    text = torch.cat([embedded[:n_sys], embedded[n_sys + n_vis :]])
    model = llava(case, text)
    ids = torch.arange(len(text))
    image = torch.full((n_vis,), len(text))
    features = BaseModelOutputWithPooling(pooler_output=[embedded[n_sys : n_sys + n_vis]])
    monkeypatch.setattr(Sight, "attention", lambda sight, layer: saliency)
    with torch.no_grad(), official(case).attach(model, keep_indices=True) as trace:
        prompt = torch.cat([ids[:n_sys], image, ids[n_sys:]])[None]
        last = model(input_ids=prompt, mm_encoder_outputs={"image": features}).logits[0, -1]
    weights = {name: value.numpy() for name, value in model.get_decoder().state_dict().items()}
    return Run(trace.samples[0], last, embedded.numpy(), saliency.numpy(), weights)
