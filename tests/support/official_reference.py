"""AutoPrune's official forward in plain numpy, one sample, float64: what `method=autoprune_official` must do.

Written from the description of the code, and without anything of the package. The schedule and the forward's counts
are rounded where the official ones are: float64 in the search, float32 in the forward.
"""

import math
from dataclasses import dataclass, field

import numpy as np

EPS = 1e-6


@dataclass
class Result:
    bits: float = math.nan
    entering: list = field(default_factory=list)  # visual tokens entering each layer
    labels: list = field(default_factory=list)  # original index of each of them
    macs: int = 0
    last: np.ndarray | None = None


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def norm(x, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def turned(x, positions, theta):
    """Rotary embedding, halves rotated; x (heads, n, dim)."""
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def layer(weights, index, config, x):
    """Output of decoder layer `index`, and its attention (heads, n, n)."""

    def linear(name, y):
        return y @ weights[f"layers.{index}.{name}.weight"].astype(np.float64).T

    n, d = x.shape
    heads, kv, dim = config["num_attention_heads"], config["num_key_value_heads"], d // config["num_attention_heads"]
    y, positions = norm(x, config["rms_norm_eps"]), np.arange(n)
    q = linear("self_attn.q_proj", y).reshape(n, heads, dim).transpose(1, 0, 2)
    k, v = (
        linear(f"self_attn.{p}_proj", y).reshape(n, kv, dim).transpose(1, 0, 2).repeat(heads // kv, 0) for p in "kv"
    )
    q, k = (turned(part, positions, config["rope_theta"]) for part in (q, k))
    attention = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(dim) + np.triu(np.full((n, n), -np.inf), 1))
    x = x + linear("self_attn.o_proj", (attention @ v).transpose(1, 0, 2).reshape(n, d))
    y = norm(x, config["rms_norm_eps"])
    gate = linear("mlp.gate_proj", y)
    return x + linear("mlp.down_proj", gate / (1 + np.exp(-gate)) * linear("mlp.up_proj", y)), attention


def bits_of(attention):
    """Summed over heads; attention (heads, text, vision)."""
    total, p_text = 0.0, 1 / attention.shape[1]
    for head in attention:
        joint = p_text * head
        ratio = joint / (p_text * joint.sum(0) + EPS)
        total += (joint * np.log2(np.maximum(ratio, EPS))).sum()
    return total


def merged_of(dropped):
    pool = int(dropped * 0.3) + 1
    return min(pool // 10 + 1, pool) if dropped else 0


def schedule(bits, case, n_opening):
    """The part of `n_opening` kept after layers 1, 2, ..."""
    layers, target = case["config"]["num_hidden_layers"], case["target_token_num"]
    k = max(case["k0"] - case["gamma"] * bits, 0)
    with np.errstate(over="ignore"):
        raw = [0.75 / (1 + np.exp(k * (i - (case["x0"] + k)))) for i in range(1, layers)]
    whole = [int(np.float32(n_opening) * np.float32(part)) for part in raw]
    if abs(sum(whole) + whole[-1] - layers * target) < 1:
        return raw
    low, high, best, least = 0.0, 20.0, 1.0, math.inf
    for _ in range(200):
        middle = (low + high) / 2
        total = present = n_opening
        for part in raw:
            keep = math.ceil((n_opening - 1) * min(1.0, middle * part))
            present = keep + merged_of(present - keep)
            total += present
        if abs(total - layers * target) < least:
            best, least = middle, abs(total - layers * target)
            if least < 0.01:
                break
        low, high = (middle, high) if total < layers * target else (low, middle)
    return [best * part for part in raw]


def cluster(points, n_clusters, noise):
    """Means of the clusters, the best centre first, and the centres."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) / math.sqrt(points.shape[1])
    density = np.exp(-(np.sort(distance, 1)[:, :n_clusters] ** 2).mean(1)) + noise
    denser = density[None] > density[:, None]
    apart = np.where(denser, distance, distance.max()).min(1)
    centres = np.argsort(-apart * density, kind="stable")[:n_clusters]
    owner = distance[centres].argmin(0)
    owner[centres] = np.arange(n_clusters)
    sums = [points[owner == c].sum(0) / ((owner == c).sum() + EPS) for c in range(n_clusters)]
    return np.array(sums), centres


def forward(case, embedded, saliency, weights, noise):
    """`noise`: one small number per original token, for ties between densities."""
    n_sys, n_vis, config, out = case["n_sys"], case["n_vis"], case["config"], Result()
    x, labels = embedded.astype(np.float64), np.arange(n_vis)
    for i in range(config["num_hidden_layers"]):
        out.entering.append(len(labels))
        out.labels.append(labels)
        n, d, m = len(x), config["hidden_size"], config["intermediate_size"]
        out.macs += 4 * n * d * d + 2 * n * n * d + 3 * n * d * m
        x, attention = layer(weights, i, config, x)
        seen = attention[:, n_sys + len(labels) :, n_sys : n_sys + len(labels)]
        relevance, visual = seen.mean((0, 1)), x[n_sys : n_sys + len(labels)]
        if i == 0:
            weight = bits_of(seen) / seen.shape[1]
            n_opening = min(int(2.5 * case["target_token_num"]), n_vis)
            kept, new, new_labels = (
                np.argsort(-(saliency + 0.3 * weight * relevance), kind="stable")[:n_opening],
                [],
                [],
            )
        else:
            if i == 1:
                out.bits = bits_of(seen)
                parts = schedule(out.bits, case, n_opening)
            wanted = math.ceil(np.float32(n_opening - 1) * np.float32(parts[i - 1]))
            order = np.argsort(-relevance, kind="stable")
            kept, dropped, new, new_labels = order[:wanted], order[wanted:], [], []
            if len(dropped):
                pool = dropped[: int(len(dropped) * 0.3) + 1]
                new, centres = cluster(visual[pool], merged_of(len(dropped)), noise[labels[pool]])
                new_labels = labels[pool[centres]]
        kept = np.sort(kept)
        tokens = [x[:n_sys], visual[kept], *([new] if len(new) else []), x[n_sys + len(labels) :]]
        x, labels = np.concatenate(tokens), np.concatenate([labels[kept], new_labels]).astype(int)
    out.last = norm(x[-1], config["rms_norm_eps"])
    return out
