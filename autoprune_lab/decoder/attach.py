"""Attaches a pruner to a model for the length of a with-block."""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_masks_for_generate

from autoprune_lab.decoder.acting import Acting
from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.cache import cache_of, is_whole
from autoprune_lab.decoder.contract import PrunerLike
from autoprune_lab.decoder.deepstack import adds_features, following
from autoprune_lab.decoder.eager import called_eagerly, eager, plain
from autoprune_lab.decoder.episodes import Episodes
from autoprune_lab.decoder.expert import EMBED
from autoprune_lab.decoder.extent import NPrompt, check_n_prompt
from autoprune_lab.decoder.positions import check_compact
from autoprune_lab.decoder.session import Session
from autoprune_lab.decoder.shadow import shadowed
from autoprune_lab.decoder.sharing import SLICED, computes_last_only
from autoprune_lab.decoder.sight import KINDS
from autoprune_lab.decoder.signatures import names_of
from autoprune_lab.decoder.source import no_attention
from autoprune_lab.decoder.static import Step
from autoprune_lab.decoder.streams import joined, parted
from autoprune_lab.decoder.tap import disarm
from autoprune_lab.decoder.temperature import by_original_place, counts_places
from autoprune_lab.decoder.tower import Tower, watch
from autoprune_lab.evidence.evidence import TowerLayer, tower_layers_of
from autoprune_lab.evidence.history import History, recall_of
from autoprune_lab.trace.trace import Trace

_ATTACHED: WeakSet[nn.Module] = WeakSet()
_LOCK = threading.Lock()


_UNSUPPORTED = {
    "prefill_chunk_size": "only whole prompts are planned",
    "assistant_early_exit": "the draft would run through the layers that prune",
}
"""Options of `generate`, and what speaks against each."""

_MASKS = "create_masks_for_generate"
_BATCHING = "init_continuous_batching"  # whatever batches continuously begins here


@contextmanager
def attached(
    pruner: PrunerLike,
    model: nn.Module,
    keep_indices: bool = False,
    n_prompt: NPrompt | None = None,
    warn: bool = True,
    own: Callable[[], AbstractContextManager[Any]] = nullcontext,
    history: Sequence[History] | None = None,
) -> Iterator[Trace]:
    """See `Pruner.attach`; without `warn` a block in which nothing was pruned says nothing.

    `own()` is entered around all that is done between the decoder's layers, so that it can be timed.
    """
    anatomy = Anatomy.of(plain(model))
    _check_probe(pruner, len(anatomy.layers))
    if pruner.positions == "compact":
        check_compact(anatomy)
    check_n_prompt(n_prompt)
    if anatomy.expert is not None:
        anatomy.expert.check(n_prompt, history is not None)
    session = Session(anatomy, pruner, keep_indices, n_prompt, _episodes(pruner, anatomy, history))
    with _alone(anatomy.decoder), eager(anatomy), ExitStack() as undo:
        _ = anatomy.geometry  # a decoder whose costs cannot be told is refused here, before anything is hooked
        _hook(session, undo, own)
        _guard_generate(session, undo)
        yield session.trace
        session.remember()
    if warn:
        session.warn()


def _check_probe(pruner: PrunerLike, n_layers: int) -> None:
    if pruner.probe_layer >= n_layers - 1:
        raise ValueError(
            f"probe_layer={pruner.probe_layer} leaves nothing to prune in {n_layers} layers: "
            f"choose -1 to {n_layers - 2}"
        )


def _episodes(pruner: PrunerLike, anatomy: Anatomy, history: Sequence[History] | None) -> Episodes | None:
    """The episodes that the block goes on with, if a part of the pruner reads their history."""
    recall = None if history is None else recall_of(_parts(pruner))
    if history is None or recall is None:
        return None
    number = recall.number(len(anatomy.layers))
    layer = anatomy.attention_below(number)
    if layer is None:
        raise ValueError(no_attention(number, anatomy.attentive[0]))
    return Episodes(recall, layer, history)


@contextmanager
def _alone(decoder: nn.Module) -> Iterator[None]:
    with _LOCK:
        if decoder in _ATTACHED:
            raise ValueError("a pruner is already attached to this model: leave its with-block first")
        _ATTACHED.add(decoder)
    try:
        yield
    finally:
        with _LOCK:
            _ATTACHED.discard(decoder)


