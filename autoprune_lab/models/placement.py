"""Where a model's weights go and in which number format; every choice is checked before a weight is read."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.models.errors import CheckpointError

if TYPE_CHECKING:
    import torch

FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


@dataclass(frozen=True)
class Placement:
    """`dtype`: a torch dtype's name, or `auto`, the checkpoint's own. `device`: `auto`, cpu, cuda, cuda:1, mps, ...

    `auto` is the first GPU if there is one. `device_map`: accelerate's, for a model on several devices, or None.
    """

    dtype: str = "float32"
    device: str = "cpu"
    attention: str = "sdpa"
    device_map: str | Mapping[str, str | int] | None = None

    def check(self) -> None:
        """Raise CheckpointError for what this machine cannot do."""
        self.number()
        self.where()
        package = FLASH.get(self.attention)
        if package and importlib.util.find_spec(package) is None:
            raise CheckpointError(f"attention {self.attention!r} needs the package {package}; install it, or use sdpa")
        if self.device_map is not None and importlib.util.find_spec("accelerate") is None:
            raise CheckpointError("device_map needs the package accelerate: pip install accelerate")

    def number(self) -> "torch.dtype | str":
        """What transformers calls `dtype`."""
        import torch

        number = getattr(torch, self.dtype, None)
        if self.dtype == "auto":
            return "auto"
        if not isinstance(number, torch.dtype):
            raise CheckpointError(f"dtype {self.dtype!r} is not a torch dtype; use float32, bfloat16, float16 or auto")
        return number

    def where(self) -> "torch.device":
        """The device, `auto` resolved."""
        import torch

        name = best_device() if self.device == "auto" else self.device
        try:
            device = torch.device(name)
        except RuntimeError:
            raise CheckpointError(f"device {name!r} is no torch device; use auto, cpu, cuda, cuda:0 or mps") from None
        n_gpus = torch.cuda.device_count()
        if device.type == "cuda" and (device.index or 0) >= n_gpus:
            raise CheckpointError(f"device {name}: torch sees {n_gpus} CUDA devices; use device=auto or device=cpu")
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise CheckpointError("device mps is not available to torch; use device=auto or device=cpu")
        return device


def best_device() -> str:
    """cuda, mps or cpu, the first that torch sees."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
