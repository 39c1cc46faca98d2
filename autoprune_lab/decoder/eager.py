"""Models that torch.compile or PEFT has wrapped: hooks run in the plain model's own Python code only."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.shadow import shadowed

_COMPILED_CALL = "_compiled_call_impl"  # what `module.compile()` sets
_WHY = (
    "a pruner is attached, whose prefill is not compiled: compile without fullgraph, or decode steps on a StaticCache"
)
_WRITTEN = "_torchdynamo_orig_callable"  # how torch.compile(function) names the function


def plain(model: Any) -> Any:
    """The transformers model inside what torch.compile and PEFT made of it; a call of theirs runs through it."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif hasattr(model, "get_base_model"):
            model = model.get_base_model()
        else:
            return model


@contextmanager
def eager(anatomy: Anatomy) -> Iterator[None]:
    """Inside the block modules run as they are written, not as they were compiled: compiled code skips new hooks.

    A layer's own compiled `forward` stays, hooks run around it. ValueError for a compiled wrapper between the model
    and its layers, which cannot be opened.
    """
    above, compiled = list[nn.Module](), list[nn.Module]()
    _find(anatomy.model, anatomy.layers, above, compiled)
    if (expert := anatomy.expert) is not None:
        _find(expert.model, expert.layers, above, compiled)
    for module in above:
        if hasattr(module, "_orig_mod"):
            raise ValueError(
                f"{type(module._orig_mod).__name__} inside the model is wrapped by torch.compile, where hooks are "
                "skipped: put back its `_orig_mod`, or compile it in place by `module.compile()`"
            )
    with ExitStack() as undo:
        for module in compiled:
            undo.enter_context(shadowed(module, _COMPILED_CALL, None))
        for module in above:
            if hasattr(module.forward, _WRITTEN):
                undo.enter_context(shadowed(module, "forward", getattr(module.forward, _WRITTEN)))
        yield


def _find(module: nn.Module, layers: nn.ModuleList, above: list[nn.Module], compiled: list[nn.Module]) -> bool:
    """Note the modules that hold the layers, and those compiled in place; is this one of the former?

    One walk: torch's own `modules()` takes most of a with-block's time.
    """
    if vars(module).get(_COMPILED_CALL) is not None:
        compiled.append(module)
    inner = [one for one in module._modules.values() if one is not None]
    holds = [_find(one, layers, above, compiled) or one is layers for one in inner]
    if any(holds):
        above.append(module)
    return any(holds)


def called_eagerly(forward: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` under the name and signature of `forward`; a compiled caller leaves its graph for it."""
    disable: Any = torch.compiler.disable
    told = {"reason": _WHY} if "reason" in inspect.signature(disable).parameters else {}  # torch 2.6 takes none
    eagerly: Callable[..., Any] = disable(functools.wraps(forward)(call), **told)
    return eagerly
