"""Does per-sample adaptivity help? One adaptive pruner against itself with wrong complexities, and a fixed curve."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from autoprune_lab.statistics.contrast import Arms, Estimate
from autoprune_lab.statistics.records import Records

Pruner = TypeVar("Pruner")  # whatever `run` takes: nothing here looks into it
Run = Callable[[Pruner, Float[np.ndarray, "samples"] | None], Records]
"""Answers every sample with a pruner, told these complexities (None: its estimator's own)."""

ADAPTIVE, FIXED, MEAN = "adaptive", "best fixed curve", "told the mean"


@dataclass(frozen=True, eq=False)
class AdaptivityReport:
    """The records of every arm, and what the adaptive one gains on each other, paired over the samples.

    `fixed`: over the fixed curve. `shuffled`: over itself told other samples' complexities, the mean of several
    shufflings; its interval covers the samples, not the shufflings. `mean`: over itself told the mean complexity.
    """

    arms: Arms
    fixed: Estimate
    shuffled: Estimate
    mean: Estimate

    @property
    def answer(self) -> str:
        """One sentence."""
        gains = {"the best fixed curve": self.fixed, "itself with shuffled complexities": self.shuffled}
        said = [
            f"{'better' if gain.low > 0 else 'worse' if gain.high < 0 else 'not clearly other'} than {name} "
            f"({100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}])"
            for name, gain in gains.items()
        ]
        return f"The adaptive policy is {' and '.join(said)}."


def shufflings(bits: Float[np.ndarray, "samples"], n: int, seed: int) -> list[Float[np.ndarray, "samples"]]:
    """`n` permutations of the samples' complexities."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(bits) for _ in range(n)]


def adaptivity_report(
    run: Run[Pruner],
    adaptive: Pruner,
    fixed: Pruner,
    bits: Float[np.ndarray, "samples"],
    n_shuffles: int = 3,
    seed: int = 0,
) -> AdaptivityReport:
    """Run all arms. `bits` are the samples' complexities by the adaptive pruner's estimator.

    Both pruners should have the same budget, and `fixed` be the best that a search of fixed curves found with the same
    effort on other samples; then a gain is not one of compute or of tuning.
    """
    records = {
        ADAPTIVE: run(adaptive, bits),
        FIXED: run(fixed, None),
        MEAN: run(adaptive, np.full(len(bits), bits.mean())),
    }
    shuffled = {f"shuffled {i}": run(adaptive, told) for i, told in enumerate(shufflings(bits, n_shuffles, seed))}
    arms = Arms(records | shuffled)
    return AdaptivityReport(
        arms,
        fixed=arms.difference(ADAPTIVE, [FIXED]),
        shuffled=arms.difference(ADAPTIVE, list(shuffled)),
        mean=arms.difference(ADAPTIVE, [MEAN]),
    )
