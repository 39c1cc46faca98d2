"""A second, naive implementation of pruning for any model family, to compare the real one with.

One unpadded sample through transformers' own model with eager attention, no cache, full-length hidden states in
every layer. Hooks change nothing but what each layer is told: an explicit mask in which nothing sees a dropped
token, and for compact positions another rotary embedding. Decoded tokens stand behind the prompt in one sequence;
since nothing before them sees them, one pass gives the logits of every step.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial

import numpy as np
import torch
from families import IMAGE, Family, Sample
from transformers import PreTrainedModel


@cache
def eager(family: Family) -> PreTrainedModel:
    """The family's default model with eager attention, built once."""
    return family.build("eager")


class Oracle:
    """`rank_by` last: attention of the last prompt token; text: of the text rows; norm: of the layer's input.

    `opens_by`: the same, where tokens go before layer 0; None: as elsewhere.

    The prompt's last token always stays, also where it is a picture's: the answer is read off it.

    After `logits`, per layer: `kept`, the indices of its visual tokens, and `attention` (heads, tokens, tokens).
    """

    def __init__(
        self,
        family: Family,
        sample: Sample,
        rank_by: str,
        positions: str = "original",
        opens_by: str | None = None,
        visual_ids: tuple[int, ...] = (IMAGE,),
    ) -> None:
        self.family, self.sample, self.rank_by, self.positions = family, sample, rank_by, positions
        self.opens_by = opens_by or rank_by
        self.n_prompt = len(sample.ids)
        self.visual = torch.isin(sample.ids[:-1], torch.tensor(visual_ids)).nonzero().flatten()
        self.kept: list[np.ndarray] = []
        self.attention: list[torch.Tensor] = []

    def layers(self, model: PreTrainedModel) -> torch.nn.ModuleList:
        """The decoder's."""
        return model.get_decoder().layers

    @torch.no_grad()
    def logits(self, ids: torch.Tensor, counts: np.ndarray) -> torch.Tensor:
        """(tokens, vocabulary) for prompt + decoded `ids`; `counts` visual tokens enter each layer."""
        model = eager(self.family)
        with self.told(model, counts, len(ids)):
            return model(**self.family.batch([Sample(ids, self.sample.images)]), use_cache=False).logits[0]

    @contextmanager
    def told(self, model: PreTrainedModel, counts: np.ndarray, n_tokens: int) -> Iterator[None]:
        """Inside the block the layers are told which of `n_tokens` went."""
        self.kept, self.attention = [], []
        self.alive = torch.ones(n_tokens, dtype=torch.bool)
        with ExitStack() as undo:
            for layer, count in zip(self.layers(model), counts, strict=True):
                enter = layer.register_forward_pre_hook(partial(self._enter, int(count)), with_kwargs=True)
                attend = layer.self_attn.register_forward_hook(lambda m, args, out: self.attention.append(out[1][0]))
                undo.callback(enter.remove)
                undo.callback(attend.remove)
            yield

    def _enter(self, count, layer, args, kwargs):
        _, _, *names = inspect.signature(type(layer).forward).parameters
        args, kwargs = args[:1], dict(zip(names, args[1:], strict=False)) | kwargs
        if count < self.alive[self.visual].sum():
            self._drop(count, args[0][0] if args[0].ndim == 3 else torch.cat(list(args[0][:, 0]), dim=-1))  # streams
        self.kept.append(np.flatnonzero(self.alive[self.visual].numpy()))
        allowed = self._visible(layer, kwargs["attention_mask"]) & (self.alive | torch.eye(len(self.alive)).bool())
        told = {"attention_mask": torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo().min)[None, None]}
        if self.positions == "compact":
            row = (self.alive.cumsum(0) - 1).clamp(min=0)  # row p of the full tables is position p
            told["position_ids"] = row[None]
            if kwargs["position_embeddings"] is not None:
                told["position_embeddings"] = tuple(table[:, row] for table in kwargs["position_embeddings"])
        return args, kwargs | told

    def _drop(self, count, hidden):
        present = [int(i) for i in self.visual if self.alive[i]]
        scores = self._scores(hidden)
        best = sorted(present, key=lambda i: (-scores[i].item(), i))[:count]
        self.alive[self.visual] = False
        self.alive[best] = True

    def _scores(self, hidden):
        rank_by = self.rank_by if self.attention else self.opens_by
        if rank_by == "norm":
            return hidden.norm(dim=-1)
        n = self.n_prompt
        rows = [n - 1] if rank_by == "last" else [i for i in range(self.visual[0], n) if i not in self.visual]
        return self.attention[-1][:, rows].mean(dim=(0, 1))

    def _visible(self, layer, given):
        """(tokens, tokens): to the prompt what transformers shows it, to decoded tokens all before, in the window."""
        row = torch.arange(given.shape[-1])
        distance = row[:, None] - row
        window = getattr(layer.self_attn, "sliding_window", None) or len(row)
        visible = (distance >= 0) & (distance < window)
        if "chunked_attention" in (kinds := getattr(layer.self_attn.config, "layer_types", None) or []):
            size = layer.self_attn.config.attention_chunk_size
            if kinds[layer.self_attn.layer_idx] == "chunked_attention":
                visible &= row[:, None] // size == row // size
        prompt = slice(self.n_prompt)
        visible[prompt, prompt] = given[0, 0, prompt, prompt] == 0
        return visible
