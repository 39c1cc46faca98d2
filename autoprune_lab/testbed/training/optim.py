"""Muon for the matrices, AdamW for the rest, one linear schedule for both."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import distributed, nn


class Optimiser:
    """Two optimisers and a schedule: short warm-up, flat for a fifth of the steps, then linear to zero."""

    def __init__(
        self,
        parts: Iterable[tuple[nn.Module, float, bool]],
        muon_lr: float,
        adam_lr: float,
        decay: float,
        steps: int,
    ) -> None:
        """`parts`: (module, factor on the learning rate, may its matrices go to Muon)."""
        matrices, rest = list[dict[str, Any]](), list[dict[str, Any]]()
        for module, scale, inner in parts:
            for name, parameter in module.named_parameters():
                hidden = inner and parameter.ndim == 2 and "embed" not in name
                (matrices if hidden else rest).append(
                    {"params": [parameter], "lr": (muon_lr if hidden else adam_lr) * scale}
                )
        self.parts = [
            torch.optim.Muon(matrices, weight_decay=decay),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01),
        ]
        self.steps = steps
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(part, lambda step: self._factor(step)) for part in self.parts
        ]
        self.stateful: list[Any] = [*self.parts, *self.schedules]
        self.parameters = [p for part in self.parts for group in part.param_groups for p in group["params"]]

    def _factor(self, step: int) -> float:
        return min(1.0, (step + 1) / 40, 1.25 * max(self.steps - step, 0) / self.steps)

    def step(self, loss: torch.Tensor) -> None:
        """Backward, average over the processes that train together, clip, update, advance the schedule."""
        torch.autograd.backward(loss)
        if distributed.is_initialized():
            _average([p.grad for p in self.parameters if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part, schedule in zip(self.parts, self.schedules, strict=True):
            part.step()
            part.zero_grad(set_to_none=True)
            schedule.step()

    def state(self) -> list[dict[str, Any]]:
        """What `load` needs to go on."""
        return [part.state_dict() for part in self.stateful]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Go on where `state` was taken."""
        for part, state in zip(self.stateful, states, strict=True):
            part.load_state_dict(state)


def _average(gradients: list[torch.Tensor]) -> None:
    """Replace every gradient by its mean over the processes, in one exchange."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