def _hook(session: Session, undo: ExitStack, own: Callable[[], AbstractContextManager[Any]]) -> None:
    anatomy = session.anatomy

    def within(hook: Callable[..., Any]) -> Callable[..., Any]:
        return hook if own is nullcontext else functools.partial(_within, own, hook)

    def before(module: nn.Module, hook: Callable[..., Any]) -> None:
        undo.callback(module.register_forward_pre_hook(within(hook), with_kwargs=True).remove)

    def after(module: nn.Module, hook: Callable[..., Any]) -> None:
        undo.callback(module.register_forward_hook(within(hook)).remove)

    if anatomy.expert is None:
        undo.enter_context(_calling(anatomy.model, session.call, session))
    else:
        _hook_expert(Acting(session, anatomy.expert), undo, before)
    if anatomy.speaker is not None:
        undo.enter_context(_calling(anatomy.speaker, session.speak))
    before(anatomy.decoder, lambda module, args, kwargs: session.begin(_named(module.forward, args, kwargs)))
    if computes_last_only(anatomy):
        before(anatomy.decoder, lambda module, args, kwargs: (args, kwargs | {SLICED: 0}))
    for index, layer in enumerate(anatomy.layers):
        _, *names = names_of(layer)
        before(layer, functools.partial(_enter, session, index, names))
        if (attention := anatomy.attention(index)) is not None:
            undo.callback(disarm, attention)
        if counts_places(layer):
            undo.enter_context(by_original_place(layer, functools.partial(session.places, index)))
    if anatomy.tower is not None:
        undo.enter_context(session.meter.on(anatomy.tower))
    if (tower := session.tower) is not None:
        for number in watched(session.pruner, tower):
            undo.callback(watch(tower, number, functools.partial(session.see, number)).remove)
    for kind in KINDS:
        if (features := getattr(anatomy.model.base_model, f"get_{kind}_features", None)) is not None:
            undo.enter_context(_shown(session, kind, anatomy.model.base_model, features))
    if adds_features(anatomy.decoder):
        undo.enter_context(following(anatomy.decoder, session.stage))
    after(anatomy.decoder, functools.partial(_leave, session))


def _hook_expert(acting: Acting, undo: ExitStack, before: Callable[[nn.Module, Callable[..., Any]], None]) -> None:
    expert: Any = acting.expert
    undo.enter_context(_embedding(acting))
    undo.enter_context(_calling(expert.reader, acting.read))
    undo.enter_context(_calling(expert.decoder, acting.act))
    for index, layer in enumerate(expert.layers):
        _, _, *names = names_of(layer)
        before(layer, functools.partial(_enter_expert, acting, index, names))


def _within(own: Callable[[], AbstractContextManager[Any]], hook: Callable[..., Any], *args: Any) -> Any:
    with own():
        return hook(*args)


def watched(pruner: PrunerLike, tower: Tower) -> list[int]:
    """Tower layers whose calls are kept: the one that the decoder reads, and those that a part names."""
    return sorted({tower.index, *map(tower.number, _named_layers(pruner))})


def needs_pixels(pruner: PrunerLike | None, model: nn.Module) -> bool:
    """Does a part name tower layers that cannot be read off features made before the call, see `VisionEncoder`?

    Without a pruner none does. Of a tower with [CLS] the input of the layer that the decoder reads is kept with them,
    of others no layer.
    """
    layers = [] if pruner is None else _named_layers(pruner)
    tower = Tower.of(Anatomy.of(plain(model))) if layers else None
    return tower is not None and any(tower.number(n) != tower.index or not tower.has_cls for n in layers)


def _named_layers(pruner: PrunerLike) -> list[TowerLayer]:
    return [layer for part in _parts(pruner) for layer in tower_layers_of(part)]


def _parts(pruner: PrunerLike) -> list[object]:
    """What looks at evidence."""
    return [pruner.scorer, pruner.opening_scorer, pruner.complexity, pruner.recovery]


def _shown(session: Session, kind: str, owner: Any, features: Callable[..., Any]) -> Any:
    @functools.wraps(features)
    def shown(*args: Any, **kwargs: Any) -> Any:
        return session.show(kind, features, _named(features, args, kwargs))

    return shadowed(owner, f"get_{kind}_features", shown)


