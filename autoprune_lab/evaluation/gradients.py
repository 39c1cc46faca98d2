"""What one visual token more in a layer would do to the answer: straight-through gradients on a frozen model."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.attach import attached, needs_pixels
from autoprune_lab.decoder.gates import Gate, gated
from autoprune_lab.decoder.layout import Picks, Prompt
from autoprune_lab.evaluation.divergence import log_probabilities
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.evidence.evidence import Evidence, Scorer
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.visual_tokens import MARKS
from autoprune_lab.progress import progress as bar
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.recovery import drop

EDGE = 0.03  # of a sample's visual tokens: how far around the last one kept a token more is looked for

Gradients = Float[np.ndarray, "samples layers"]


def count_gradients(
    vlm: VLM, prepared: PreparedTask, pruner: Pruner, whole: Float[np.ndarray, "samples vocabulary"], progress: bool
) -> Gradients:
    """How the likeness to the unpruned model changes with each count of visual tokens that enter a layer.

    Likeness is exp(-KL) in [0, 1], the divergence that of the probabilities of the answer's first token from the
    unpruned model's, whose logarithms are `whole`, see `unpruned_logs`. The pruned model is run once as ever, to learn
    which tokens it keeps and how those ranked that it drops; then at full length with a gate a token and layer, shut
    where the token was dropped, and back. The run's value is the pruned one's (straight-through); a token more in a
    layer is a part of each token whose rank is near the last one kept, at its whole share of the attention there.
    Layers in which nothing is dropped have gradient 0.

    Costs the pruned prefill and about three unpruned ones; memory as for training, a batch at a time.
    Raises ValueError as `check_gradients` does.

    Source: arXiv 1308.3432 (straight-through), arXiv 2604.15188 (VisPCO).
    Differs: VisPCO has no code; its gates, temperature and loss are not known. Here the gradient is to the counts, not
    to the parameters of a curve: how a curve's counts follow its parameters is arithmetic.
    """
    check_gradients(pruner)
    found = np.zeros((len(prepared.samples), prepared.geometries[0].n_layers))
    for batch in bar(prepared.batches, doing="gradients of the counts", unit="batches", shown=progress):
        found[list(batch.places)] = _of_batch(vlm, batch, pruner, whole[list(batch.places)])
    return found


def unpruned_logs(vlm: VLM, prepared: PreparedTask) -> Float[np.ndarray, "samples vocabulary"]:
    """The unpruned model's log-probabilities of the token behind each prompt."""
    found: dict[int, np.ndarray] = {}
    for batch in prepared.batches:
        found |= zip(batch.places, log_probabilities(vlm, batch, None).cpu().numpy(), strict=True)
    return np.stack([found[place] for place in range(len(found))])


def check_gradients(pruner: Pruner) -> None:
    """Raise ValueError for a pruner whose dropped tokens leave something behind, or whose kept ones are renumbered."""
    if getattr(pruner.recovery, "func", pruner.recovery) is not drop:
        raise ValueError("this recovery makes tokens of those that go, which has no gradient here: use recovery=drop")
    if pruner.positions != "original":
        raise ValueError(f"positions={pruner.positions} has no gradient here: use pruner.positions=original")


class _Heard:
    """A scorer that notes what it says: the layer that its tokens enter next, their own numbers, their scores."""

    def __init__(self, scorer: Scorer, said: list[tuple[int, Tensor, Tensor]]) -> None:
        self.scorer, self.said = scorer, said

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        scores = self.scorer(evidence)
        self.said.append((evidence.layer + 1, evidence.index, scores.masked_fill(~evidence.vision_mask, -torch.inf)))
        return scores

    def __getattr__(self, name: str) -> Any:
        """What else the scorer wants to see; but it is asked for all tokens, never for the `first`."""
        if name in ("first", "func"):
            raise AttributeError(name)
        return getattr(getattr(self.scorer, "func", self.scorer), name)


