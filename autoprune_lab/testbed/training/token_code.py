"""How an embedded model's visual tokens are written: near rms 1, with a code of their place."""

import math

import torch
from torch import Tensor

TINY = 1e-6
PLACE_CODE = 12  # projector dimensions that hold the row and column code


def rms_loss(projected: Tensor) -> Tensor:
    """The squared log of every token's rms: 0 where all are 1."""
    return projected.square().mean(-1).sqrt().clamp(min=TINY).log().square().mean()


def place_code(grid: int) -> Tensor:
    """Sine and cosine of row and column at three frequencies: (grid * grid patches, 12)."""
    angle = torch.arange(grid)[:, None] * math.pi / grid * torch.tensor([1.0, 2.0, 4.0])
    code = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = code[:, None].expand(-1, grid, -1), code[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).reshape(grid * grid, PLACE_CODE)


def unit(x: Tensor) -> Tensor:
    """Scaled to rms 1 along the last axis."""
    return x * x.square().mean(-1, keepdim=True).add(TINY).rsqrt()
