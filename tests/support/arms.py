"""Pruners to try on every model family, the prompts they get, and their decoding beside the oracle's."""

from dataclasses import dataclass
from functools import cache

import torch
from families import FAMILIES, IMAGE
from oracle import Oracle
from transformers import Cache

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.selection import scorers
from autoprune_lab.trace.sample import SampleTrace
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

STAIRS = {"policy": LayerwisePolicy(depths=(2 / 6, 4 / 6), keep=(0.5, 0.2)), "probe_layer": 1}
ADAPTIVE = {
    "policy": LogisticAdaptivePolicy(k0=1.0, gamma=0.5, x0=1.5), "budget": Budget(flops_ratio=0.75),
    "scorer": scorers.text_attention, "probe_layer": 0,
}  # fmt: skip
ENTRANCE = {"policy": FixedPolicy(layer=0, keep=0.5), "scorer": scorers.feature_norm, "probe_layer": -1}
OPENED = ADAPTIVE | {
    "budget": Budget(flops_ratio=0.68, opening=9), "opening_scorer": scorers.feature_norm, "probe_layer": 2,
}  # fmt: skip
ARMS = {
    "stairs": (STAIRS, "last"),
    "adaptive": (ADAPTIVE, "text"),
    "entrance": (ENTRANCE, "norm"),
    "opened": (OPENED, "text", "norm"),
}
"""Name -> the pruner's arguments, and what the oracle ranks visual tokens by: everywhere, or then before layer 0."""
OPENING_FAMILIES = ("llava", "qwen3_vl", "gemma3")  # plain; features added between layers; windows

PLACES = [
    (name, positions)
    for name, family in FAMILIES.items()
    for positions in ("original", "compact")
    if positions == "original" or not family.mrope
]
CASES = [
    (name, arm, positions) for name, positions in PLACES for arm in ARMS if arm != "opened" or name in OPENING_FAMILIES
]
STEPS = 20
CLOSE = {"atol": 5e-5, "rtol": 0}


@cache
def model(name):
    return FAMILIES[name].build()


@cache
def mixed(name):
    """Prompts of 1, 2, 0 and 1 images, all of other lengths."""
    sample = FAMILIES[name].sample
    return [sample(1), sample(2, n_images=2, before=3, after=5), sample(3, n_images=0), sample(4, before=9, after=3)]


def pruner(arm, positions):
    return Pruner(**ARMS[arm][0], positions=positions)


def oracles(name, arm, positions, samples):
    _, rank_by, *opens_by = ARMS[arm]
    return [Oracle(FAMILIES[name], one, rank_by, positions, *opens_by) for one in samples]


def generate(net, inputs, steps=STEPS, **options):
    """`steps` greedy tokens (or beams, by the options), none of them an image, with their logits and scores."""
    return net.generate(
        **inputs, max_new_tokens=steps, min_new_tokens=steps, suppress_tokens=[IMAGE], do_sample=False,
        return_dict_in_generate=True, output_logits=True, output_scores=True, **options,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Decoded:
    """`logits` of the pruned model and `expected` ones of the oracle: (samples, steps, vocabulary)."""

    logits: torch.Tensor
    expected: torch.Tensor
    records: list[SampleTrace]
    oracles: list[Oracle]
    cache: Cache


@torch.no_grad()
def decode(name, arm, positions, samples=None) -> Decoded:
    """A batch of prompts, the mixed ones unless others are given, pruned, and 20 tokens."""
    samples = samples or mixed(name)
    with pruner(arm, positions).attach(model(name), keep_indices=True) as trace:
        out = generate(model(name), FAMILIES[name].batch(samples))
    answers, asked = out.sequences[:, -STEPS:-1], oracles(name, arm, positions, samples)
    expected = [
        oracle.logits(torch.cat([oracle.sample.ids, answer]), record.planned)[-STEPS:]
        for oracle, answer, record in zip(asked, answers, trace.samples, strict=True)
    ]
    return Decoded(torch.stack(out.logits, 1), torch.stack(expected), trace.samples, asked, out.past_key_values)


def state(model):
    """Everything of a model that attaching could change."""
    configs = {name: getattr(module, "config", None) for name, module in model.named_modules()}
    backends = {name: getattr(config, "_attn_implementation", None) for name, config in configs.items()}
    hooks = [(list(m._forward_pre_hooks), list(m._forward_hooks), sorted(vars(m))) for m in model.modules()]
    return {name: id(config) for name, config in configs.items()}, backends, hooks


def seen_by(scorer, evidence_list):
    """A scorer that also shows its evidence to the test."""

    def spy(evidence):
        evidence_list.append(evidence)
        return scorer(evidence)

    return spy
