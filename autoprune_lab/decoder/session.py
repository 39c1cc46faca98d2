"""Session: follows the forward calls of one attached model, and tells prefill from decoding."""

import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import Cache

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.cache import as_held, cache_of, is_static, is_whole, measure_whole, pruned_of, remember
from autoprune_lab.decoder.checks import form
from autoprune_lab.decoder.contract import PrunerLike
from autoprune_lab.decoder.decode import Decode
from autoprune_lab.decoder.episodes import Episodes
from autoprune_lab.decoder.extent import NPrompt, first_positions, first_tokens
from autoprune_lab.decoder.labels import given_labels, ignore_lost, own_labels
from autoprune_lab.decoder.layout import Prompt, Pruned, Stage, real_tokens, stands_for_picture
from autoprune_lab.decoder.marks import text_marked
from autoprune_lab.decoder.meter import Meter, cache_bytes, share
from autoprune_lab.decoder.places import told
from autoprune_lab.decoder.prefill import Prefill
from autoprune_lab.decoder.repeat import First, Generating, Repeat
from autoprune_lab.decoder.sharing import seen
from autoprune_lab.decoder.sight import KINDS, Shown, Sight
from autoprune_lab.decoder.static import Buffers, Step, buffers_of, check_static, lay
from autoprune_lab.decoder.tap import arm
from autoprune_lab.decoder.tower import Call, Tower
from autoprune_lab.models.visual_tokens import MARKS
from autoprune_lab.schedule.flops import prefill_flops, scoring_flops
from autoprune_lab.trace.sample import SampleTrace
from autoprune_lab.trace.trace import Trace, UnprunedWarning

_PICTURES = (
    "pixel_values",
    "pixel_values_images",
    "pixel_values_videos",
    "image_patches",
    "flattened_patches",
    "image_embeds",
)
"""What models of transformers call the pixels of images and videos, or features in their place."""

_NO_IDS = "pruning finds visual tokens by input_ids: call the attached model itself, with input_ids"


