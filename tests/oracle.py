"""A second, naive implementation of pruning, to compare the real one with.

One unpadded sample, full-length hidden states in every layer, eager attention written out, one explicit
mask per layer, no cache: the whole sequence is computed again for each decoded token.
"""

import numpy as np
import torch
from tiny_models import IMAGE, Sample
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


class Oracle:
    def __init__(self, model: LlavaForConditionalGeneration, sample: Sample, rank_by: str) -> None:
        self.model, self.decoder, self.rank_by = model, model.get_decoder(), rank_by
        self.prompt = sample.ids
        self.visual = (sample.ids == IMAGE).nonzero().flatten()
        with torch.no_grad():
            images = (
                model.get_image_features(pixel_values=sample.pixels, return_dict=True).pooler_output
                if len(sample.pixels)
                else []
            )
            self.features = torch.cat(list(images)) if len(images) else torch.zeros(0, 48)
        self.kept: list[np.ndarray] = []
        self.attention: list[torch.Tensor] = []

    @torch.no_grad()
    def logits(self, ids: torch.Tensor, counts: np.ndarray) -> torch.Tensor:
        """(tokens, vocabulary) for prompt + decoded `ids`; `counts` visual tokens enter each layer."""
        hidden = self.model.get_input_embeddings()(ids)
        hidden[self.visual] = self.features
        cos, sin = self.decoder.rotary_emb(hidden[None], torch.arange(len(ids))[None])
        alive = torch.ones(len(ids), dtype=torch.bool)
        self.kept, self.attention = [], []
        for layer, count in zip(self.decoder.layers, counts, strict=True):
            if count < alive[self.visual].sum():
                alive = self._drop(alive, int(count))
            self.kept.append(np.flatnonzero(alive[self.visual].numpy()))
            allowed = torch.ones(len(ids), len(ids)).tril().bool() & (alive | torch.eye(len(ids)).bool())
            hidden = self._layer(layer, hidden, cos, sin, allowed)
        return self.model.lm_head(self.decoder.norm(hidden))

    def _drop(self, alive: torch.Tensor, count: int) -> torch.Tensor:
        n = len(self.prompt)
        rows = [n - 1] if self.rank_by == "last" else [i for i in range(self.visual[0], n) if self.prompt[i] != IMAGE]
        scores = self.attention[-1][:, rows].mean(dim=(0, 1))
        present = [int(i) for i in self.visual if alive[i]]
        best = sorted(present, key=lambda i: (-scores[i].item(), i))[:count]
        alive = alive.clone()
        alive[self.visual] = False
        alive[best] = True
        return alive

    def _layer(self, layer, hidden, cos, sin, allowed):
        attention, x = layer.self_attn, layer.input_layernorm(hidden)
        q, k, v = (
            p(x).view(len(x), -1, attention.head_dim).transpose(0, 1)
            for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = (t[0] for t in apply_rotary_pos_emb(q[None], k[None], cos, sin))
        k, v = (t.repeat_interleave(len(q) // len(k), dim=0) for t in (k, v))
        additive = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)
        weights = (q @ k.transpose(1, 2) * attention.head_dim**-0.5 + additive).softmax(-1)
        self.attention.append(weights)
        hidden = hidden + attention.o_proj((weights @ v).transpose(0, 1).flatten(1))
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))
