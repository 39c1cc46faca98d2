"""Labels of a pruned call: a position whose logits do not exist has no loss."""

from typing import Any

from jaxtyping import Bool
from torch import Tensor

_IGNORED = -100
_SHIFTS = {"labels": 1, "shift_labels": 0}
"""How far behind the position whose logits predict it a label stands."""


def own_labels(arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments` whose labels may be written on."""
    return arguments | {name: labels.clone() for name, labels in given_labels(arguments).items()}


def ignore_lost(arguments: dict[str, Any], present: Bool[Tensor, "batch positions"]) -> None:
    """Write the ignored index on the labels of positions that were dropped: the model reads labels after its decoder.

    The loss is then the mean over the positions whose logits exist. ValueError for labels that do not stand one at
    each position whose logits the model makes.
    """
    wanted = arguments.get("logits_to_keep", 0)
    present = present[:, slice(-wanted, None) if isinstance(wanted, int) else wanted]
    for name, labels in given_labels(arguments).items():
        if labels.shape != present.shape:
            raise ValueError(
                f"{name} have shape {tuple(labels.shape)}, the logits are {tuple(present.shape)} positions: "
                "give one label a position"
            )
        shift = _SHIFTS[name]
        lost = ~present[:, : present.shape[1] - shift].to(labels.device)
        labels[:, shift:].masked_fill_(lost, arguments.get("ignore_index", _IGNORED))


def given_labels(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """The labels among `arguments`, by name."""
    return {name: arguments[name] for name in _SHIFTS if isinstance(arguments.get(name), Tensor)}