class Session:
    """One with-block on one model."""

    def __init__(
        self,
        anatomy: Anatomy,
        pruner: PrunerLike,
        keep_indices: bool,
        n_prompt: NPrompt | None,
        episodes: Episodes | None = None,
    ) -> None:
        self.anatomy, self.pruner, self.keep_indices, self.n_prompt = anatomy, pruner, keep_indices, n_prompt
        self.episodes = episodes
        self.tower = Tower.of(anatomy)
        self.trace, self.meter = Trace(), Meter()
        self.arguments: dict[str, Any] = {}
        self.run: Prefill | Repeat | Decode | Step | None = None
        self.prompt: Prompt | None = None
        self.generating: Generating | None = None
        self.shown: dict[str, Shown] = {}  # what the tower was last shown, by kind
        self._showing: str | None = None
        self.filled: Tensor | None = None  # which of them are there at all; None: all
        self.called = False
        self.continued = set[bool]()  # caches that were decoded on: were they pruned?
        self._turn = threading.RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One thread at a time: a second one is refused."""
        if not self._turn.acquire(blocking=False):
            raise ValueError(
                "two threads call one attached model at the same time: let them take turns, or give each its own model"
            )
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def generation(self, width: int | None, given: dict[str, Any]) -> Iterator[None]:
        """A call of `generate`; its vision tower may run before the model is called."""
        self.called = True
        if self.n_prompt is not None:
            raise ValueError("n_prompt is for forward(prompt + answer); generate knows its prompt: attach without it")
        with self.turn():
            outer, self.generating = self.generating, Generating(width, given)
            self.look()
            try:
                yield
            finally:
                self.generating = outer

    def __deepcopy__(self, memo: dict[int, Any]) -> "Session":
        """Refuse to become part of a second model."""
        raise ValueError("a model with a pruner attached cannot be copied: leave its with-block first")

    def call(self, forward: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Run the model's own `forward`, remembering what only it is told."""
        with self.turn():
            self.called = True
            self._check(arguments)
            self.prompt = self._read(arguments) if is_whole(cache_of(arguments)) else None
            _check_pictures(arguments, self.prompt, self.anatomy.visual_ids)
            if not arguments.get("mm_encoder_outputs"):  # otherwise `generate` has just run the tower for this call
                self.look()
            self.arguments, self.run = own_labels(arguments), None
            try:
                return forward(**self.arguments)
            finally:
                self.arguments, self.run, self.prompt, self.shown = {}, None, None, {}

    def can_step(self, arguments: dict[str, Any]) -> bool:
        """Is this a decode step on a pruned static cache, which `step` is for?"""
        plain = self.anatomy.speaker is None and not _has_pictures(arguments)
        return plain and buffers_of(cache_of(arguments)) is not None

    def step(self, forward: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """`call` in code that torch.compile traces: nothing is checked, nothing waits, threads are not told apart."""
        buffers = buffers_of(cache_of(arguments))
        assert buffers is not None  # see `can_step`
        self.called, self.run = True, Step(self.anatomy, buffers)
        output = forward(**arguments)
        self.run = None
        return output

    def prompted(self, input_ids: Tensor | None) -> None:
        """A language model inside begins its own `generate` with these prompts."""
        if self.generating is not None and input_ids is not None:
            self.generating.prompts, self.generating.width = input_ids, input_ids.shape[1]

    def speak(self, forward: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Run the forward of a language model inside: a part of the model's own, or a step of a `generate` of its own.

        Such a `generate` gives prompts as embeddings, into which it has put what it made of the pictures; or ids, and
        what it made of the pictures beside them (Kosmos-2).
        """
        if self.arguments or self.generating is None:
            return forward(**arguments)
        told, embeds = arguments, arguments.get("inputs_embeds")
        if embeds is not None or arguments.get("image_embeds") is not None:
            pixels = {name: value for name, value in self.generating.given.items() if name in _PICTURES}
            ids = arguments.get("input_ids") if embeds is None else self.generating.embedded(embeds)
            told = arguments | pixels | {"input_ids": ids, "mm_encoder_outputs": self.made()}
        return self.call(lambda **_: forward(**arguments), told)

    def look(self, filled: Bool[Tensor, "batch pictures"] | None = None) -> None:
        """The tower runs anew; where a batch is padded with pictures that nobody sees, `filled` is False at them."""
        self.shown, self.filled = {}, None if filled is None else filled.flatten().bool()
        self.meter.take()

    def made(self) -> dict[str, Any]:
        """What the tower has just made, by kind, for the call to come."""
        return {kind: self.shown.get(kind, Shown()).output for kind in KINDS}

    def show(self, kind: str, features: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """The model makes features of images or videos; videos may go the way of images."""
        if self._showing is not None:
            return features(**arguments)
        self._showing, self.shown[kind] = kind, Shown(told(arguments))
        try:
            output = self.shown[kind].output = features(**arguments)
        finally:
            self._showing = None
        return output

    def see(self, layer: int, call: Call) -> None:
        """The vision tower ran a layer that may be asked for."""
        if self._showing is not None:
            self.shown[self._showing].calls[layer] = call if self.filled is None else call.of(self.filled)

    def begin(self, arguments: dict[str, Any]) -> None:
        """The decoder starts."""
        if isinstance(self.run, Step):
            return  # of compiled code
        cache, self.called = cache_of(arguments), True
        if not self.arguments:
            raise ValueError(_NO_IDS)
        self.run = self._decode(cache) if self.prompt is None else self._begin(self.prompt)

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets instead of `hidden` and `kwargs`."""
        if self.run is None:
            raise ValueError(
                "a decoder layer ran outside its model's forward call: call the attached model itself, without "
                "gradient checkpointing where that runs the layers' hooks a second time"
            )
        before = self.stage()
        hidden, kwargs = self.run.enter(layer, hidden, kwargs)
        if self.generating is not None and isinstance(self.run, Prefill) and self.run.stage is not before:
            self.generating.entered[layer] = hidden
        if self.episodes is not None and layer == self.episodes.layer and isinstance(self.run, Decode):
            ended = torch.isin(self.arguments["input_ids"], self._ends())
            arm(self.anatomy.attention(layer), functools.partial(self.episodes.step, ended=ended))
        return hidden, kwargs

    def end(self, hidden: Tensor) -> Tensor:
        """The decoder is done: write the trace, give its output the full length again."""
        run = self.run
        assert run is not None  # `begin` came first
        if isinstance(run, Prefill):
            self._finish(run, hidden)
        if not isinstance(run, Decode | Step) and given_labels(self.arguments):
            ignore_lost(self.arguments, run.prompt.present(run.stage))
        self.run = None
        return run.restore(hidden)

    def stage(self) -> Stage | None:
        """The tokens in the layer that runs; None: all of them."""
        return self.run.stage if isinstance(self.run, Prefill | Repeat) else None

    def places(self, layer: int, hidden: Tensor) -> Tensor:
        """Where the tokens that enter layer `layer` stood before any cut, (1 or batch, tokens)."""
        if isinstance(self.run, Decode):
            return self.run.places(layer, hidden.shape[1])
        assert isinstance(self.run, Prefill | Repeat)  # neither a layer by itself, nor one of such a decoder's steps
        return self.run.stage.index

    def remember(self) -> None:
        """Write into the trace what the episodes' decisions looked at, and what it cost to know."""
        if self.episodes is None or not self.trace.samples:
            return
        histories, n_keys = self.episodes.made()
        for i, (sample, history, n) in enumerate(zip(self.trace.samples, histories, n_keys.tolist(), strict=True)):
            spent = scoring_flops(sample.geometry, 1, n, self.episodes.layer)
            self.trace.samples[i] = replace(sample, history=history, scoring_flops=sample.scoring_flops + spent)

    def warn(self) -> None:
        """Say what a user would otherwise take for pruned."""
        told = _nothing_pruned(self.trace.samples) if self.trace.samples else self._nothing_seen()
        for line in (told, self.trace.late_vision and _late(sum(self.trace.late_vision))):
            if line:
                warnings.warn(line, UnprunedWarning, stacklevel=4)  # points at the with-block

    def go_on(self, pruned: bool) -> None:
        """A call goes on from a cache whose prompt was `pruned`, or not."""
        self.called = True
        self.continued.add(pruned)

    def _begin(self, prompt: Prompt) -> Prefill | Repeat:
        """The run over prompts that no cache holds yet."""
        if self.episodes is not None:
            self.episodes.check(prompt, is_first=not self.trace.samples, cache=cache_of(self.arguments))
        first = None if self.generating is None else self.generating.first(self.arguments["input_ids"])
        if first is not None:
            return Repeat(self.anatomy, self.pruner.positions, first, prompt)
        marked = text_marked(self.anatomy, prompt, self.arguments)
        return Prefill(self.anatomy, self.pruner, prompt, marked, self._sight(prompt), self.episodes)

    def _ends(self) -> Tensor:
        """The tokens that end an answer, by what this call of `generate` was given, or by the model's own config."""
        given = {} if self.generating is None else self.generating.given
        model: Any = self.anatomy.model
        own = given.get("generation_config") or model.generation_config
        ends = given.get("eos_token_id", own.eos_token_id)
        ids = self.arguments["input_ids"]
        return torch.as_tensor([] if ends is None else ends, device=ids.device).to(ids.dtype)

    def _extent(self, real: Bool[Tensor, "batch positions"]) -> Bool[Tensor, "batch positions"] | None:
        """Where the prompts are, if this call may hold more."""
        if self.generating is not None and self.generating.width is not None:
            return first_positions(real, self.generating.width)
        return None if self.n_prompt is None else first_tokens(real, self.n_prompt)

    def _decode(self, cache: Cache) -> Decode | Step:
        """The run over tokens that come after what `cache` holds; their pictures are not pruned."""
        ids, mask = self.arguments["input_ids"], self.arguments.get("attention_mask")
        pruned, buffers = pruned_of(cache), buffers_of(cache)
        if buffers is not None:
            _check_mask_of_static(mask, ids, buffers)
        elif pruned is not None:
            pruned = as_held(pruned, cache, len(ids))
            _check_mask(mask, cache.get_seq_length() + ids.shape[1])
        if self.episodes is not None:
            self.episodes.check_step(ids)
        if _has_pictures(self.arguments):
            self._tell_late(int(stands_for_picture(ids, self.anatomy.visual_ids, _marks(self.arguments)).sum()))
        self.go_on(pruned is not None)
        return Decode(self.anatomy, pruned, mask, cache) if buffers is None else Step(self.anatomy, buffers)

    def _finish(self, run: Prefill, hidden: Tensor) -> None:
        """Write the trace, and on the cache how its prompts were pruned; without a cache, remember it here."""
        n_layers = len(self.anatomy.layers)
        if len(run.stages) < n_layers:
            raise ValueError(
                f"{len(run.stages)} of {n_layers} decoder layers ran under the pruner: code compiled earlier, or a "
                "draft of early layers, skips the others; attach to the model before anything of it is compiled"
            )
        self.trace.samples.extend(_samples(run, self.keep_indices, self.meter.take()))
        self._tell_late(int(run.prompt.n_late.sum()))
        generating = self.generating
        if run.cache is not None:
            pruned = Pruned(run.prompt.stage, seen(self.anatomy, run.stages), self.pruner.positions)
            width = generating.width if generating is not None and generating.width else pruned.width
            pruned = pruned.without_end(max(pruned.width - width, 0))  # candidates may be taken back
            if run.room is None:
                remember(run.cache, pruned)
                if self.anatomy.expert is not None:
                    measure_whole(run.cache)
            else:
                lay(run.cache, self.anatomy, pruned, run.room, hidden)
        elif generating is not None:
            generating.firsts.append(First(run, self.arguments["input_ids"], dict(generating.entered)))
        if generating is not None:
            generating.entered.clear()

    def _tell_late(self, n_vision: int) -> None:
        if n_vision:
            self.trace.late_vision.append(n_vision)

    def _nothing_seen(self) -> str | None:
        """Why the trace is empty; None where a later turn of a pruned prompt went on, or an exception said it."""
        if not self.called:
            return (
                "the attached model was not called in this block: nothing was pruned; call the model that attach got, "
                "and no copy of it"
            )
        if self.continued == {False}:
            return (
                "nothing was pruned: every call went on from a cache that was filled outside the block; "
                "begin with the prompt inside it"
            )
        return None

    def _check(self, arguments: dict[str, Any]) -> None:
        """Refuse what no prompt can be read from, before anything runs."""
        ids, mask, cache = arguments.get("input_ids"), arguments.get("attention_mask"), cache_of(arguments)
        if ids is None:
            raise ValueError(_NO_IDS)
        if not isinstance(ids, Tensor) or ids.ndim != 2 or not ids.numel():
            raise ValueError(f"input_ids are {form(ids)}: pruning needs a (batch, tokens) tensor that is not empty")
        if cache is not None and not isinstance(cache, Cache):
            raise ValueError(
                f"a cache of kind {form(cache)} is not supported while a pruner is attached: use a DynamicCache"
            )
        if is_static(cache):
            check_static(self.anatomy, cache)
            if buffers_of(cache) is not None:
                return  # a decode step's mask may be any that transformers made
        if mask is not None and (not isinstance(mask, Tensor) or mask.ndim != 2):
            raise ValueError(f"attention_mask is {form(mask)}: pruning needs the (batch, tokens) padding mask")

    def _read(self, arguments: dict[str, Any]) -> Prompt:
        ids, mask = arguments["input_ids"], arguments.get("attention_mask")
        if mask is not None and mask.shape != ids.shape:
            raise ValueError(f"attention_mask is {form(mask)}, input_ids are {form(ids)}: give one flag a token")
        marks = arguments.get(MARKS)
        if marks is not None and marks.shape != ids.shape:
            raise ValueError(f"{MARKS} is {form(marks)}, input_ids are {form(ids)}: give one mark a token")
        return Prompt.read(ids, mask, self.anatomy.visual_ids, self._extent(real_tokens(ids, mask)), marks)

    def _sight(self, prompt: Prompt) -> Sight:
        """What may be seen of the tower in this call; what it saw for other features is not of this call."""
        features = {kind: given for kind in KINDS if (given := _features(self.arguments, kind)) is not None}
        told_here = told(self.arguments if self.generating is None else self.generating.given | self.arguments)
        shown = {}
        for kind in KINDS:
            seen = self.shown.get(kind, Shown())
            ours = kind not in features or features[kind] is seen.output
            shown[kind] = seen if ours and seen.given else Shown(told_here | features.get(kind, {}).get("told", {}))
        return Sight(self.anatomy, self.tower, prompt, self.arguments["input_ids"], shown, features)


def _check_pictures(arguments: dict[str, Any], prompt: Prompt | None, visual_ids: Sequence[int]) -> None:
    """Refuse images and videos that no token of the prompt stands for.

    Not on a cache where marks tell: Kosmos-2 wants its pictures with every call, and reads them with the prompt only.
    """
    if not _has_pictures(arguments) or (prompt is None and not visual_ids):
        return
    ids = arguments["input_ids"]
    found = stands_for_picture(ids, visual_ids).any() if prompt is None else prompt.n_pictured.any()
    if not found:
        ids_lack = f"input_ids hold none of the config's image and video token ids ({', '.join(map(str, visual_ids))})"
        raise ValueError(
            f"no visual tokens found: {ids_lack if visual_ids else f'{MARKS} marks no token'} outside their padding; "
            "make the prompt with the model's own processor"
        )


def _marks(arguments: dict[str, Any]) -> Tensor | None:
    """What marks pictures among the new tokens of a later call; the prompt's own marks may come again, and say none."""
    marks: Tensor | None = arguments.get(MARKS)
    return marks if marks is not None and marks.shape == arguments["input_ids"].shape else None


def _has_pictures(arguments: dict[str, Any]) -> bool:
    return any(arguments.get(name) is not None for name in _PICTURES) or any(
        _features(arguments, kind) is not None for kind in ("image", "video")
    )


def _features(arguments: dict[str, Any], kind: str) -> Any:
    """What the vision tower made of images or videos before the call; None if nothing."""
    return (arguments.get("mm_encoder_outputs") or {}).get(kind)


def _check_mask(mask: Tensor | None, n_tokens: int) -> None:
    if mask is not None and mask.shape[1] != n_tokens:
        raise ValueError(
            f"attention_mask covers {mask.shape[1]} positions, pruned cache and new tokens stand for {n_tokens}: "
            "it must cover the prompt as it was before pruning and everything since; a new prompt needs a new cache"
        )


def _check_mask_of_static(mask: Any, ids: Tensor, buffers: Buffers) -> None:
    """What can be told without asking the device how many tokens a static cache holds."""
    if len(ids) != len(buffers.places):
        raise ValueError(
            f"input_ids hold {len(ids)} samples, the pruned static cache {len(buffers.places)}: go on with all, "
            "or start again from the prompt"
        )
    least = buffers.width + ids.shape[1]
    if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] < least:
        _check_mask(mask, least)


def _nothing_pruned(samples: list[SampleTrace]) -> str | None:
    """None where any token went."""
    if any((sample.counts < sample.geometry.n_vision).any() for sample in samples):
        return None
    if not any(sample.geometry.n_vision for sample in samples):
        return f"nothing was pruned: none of the {len(samples)} prompts of this block has visual tokens"
    return f"nothing was pruned: the plan keeps every visual token of the {len(samples)} prompts of this block"


def _late(n_vision: int) -> str:
    return (
        f"{n_vision} visual tokens were kept whole: they came after a prompt, on a cache that already held one or "
        "behind n_prompt (see trace.late_vision)"
    )


def _samples(run: Prefill, keep_indices: bool, vision_flops: int) -> list[SampleTrace]:
    """One record a sample; the counts are of the stages that ran, not of the plan."""
    counts = run.settle()
    planned = np.zeros_like(counts) if run.plan is None else run.plan.tokens
    kept = _kept(run) if keep_indices else [None] * len(counts)
    vision = share(vision_flops, run.prompt.n_pictured.tolist())
    held = cache_bytes(run.cache, counts + np.array([[geometry.n_text] for geometry in run.geometries]))
    return [
        SampleTrace(
            geometry=geometry,
            planned=planned[i],
            counts=counts[i],
            decoder_flops=prefill_flops(geometry, counts[i]),
            scoring_flops=int(run.scoring_flops[i]),
            vision_flops=vision[i],
            kv_cache_bytes=int(held[i]),
            complexity=float(run.complexities[i]) if run.pruner.policy.adaptive else None,
            kept=kept[i],
            ends_in_picture=bool(run.prompt.ends_in_picture[i]),
            attention_from=dict(run.attention_from),
        )
        for i, geometry in enumerate(run.geometries)
    ]


def _kept(run: Prefill) -> list[list[np.ndarray]]:
    """Per sample and layer: the indices of its visual tokens, within the sample; one host synchronisation."""
    stages = list(dict.fromkeys(run.stages))
    ranks = torch.cat([stage.rank.masked_fill(~stage.visual, -1) for stage in stages], dim=1).cpu().numpy()
    ends = np.cumsum([stage.index.shape[1] for stage in stages])[:-1]
    views = dict(zip(stages, np.split(ranks, ends, axis=1), strict=True))
    return [[rank[i][rank[i] >= 0] for rank in map(views.__getitem__, run.stages)] for i in range(len(ranks))]
