"""Counts what a device would make the host wait for, and the calls of aten, on a machine without one."""

from collections import Counter
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ASKED = {"aten._local_scalar_dense", "aten.nonzero", "aten.masked_select"}
"""Operations whose result the host has to know; indexing with booleans is another."""
FETCHED = {Tensor.cpu, Tensor.tolist}
UPLOADED = {torch.tensor, torch.as_tensor, torch.asarray}


class Device:
    """Inside the block: `calls` of aten by name, and `waits`, the name of each."""

    def __init__(self):
        self.calls, self.waits = Counter(), []

    def __enter__(self):
        self._undo = ExitStack()
        self._undo.enter_context(_Operations(self))
        self._undo.enter_context(_Copies(self))
        return self

    def __exit__(self, *error):
        self._undo.close()


class _Operations(TorchDispatchMode):
    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).rpartition(".")[0]
        self.device.calls[name] += 1
        by_booleans = name in ("aten.index", "aten.index_put", "aten.index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in ASKED or by_booleans:
            self.device.waits.append(name)
        return function(*args, **kwargs or {})


class _Copies(TorchFunctionMode):
    """Copies between host and device, which a CPU does not make; copies that nobody waits for are left out."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        goes = function is Tensor.to and any(isinstance(one, torch.device | str) for one in (*args, *kwargs.values()))
        made = function in UPLOADED and not isinstance(args[0], Tensor)
        if function in FETCHED or made or (goes and not kwargs.get("non_blocking")):
            self.device.waits.append(function.__name__)
        return function(*args, **kwargs)
