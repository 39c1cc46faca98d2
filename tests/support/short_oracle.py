"""The oracle for decoders with layers that have no attention: there nothing but a shorter sequence hides a token.

The stock model runs once, with eager attention, at full length and without a cache, only to tell what each layer is
given. Then the stock layers run one after another on the tokens that are left, under a causal mask written out here;
what the last of them gives takes its place in the stock model's output. Decoded tokens stand behind the prompt.
"""

from contextlib import ExitStack

import numpy as np
import torch
from families import Sample
from oracle import eager
from torch import Tensor, nn

from autoprune_lab.decoder.mixers import attention_of


class Shortened:
    """In front of an `Oracle`: its `logits`, by sequences that are shortened."""

    @torch.no_grad()
    def logits(self, ids: Tensor, counts: np.ndarray) -> Tensor:
        """See `Oracle.logits`."""
        self.kept, self.attention = [], []
        self.alive = torch.ones(len(ids), dtype=torch.bool)
        model = eager(self.family)
        layers, given = self.layers(model), []
        with ExitStack() as undo:
            for layer in layers:
                told = layer.register_forward_pre_hook(
                    lambda m, args, kwargs: given.append((args, kwargs)), with_kwargs=True
                )
                undo.callback(told.remove)
            undo.callback(layers[-1].register_forward_hook(lambda *_: self._run(layers, given, counts)).remove)
            for one in filter(None, map(attention_of, layers)):
                undo.callback(one.register_forward_hook(self._see).remove)
            return model(**self.family.batch([Sample(ids, self.sample.images)]), use_cache=False).logits[0]

    def _run(self, layers: nn.ModuleList, given: list, counts: np.ndarray) -> Tensor:
        self.attention = []  # those of the stock model's own run
        hidden = given[0][0][0]
        for layer, (_, kwargs), count in zip(layers, given, map(int, counts), strict=True):
            if count < self.alive[self.visual].sum():
                whole = torch.zeros(len(self.alive), hidden.shape[-1])
                before = self.alive.clone()
                whole[before] = hidden[0]
                self._drop(count, whole)
                hidden = hidden[:, self.alive[before]]
            self.kept.append(np.flatnonzero(self.alive[self.visual].numpy()))
            hidden = layer.forward(hidden, **kwargs | self._told(layer, kwargs))
        whole = torch.zeros(1, len(self.alive), hidden.shape[-1])
        whole[:, self.alive] = hidden
        return whole

    def _told(self, layer: nn.Module, kwargs: dict) -> dict:
        index = self.alive.nonzero().flatten()
        if (attention := attention_of(layer)) is None:
            return {"attention_mask": None}
        distance = index[:, None] - index
        sees = (distance >= 0) & (distance < (getattr(attention, "sliding_window", None) or len(self.alive)))
        told = {"attention_mask": torch.zeros(sees.shape).masked_fill(~sees, torch.finfo().min)[None, None]}
        rows = index if self.positions == "original" else torch.arange(len(index))
        if (rotary := kwargs.get("position_embeddings")) is not None:
            told["position_embeddings"] = tuple(table[:, rows] for table in rotary)
        return told

    def _see(self, module: nn.Module, args: tuple, output: tuple) -> None:
        seen = output[1][0]
        if seen.shape[-1] != (n := int(self.alive.sum())):
            raise AssertionError(f"attention of {seen.shape[-1]} tokens, not of the {n} that are left")
        whole = torch.zeros(len(seen), len(self.alive), len(self.alive))
        whole[:, self.alive[:, None] & self.alive] = seen.flatten(1)
        self.attention.append(whole)
