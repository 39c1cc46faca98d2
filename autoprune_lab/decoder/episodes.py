"""Episodes: decisions of closed loops that one block makes, what came before each, and what its answer looks at."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache

from autoprune_lab.decoder.cache import is_static
from autoprune_lab.decoder.layout import Prompt, Stage
from autoprune_lab.decoder.source import DecoderSource
from autoprune_lab.decoder.tap import Tapped, last_probabilities
from autoprune_lab.evidence.history import History, Recall
from autoprune_lab.evidence.transfer import upload


class Episodes:
    """One episode a prompt, whose next decision is made by one `generate`, or one prefill and its decode steps.

    `layer` is the one whose attention is read: of the prompt's last token, which the answer's first token is read off,
    and of each token of the answer that is fed back. A token that ends an answer, and padding behind it, is no part
    of it, so that a sample looks at the same alone and in a batch.
    """

    def __init__(self, recall: Recall, layer: int, histories: Sequence[History]) -> None:
        self.layer, self.window = layer, recall.window
        self.histories = [history[: self.window] for history in histories]
        self.stage: Stage | None = None

    def check(self, prompt: Prompt, is_first: bool, cache: Cache | None) -> None:
        """Raise ValueError unless these are the episodes' prompts, each with as many visual tokens as ever."""
        if not is_first:
            raise ValueError(
                "a block with a history makes one decision of each episode, with a cache: open a new one for the next, "
                "and leave use_cache as it is"
            )
        if is_static(cache):
            raise ValueError("a history is read off a DynamicCache: leave out the static one")
        n_vision = prompt.stage.n_vision
        if len(n_vision) != len(self.histories):
            raise ValueError(
                f"the history is of {len(self.histories)} episodes, {len(n_vision)} prompts came: give one a prompt, "
                "() for one that begins, and decode greedily, without beams"
            )
        for i, (history, n) in enumerate(zip(self.histories, n_vision.tolist(), strict=True)):
            for paid in history:
                if paid.shape != (n,):
                    raise ValueError(
                        f"episode {i} remembers {paid.shape[0]} visual tokens, its prompt has {n}: begin with an empty "
                        "history where the pictures change their number or size"
                    )

    def check_step(self, ids: Int[Tensor, "batch new"]) -> None:
        """Raise ValueError for more than one new token: candidates, or a second turn."""
        if self.stage is None or ids.shape != (len(self.histories), 1):
            raise ValueError(
                f"{ids.shape[1]} tokens of {len(ids)} samples came at once: a block with a history begins with the "
                "prompts and decodes one token a step, without an assistant"
            )

    def earlier(self, prompt: Prompt) -> Float[Tensor, "batch decisions vision"]:
        """What earlier decisions paid, the newest first; 0 where an episode has had fewer, and at padding."""
        n_decisions, n_vision = max(map(len, self.histories)), int(prompt.stage.n_vision.max())
        held = np.zeros((len(self.histories), n_decisions, n_vision), dtype=np.float32)
        for i, history in enumerate(self.histories):
            for j, paid in enumerate(history):
                held[i, j, : len(paid)] = paid
        return upload(torch.from_numpy(held), prompt.rows.device)

    def begin(self, source: DecoderSource) -> None:
        """The prompt has gone through the layer."""
        self.stage, self.prompt, self.index = source.stage, source.prompt, source.index()
        self.paid = source.last_row_mean()
        self.rows = self.paid.new_ones(len(self.paid), 1)
        self.answering = self.rows.bool()
        self.n_steps = 0

    def step(self, tapped: Tapped, ended: Bool[Tensor, "batch 1"]) -> None:
        """An answer's next token has gone through the layer, or where `ended` the one that ends it."""
        assert self.stage is not None  # `begin` came first
        self.n_steps += 1
        self.answering = self.answering & ~ended
        n_forgotten = self.stage.index.shape[1] + self.n_steps - tapped.key.shape[2]  # by a sliding window
        columns = self.stage.vision.slots - n_forgotten
        counts = (columns >= 0) & self.stage.vision.real & self.answering
        paid = last_probabilities(tapped).gather(1, columns.clamp(min=0))
        self.paid = self.paid + paid.masked_fill(~counts, 0.0)
        self.rows = self.rows + self.answering

    def made(self) -> tuple[list[History], Int[np.ndarray, "batch"]]:
        """Each episode's history with this decision in front, and how many keys its rows were compared with."""
        assert self.stage is not None
        n_vision = self.prompt.stage.n_vision
        whole = self.paid.new_zeros(len(self.paid), int(n_vision.max()))
        whole = whole.scatter_add(1, self.index.clamp(min=0), (self.paid / self.rows).masked_fill(self.index < 0, 0.0))
        told = torch.cat([self.rows, whole], dim=1).cpu().numpy()
        n_rows, paid = told[:, 0].astype(np.int64), told[:, 1:]
        n_keys = n_rows * (self.stage.n_vision + self.prompt.n_text) + n_rows * (n_rows - 1) // 2
        made = [(one[:n].copy(), *before) for one, n, before in zip(paid, n_vision, self.histories, strict=True)]
        return [history[: self.window] for history in made], n_keys