def _of_batch(
    vlm: VLM, batch: Batch, pruner: Pruner, whole: Float[np.ndarray, "batch vocabulary"]
) -> Float[np.ndarray, "batch layers"]:
    model, said = vlm.model, list[tuple[int, Tensor, Tensor]]()
    listening = replace(
        pruner,
        scorer=_Heard(pruner.scorer, said),
        opening_scorer=None if pruner.opening_scorer is None else _Heard(pruner.opening_scorer, said),
    )
    with torch.inference_mode(), attached(listening, model, warn=False) as trace:
        model(**batch.arguments(needs_pixels(pruner, model)), logits_to_keep=1)
    kept = np.stack([sample.counts for sample in trace.samples])
    if not said:
        return np.zeros(kept.shape)
    given = _outside_inference(batch.arguments())
    logs, counts = gated_log_probabilities(vlm, given, kept, _ranks(_outside_inference(said), *kept.shape))
    theirs = torch.as_tensor(whole, device=logs.device)
    likeness = (theirs.exp() * (logs - theirs)).sum(1).exp()
    (gradient,) = torch.autograd.grad(likeness.sum(), counts)
    return np.asarray(gradient.double().cpu().numpy())


def gated_log_probabilities(
    vlm: VLM, given: dict[str, Any], kept: Int[np.ndarray, "batch layers"], ranks: Sequence[Int[Tensor, "batch _"]]
) -> tuple[Float[Tensor, "batch vocabulary"], Float[Tensor, "batch layers"]]:
    """As `log_probabilities` of the run that keeps the `kept` best ranked tokens of each layer; and the counts.

    The former have a gradient to the latter. `ranks` are of each layer's visual tokens, by their number in the sample.
    """
    ids = given["input_ids"]
    stage = Prompt.read(
        ids, given.get("attention_mask"), Anatomy.of(vlm.model).visual_ids, marks=given.get(MARKS)
    ).stage
    counts = torch.as_tensor(kept, dtype=torch.float32, device=ids.device).requires_grad_()
    cuts = np.any(kept < stage.n_vision[:, None], axis=0).tolist()
    with torch.enable_grad():
        gates = [
            _gate(rank, count, stage.vision, ids.shape[1]) if cut else None
            for rank, count, cut in zip(ranks, counts.unbind(1), cuts, strict=True)
        ]
        with gated(vlm.model, gates):
            logits: Tensor = vlm.model(**given, logits_to_keep=1, use_cache=False).logits
    return logits[:, -1].float().log_softmax(-1), counts


def _gate(rank: Int[Tensor, "batch _"], count: Float[Tensor, "batch"], vision: Picks, n_keys: int) -> Gate:
    """Open for the `count` best ranked; a token more is shared out to those whose rank is nearest to it."""
    rank, n, real = rank[:, : vision.slots.shape[1]], count.detach()[:, None], vision.real
    far = ((rank + 0.5 - n) / (EDGE * real.sum(1, keepdim=True))).square().masked_fill(~real, torch.inf)
    near = (-far / 2).softmax(1).nan_to_num()  # of a sample without any

    def at_keys(values: Float[Tensor, "batch vision"]) -> Float[Tensor, "batch keys"]:
        return values.new_zeros(len(values), n_keys).scatter_add(1, vision.slots, values * real)

    return Gate(at_keys((rank >= n).float()) > 0, at_keys(near), count - n[:, 0])


def _ranks(said: Sequence[tuple[int, Tensor, Tensor]], n_samples: int, n_layers: int) -> list[Int[Tensor, "batch _"]]:
    """Each layer's ranks of all visual tokens, from 0, by their number in the sample; the last column is nobody's.

    Those of the last cut; a token that went before keeps the rank at which it went, which is behind all that stayed.
    Before the first cut, where all stay, they are that cut's.
    """
    width = 1 + max(int(index.max()) for _, index, _ in said)
    rank = torch.arange(width + 1, device=said[0][1].device).repeat(n_samples, 1)
    known: dict[int, Tensor] = {}
    for layer, index, scores in said:
        order = scores.argsort(dim=1, descending=True, stable=True)
        places = torch.arange(order.shape[1], device=order.device).expand_as(order)
        rank = rank.scatter(1, index.gather(1, order) % (width + 1), places)
        known[layer] = rank
    first = min(known)
    return [known[max((cut for cut in known if cut <= layer), default=first)] for layer in range(n_layers)]


def _outside_inference(value: Any) -> Any:
    """The same with tensors that autograd may save, where it was made in inference mode."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        made = copy(value)
        for name, one in value.items():
            made[name] = _outside_inference(one)
        return made
    return type(value)(map(_outside_inference, value)) if isinstance(value, list | tuple) else value
