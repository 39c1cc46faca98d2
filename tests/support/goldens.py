"""What the official code of published methods computes on fixed inputs: `tests/golden/methods`."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden" / "methods"


@dataclass(frozen=True)
class Golden:
    """One case: float32 `inputs` and `params` of the official code, and its `outputs`."""

    name: str
    inputs: dict[str, Tensor]
    params: dict[str, Any]
    outputs: dict[str, Any]

    def __str__(self) -> str:
        """How pytest calls it."""
        return self.name

    def check(self, **computed: Any) -> None:
        """Compare with the outputs of these names: whole numbers exactly, others to 1e-5 of their size."""
        for name, value in computed.items():
            _check(f"{self.name}: {name}", value, self.outputs[name])


def goldens(method: str) -> list[Golden]:
    """All cases of a method; inputs are made anew, and are those that the official code was given."""
    cases = json.loads((FOLDER / f"{method}.json").read_text())["cases"]
    return [
        Golden(
            case["name"],
            {name: _made(**given) for name, given in case["inputs"].items()},
            case["params"],
            case["outputs"],
        )
        for case in cases
    ]


def _made(recipe: dict[str, Any], stamp: dict[str, Any]) -> Tensor:
    settings = {name: value for name, value in recipe.items() if name not in ("kind", "seed")}
    draw = np.random.RandomState(recipe["seed"])
    array = _KINDS[recipe["kind"]](draw, **settings).astype(np.float32)
    digits = hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()[:16]
    assert list(array.shape) == stamp["shape"]
    if digits != stamp["sha256"]:  # another libm may round exp otherwise
        np.testing.assert_allclose(array.sum(dtype=np.float64), stamp["sum"], rtol=1e-6)
    return torch.from_numpy(array)


def _normal(draw: Any, shape: list[int], scale: float, shift: float) -> np.ndarray:
    return draw.standard_normal(shape) * scale + shift


def _softmax(draw: Any, shape: list[int], scale: float) -> np.ndarray:
    logits = draw.standard_normal(shape) * scale
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _plus_mean(draw: Any, shape: list[int], mean: float) -> np.ndarray:
    centre = draw.standard_normal(shape[-1])
    return mean * centre + draw.standard_normal(shape)


def _clusters(draw: Any, n: int, d: int, groups: int, noise: float) -> np.ndarray:
    centres = draw.standard_normal((groups, d))
    group = draw.randint(0, groups, n)
    return centres[group] + noise * draw.standard_normal((n, d))


def _video(draw: Any, frames: int, patches: int, d: int, steps: list[float]) -> np.ndarray:
    made = [draw.standard_normal((patches, d))]
    moves = draw.uniform(0, 1, (patches, 1))
    for t in range(1, frames):
        made.append(made[-1] + steps[t % len(steps)] * moves * draw.standard_normal((patches, d)))
    return np.stack(made)


def _blocks(draw: Any, h: int, w: int, d: int, win: int, low: float, high: float) -> np.ndarray:
    centres = draw.standard_normal((h // win, w // win, d))
    spread = draw.uniform(low, high, (h // win, w // win, 1))
    noise = draw.standard_normal((h, w, d))
    whole = [part.repeat(win, 0).repeat(win, 1) for part in (centres, spread)]
    return (whole[0] + whole[1] * noise).reshape(h * w, d)


_KINDS = {
    "normal": _normal,
    "softmax": _softmax,
    "plus_mean": _plus_mean,
    "clusters": _clusters,
    "video": _video,
    "blocks": _blocks,
}


def _check(name: str, computed: Any, expected: Any) -> None:
    array = np.asarray(computed.detach().cpu() if isinstance(computed, Tensor) else computed)
    if isinstance(expected, dict):
        assert list(array.shape) == expected["shape"], name
        _check_digest(name, array.astype(np.float64).ravel(), expected)
    elif np.asarray(expected).dtype.kind in "iub":
        np.testing.assert_array_equal(array, np.asarray(expected), err_msg=name)
    else:
        np.testing.assert_allclose(
            array, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(initial=0), err_msg=name
        )


def _check_digest(name: str, flat: np.ndarray, expected: dict[str, Any]) -> None:
    weights = np.arange(len(flat)) * 37 % 101 / 101
    size = max(expected["abs"], 1e-30)  # what sums may be off by goes with the sum of sizes
    for part, value in (("sum", flat.sum()), ("abs", np.abs(flat).sum()), ("weighted", (flat * weights).sum())):
        np.testing.assert_allclose(value, expected[part], rtol=0, atol=1e-5 * size, err_msg=f"{name}, {part}")
    largest = np.abs(flat).max()
    for part, values in (("first", flat[: len(expected["first"])]), ("last", flat[-len(expected["last"]) :])):
        np.testing.assert_allclose(values, expected[part], rtol=1e-5, atol=1e-5 * largest, err_msg=f"{name}, {part}")
