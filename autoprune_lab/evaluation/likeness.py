"""How like the unpruned model a pruned one is, without labels: both along the unpruned model's answers, token by token.

A pruner chooses by the prompt alone, as ever: the answer's tokens are forced on it one after the other behind the
prefill, so nothing of an answer is seen where tokens are dropped.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from autoprune_lab.evaluation.evaluate import Block, by_batch, generated, row_of
from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.progress import progress as bar
from autoprune_lab.pruner import Pruner
from autoprune_lab.statistics.records import Record, Records

TOKENS = 16  # of an answer that are compared, at most: its first ones
LIKELIEST = 256  # tokens whose probabilities are kept one by one
ENDED = -1  # in place of a token: behind the answer's end
KL, COSINE = "kl", "cosine"


@dataclass(frozen=True, eq=False)
class Reference:
    """What the unpruned model says of every sample, in the task's order; the end of an answer is a token of it.

    `tokens` of its answer, ENDED behind the end. At each of them `ids`, those that it holds the likeliest; `logs`,
    their log-probabilities in nats, and last that of all others together; `hidden`, the state behind its last layer
    and norm that the vocabulary is read from.
    """

    tokens: Int[np.ndarray, "samples steps"]
    ids: Int[np.ndarray, "samples steps likeliest"]
    logs: Float[np.ndarray, "samples steps likeliest_and_rest"]
    hidden: Float[np.ndarray, "samples steps hidden"]


def read_reference(vlm: VLM, prepared: PreparedTask, progress: bool = False) -> Reference:
    """Answer every sample unpruned, at most TOKENS tokens each; no label is read.

    A token takes some 4 KiB and four bytes a hidden unit.
    """
    most = min(TOKENS, prepared.task.max_new_tokens)
    kept: Reference | None = None
    for batch in bar(
        prepared.batches, doing=f"answering {prepared.task.name} unpruned", unit="batches", shown=progress
    ):
        listener = _Listener()
        with _states(vlm) as states:
            new, _ = generated(vlm, prepared, batch, None, None, [listener], most)
        places, shape = list(batch.places), (len(prepared.samples), most)
        if kept is None:
            likeliest, width = listener.ids[0].shape[1], states[0].shape[1]
            kept = Reference(
                np.full(shape, ENDED), np.zeros((*shape, likeliest), dtype=np.int64),
                np.zeros((*shape, likeliest + 1)), np.zeros((*shape, width), dtype=np.float32),
            )  # fmt: skip
        steps = new.shape[1]
        kept.tokens[places, :steps] = _until_end(new, vlm.model.generation_config.eos_token_id).cpu().numpy()
        kept.ids[places, :steps] = torch.stack(listener.ids, 1).cpu().numpy()
        kept.logs[places, :steps] = torch.stack(listener.logs, 1).cpu().numpy()
        kept.hidden[places, :steps] = torch.stack(states, 1).cpu().numpy()
    assert kept is not None
    return kept


def likeness(
    vlm: VLM,
    prepared: PreparedTask,
    pruner: Pruner,
    reference: Reference,
    figure: str,
    progress: bool = False,
    after_block: Callable[[Block], None] | None = None,
    prefixes: Prefixes | None = None,
) -> Records:
    """Records without predictions and labels, whose score says how like the unpruned model the pruned one is.

    KL: minus the Kullback-Leibler divergence of the pruned model's next-token probabilities from the unpruned one's, in
    nats a token, <= 0; tokens beyond the LIKELIEST count as one, which can only lessen it. COSINE: of the states behind
    the last layer, in [-1, 1]. Both are means over the answer's tokens. `after_block` and `prefixes` as in `evaluate`.
    """

    def rows_of(batch: Batch) -> list[Record]:
        part = _on(reference, batch, vlm.model.device)
        teacher = _Teacher(part.tokens, part.ids, part.logs)
        with _states(vlm) as states:
            _, traces = generated(vlm, prepared, batch, pruner, prefixes, [teacher], part.tokens.shape[1])
        said = {
            KL: lambda: -torch.stack(teacher.divergences, 1),
            COSINE: lambda: cosine_similarity(torch.stack(states, 1), part.hidden, -1).double(),
        }[figure]()
        real = part.tokens != ENDED
        scores = torch.where(real, said, 0.0).sum(1) / real.sum(1)
        found = zip(batch.places, traces, scores.tolist(), strict=True)
        return [row_of(prepared, place, trace, score) for place, trace, score in found]

    return by_batch(prepared, rows_of, "comparing", progress, after_block)


@dataclass(frozen=True, eq=False)
class _Part:
    tokens: Tensor
    ids: Tensor
    logs: Tensor
    hidden: Tensor


def _on(reference: Reference, batch: Batch, device: torch.device) -> _Part:
    """The batch's rows of a reference, as many steps as its longest answer has."""
    places = list(batch.places)
    steps = int((reference.tokens[places] != ENDED).any(0).sum())
    arrays = (reference.tokens, reference.ids, reference.logs, reference.hidden)
    return _Part(*(torch.as_tensor(array[places, :steps], device=device) for array in arrays))


class _Listener:
    """A logits processor that changes nothing: it keeps the likeliest tokens of each step."""

    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.logs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.ids.append(scores.topk(min(LIKELIEST, scores.shape[1]), dim=1).indices)
        self.logs.append(_coarse(scores, self.ids[-1]))
        return scores


class _Teacher:
    """A logits processor that leaves the given token alone, and keeps how far the model was from the given logs."""

    def __init__(self, tokens: Tensor, ids: Tensor, logs: Tensor) -> None:
        self.tokens, self.ids, self.logs = tokens, ids, logs
        self.divergences: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = len(self.divergences)
        whole, some = self.logs[:, step], _coarse(scores, self.ids[:, step])
        terms = torch.where(whole > -torch.inf, whole.exp() * (whole - some), 0.0)  # what cannot be adds nothing
        self.divergences.append(terms.sum(1))
        token = self.tokens[:, step, None].clamp(min=0)  # behind the end `generate` pads, whatever is said here
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


def _coarse(scores: Float[Tensor, "batch vocabulary"], ids: Int[Tensor, "batch likeliest"]) -> Tensor:
    """Log-probabilities of the tokens `ids`, and of all others together; (batch, likeliest + 1), float64."""
    logs = scores.double().log_softmax(-1)
    rest = logs.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([logs.gather(1, ids), rest], 1)


def _until_end(new: Int[Tensor, "batch steps"], ends: int | list[int] | None) -> Int[Tensor, "batch steps"]:
    """The ids up to the one that ends each answer; ENDED behind it."""
    ended = torch.isin(new, torch.as_tensor([] if ends is None else ends, device=new.device).to(new.dtype))
    return torch.where(ended.cumsum(1) - ended.long() == 0, new, ENDED)


@contextmanager
def _states(vlm: VLM) -> Iterator[list[Float[Tensor, "batch hidden"]]]:
    """Inside, what the vocabulary is read from at each step, in float32.

    Raises CheckpointError for a model without such a projection.
    """
    head = vlm.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is None:
        raise CheckpointError(f"{vlm.name} has no output embeddings to read states at: compare answers, by agreement")
    states: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][:, -1].detach().float()))
    try:
        yield states
    finally:
        hook.remove()
