"""Tiny models whose pictures reach a language model inside by other ways than its ids, and what is run of them."""

from functools import cache

import torch
from sorting import Tiny, pruner


@cache
def tiny(name):
    return Tiny(name)


def samples(name):
    return [tiny(name).sample("long", seed=1), tiny(name).sample("short", seed=2)]


@torch.no_grad()
def forward(name, inputs):
    with pruner("stairs").attach(tiny(name).model, keep_indices=True) as trace:
        return tiny(name).model(**inputs).logits, trace


def kept(trace):
    return [[layer.tolist() for layer in sample.kept] for sample in trace.samples]