def _calling(model: Any, call: Callable[..., Any], steps: Session | None = None) -> Any:
    """Inside the block `call(forward, arguments)` stands for the model's forward.

    No hook, since wrappers such as PEFT's call `forward` directly; accelerate keeps the model's own aside. Where
    `steps` can, torch.compile traces a decode step; for any other call a compiled caller leaves its graph.
    """
    name = "_old_forward" if hasattr(model, "_old_forward") else "forward"
    forward = getattr(model, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        return call(forward, _named(forward, args, kwargs))

    eagerly = called_eagerly(forward, called)
    if steps is None:
        return shadowed(model, name, eagerly)

    @functools.wraps(forward)
    def stepped(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() and not args and steps.can_step(kwargs):
            return steps.step(forward, kwargs)
        return eagerly(*args, **kwargs)

    return shadowed(model, name, stepped)


def _enter(
    session: Session, index: int, names: Sequence[str], module: nn.Module, args: Any, kwargs: Any
) -> tuple[Any, Any]:
    given = dict(zip(names, args, strict=False)) | kwargs
    own, n_streams = given.pop(names[0]), session.anatomy.streams
    side_by_side = joined(own, n_streams)
    hidden, kwargs = session.enter(index, side_by_side, given)
    return (own if hidden is side_by_side else parted(hidden, n_streams),), kwargs


def _embedding(acting: Acting) -> Any:
    embed = getattr(acting.expert.owner, EMBED)

    def embedding(*args: Any, **kwargs: Any) -> Any:
        return acting.embed(embed, _named(embed, args, kwargs))

    return shadowed(acting.expert.owner, EMBED, called_eagerly(embed, embedding))


def _enter_expert(
    acting: Acting, index: int, names: Sequence[str], module: nn.Module, args: Any, kwargs: Any
) -> tuple[Any, Any]:
    return args[:1], acting.enter(index, dict(zip(names, args[1:], strict=False)) | kwargs)


def _leave(session: Session, module: nn.Module, args: Any, output: Any) -> Any:
    if isinstance(session.run, Step):
        return None  # the output is what it is
    if isinstance(output, tuple):
        return (session.end(output[0]), *output[1:])
    output.last_hidden_state = session.end(output.last_hidden_state)
    return output


def _named(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a forward call, by name."""
    if not args:
        return kwargs
    names = list(inspect.signature(forward).parameters)
    return dict(zip(names, args, strict=False)) | kwargs


def _guard_generate(session: Session, undo: ExitStack) -> None:
    """Tell the session of every `generate`, and refuse what it could not follow; shadows it on the instance."""
    model, speaker = session.anatomy.model, session.anatomy.speaker
    generate = getattr(model, "generate", None)
    if generate is None:
        return

    @functools.wraps(generate)
    def guarded(*args: Any, **kwargs: Any) -> Tensor | Any:
        with session.generation(_width(args, kwargs), _named(generate, args, kwargs)):
            _check_options(model, args, kwargs)
            return generate(*args, **kwargs)

    undo.enter_context(shadowed(model, "generate", guarded))
    own_masks = getattr(model, _MASKS, create_masks_for_generate)

    @functools.wraps(own_masks)
    def masks(*args: Any, **kwargs: Any) -> Any:
        """What `generate` makes for a static cache before the call: of a whole prompt the padding mask is needed."""
        return kwargs.get("attention_mask") if is_whole(cache_of(kwargs)) else own_masks(*args, **kwargs)

    undo.enter_context(shadowed(model, _MASKS, masks))
    if speaker is not None:
        speak = speaker.generate

        @functools.wraps(speak)
        def spoken(*args: Any, **kwargs: Any) -> Tensor | Any:
            _check_options(speaker, args, kwargs)
            session.prompted(kwargs.get("input_ids"))
            return speak(*args, **kwargs)

        undo.enter_context(shadowed(speaker, "generate", spoken))
    if hasattr(model, _BATCHING):
        undo.enter_context(shadowed(model, _BATCHING, _refuse_batching))


def _check_options(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise ValueError for options of a `generate`, or of its configs, that pruning could not follow."""
    configs = (kwargs.get("generation_config"), *args[1:2], model.generation_config)
    for name, reason in _UNSUPPORTED.items():
        if any(value is not None for value in (kwargs.get(name), *(getattr(c, name, None) for c in configs))):
            raise ValueError(f"{name} is not supported while a pruner is attached: {reason}, leave it out")


def _refuse_batching(*args: Any, **kwargs: Any) -> None:
    raise ValueError(
        "continuous batching (generate_batch, a paged cache) is not supported while a pruner is attached: use generate"
    )


def _width(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """How many positions the prompts given to `generate` take; None where it was given no token ids."""
    given = (kwargs.get("input_ids"), kwargs.get("inputs"), *args[:1])
    ids = next((value for value in given if isinstance(value, Tensor)), None)
    return None if ids is None else ids.shape[1]
