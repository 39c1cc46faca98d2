"""Counts what a device would make the host wait for, and the calls of aten, on a machine without one.

Everything is on the CPU there, so it is followed which tensors would be the host's: those made without a device and of
no device's tensor, and what is computed of nothing else. Models and their inputs are the device's.
"""

from collections import Counter
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ASKED = {
    f"aten.{name}"
    for name in (
        "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount", "_unique2",
        "unique_dim", "unique_consecutive",
    )
}  # fmt: skip
"""Operations whose result, or its size, the host has to know; indexing with booleans is another.

Without autograd those made of others are seen whole: `item`, not what it calls.
"""
FETCHED = {Tensor.cpu, Tensor.tolist, Tensor.numpy}
UPLOADED = {torch.tensor, torch.as_tensor, torch.asarray}
_MARK = "_is_the_host_s"
_READ = torch.from_numpy


class Device:
    """Inside the block: `calls` of aten by name, and `waits`, the name of each."""

    def __init__(self) -> None:
        self.calls, self.waits = Counter[str](), list[str]()

    def __enter__(self) -> "Device":
        self._undo = ExitStack()
        self._undo.enter_context(_Operations(self))
        self._undo.enter_context(_Copies(self))
        self._undo.enter_context(patch.object(torch, "from_numpy", _from_numpy))  # which no mode is told of
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()


class _Operations(TorchDispatchMode):
    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).rpartition(".")[0]
        self.device.calls[name] += 1
        by_booleans = name in ("aten.index", "aten.index_put", "aten.index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if (name in ASKED or by_booleans) and not hasattr(args[0], _MARK):
            self.device.waits.append(name)
        return function(*args, **kwargs or {})


class _Copies(TorchFunctionMode):
    """Copies between host and device, which a CPU does not make; copies that nobody waits for are left out."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        ours = all(hasattr(one, _MARK) for one in given)
        to = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.device | str)]
        goes = function is Tensor.to and bool(to)
        down = function in FETCHED or (goes and "cpu" in to)  # the device's own is never called so, even on a CPU
        up = (goes and not down) or (function in UPLOADED and bool(to))
        if (down and not ours) or (up and ours and not kwargs.get("non_blocking")):
            self.device.waits.append(function.__name__)
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            _mark(result, down or (ours and not up and not (to and not given)))
        elif isinstance(result, list | tuple):
            for one in result:
                if isinstance(one, Tensor):
                    _mark(one, ours)
        return result


def _from_numpy(array: Any) -> Tensor:
    made = _READ(array)
    _mark(made, True)
    return made


def _mark(tensor: Tensor, of_host: bool) -> None:
    if of_host:
        setattr(tensor, _MARK, True)
    elif hasattr(tensor, _MARK):
        delattr(tensor, _MARK)
