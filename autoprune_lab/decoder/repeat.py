"""`generate` without a cache computes the prompt again with every token: what was dropped the first time stays away."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.layout import Prompt, Stage, take
from autoprune_lab.decoder.prefill import Prefill
from autoprune_lab.decoder.view import View


class First:
    """A prompt's first forward call in a `generate` without a cache, to be repeated.

    `input_ids` (batch, positions) are its prompts, `entered` what the layers got at whose entrance tokens went.
    """

    def __init__(self, run: Prefill, input_ids: Tensor, entered: dict[int, Tensor]) -> None:
        self.run, self.input_ids, self.entered = run, input_ids, entered

    @property
    def width(self) -> int:
        """Positions of its prompts."""
        return self.input_ids.shape[1]

    def begins(self, input_ids: Tensor) -> bool:
        """Do these prompts, and some more tokens, make up `input_ids`?"""
        longer = input_ids.shape[1] > self.width
        return longer and torch.equal(input_ids[:, : self.width], self.input_ids)  # False for another batch size


class Generating:
    """One call of `generate`, whose prompts are `width` positions wide, None where they are not known.

    Without a cache a prompt is computed with every token: `firsts` tell how it was pruned, and so was the negative
    prompt of classifier-free guidance; `entered` gathers what the layers got that cut. `given` are its
    arguments, of which the model is not told all. `prompts` (batch, width) are known where a language model inside
    generates, which is told embeddings of them.
    """

    def __init__(self, width: int | None, given: dict[str, Any]) -> None:
        self.width, self.given, self.entered = width, given, dict[int, Tensor]()
        self.firsts = list[First]()
        self.prompts: Tensor | None = None

    def embedded(self, embeds: Tensor) -> Tensor | None:
        """The ids of prompts that came as `embeds` (batch, width, hidden), repeated for beams; None: not known."""
        if self.prompts is None or embeds.shape[1] != self.width:
            return None
        return self.prompts.repeat_interleave(len(embeds) // len(self.prompts), dim=0)

    def first(self, input_ids: Tensor) -> First | None:
        """How the prompt was pruned that begins `input_ids`: the longest one that does."""
        return max((one for one in self.firsts if one.begins(input_ids)), key=lambda one: one.width, default=None)


class Repeat:
    """State of one later forward call; `prompt` holds the prompts and all that was decoded since.

    Nothing is planned or scored, and recoveries need not merge again: every layer where tokens went gets the visual
    tokens that it got the first time.
    """

    def __init__(self, anatomy: Anatomy, positions: str, first: First, prompt: Prompt) -> None:
        self.first, self.prompt = first, prompt
        samples = torch.arange(len(prompt.rows), device=prompt.rows.device)[:, None]
        self.stage, self.view = prompt.stage, View(anatomy, positions, samples)
        begun = first.run.prompt.stage
        longer = {begun: prompt.stage}
        for stage in first.run.stages:
            if stage not in longer:
                longer[stage] = _longer(stage, begun, prompt.stage)
        self.stages = [longer[stage] for stage in first.run.stages]

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets instead of `hidden` (batch, slots, hidden) and `kwargs`."""
        if self.stages[layer] is not self.stage:
            hidden = self._cut(hidden, self.stages[layer], self.first.entered[layer])
        return hidden, self.view.narrow(layer, kwargs, hidden, self.stage)

    def restore(self, hidden: Tensor) -> Tensor:
        """The decoder's output at full length: zeros where tokens were dropped."""
        return self.prompt.spread(hidden, self.stage)

    def _cut(self, hidden: Tensor, stage: Stage, entered: Tensor) -> Tensor:
        hidden = take(hidden, self.stage.slots_of(stage)[..., None], dim=1)
        before = entered.shape[1]
        same = torch.where(stage.visual[:, :before, None], entered, hidden[:, :before])
        self.stage = stage
        return torch.cat([same, hidden[:, before:]], dim=1)


def _longer(stage: Stage, begun: Stage, now: Stage) -> Stage:
    """`stage` with the tokens that `now` has more than `begun`."""
    n = begun.index.shape[1]

    def joined(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old, new[:, n:]], dim=1)

    return replace(
        stage,
        index=joined(stage.index, now.index),
        real=joined(stage.valid, now.valid),
        others=joined(stage.others, now.others),
        ranks=joined(stage.ranks, now.ranks),
        n_valid=stage.n_valid + now.n_valid - begun.n_valid,
        ahead=None,
    )
