"""Ends a trial of a front that is surely not worth its remaining samples: `search.least_gain`.

The cost of a trial is arithmetic, so it is known before the first sample is answered; only the score is open. After
each block of samples the trial is set against the trial on the front that costs no more, sample by sample. What it may
score on all samples, at most, is foretold from the differences so far; if even that would add no more than `least_gain`
of the front's hypervolume, the trial is *stopped*. A trial that is dominated adds nothing.

The first `FIRST` trials are answered whole. Their answers say which samples separate settings, and those come first
from then on: where all earlier settings agreed, one more hardly differs. The order follows from ended trials alone, so
all workers find the same, also when a study goes on. No score is ever one of some samples: a stopped trial has none.
"""

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna
from jaxtyping import Bool, Float, Int
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtri

from autoprune_lab.fronts.front import ParetoFront
from search.study.front import point_of
from search.study.trials import feasible

ANSWERED = "answered"  # user attribute of a trial: the score of every sample, `packed`
FIRST = 5  # trials that are answered whole, whose answers give the order
DOUBT = 0.1  # chance of a score above the one that counts as the highest

Scores = Float[np.ndarray, "samples"]


@dataclass(frozen=True)
class Futility:
    """For a study: the part of the front's hypervolume that a trial has to be able to add, in `n_blocks` blocks.

    `kinds` of every sample, in the task's order: the score is the mean over the kinds of each kind's mean.
    """

    least_gain: float
    n_blocks: int
    kinds: Sequence[str]

    def watch(self, study: optuna.Study, cost: float) -> "Watch | None":
        """What a trial of this cost is held against; None while too few have been answered for there to be an order."""
        first = _first(study)
        known = [trial for trial in feasible(study) if ANSWERED in trial.user_attrs]
        if first is None or not known:
            return None
        points = np.array([point_of(trial) for trial in known])
        front = ParetoFront.of(points[:, 0], points[:, 1], [trial.number for trial in known])
        rival = front.labels[front.index_at(cost) or 0]  # where nothing is that cheap, the cheapest
        said = next(_answers(trial) for trial in known if str(trial.number) == rival)
        separation = separations(np.array([_answers(trial) for trial in first]))
        weights = self._weights
        return Watch(
            blocks=blocks_of(separation, self.n_blocks),
            front=front,
            cost=cost,
            rival=rival,
            said=said,
            weights=weights,
            spread=np.square(weights) * separation,
            least_gain=self.least_gain,
        )

    @cached_property
    def _weights(self) -> Scores:
        """What one sample counts for in the score."""
        _, places, counts = np.unique(list(self.kinds), return_inverse=True, return_counts=True)
        return np.asarray(1 / (len(counts) * counts[places]))


@dataclass(frozen=True, eq=False)
class Watch:
    """A trial under way: `blocks` of the samples, in the task's order, the front so far, and the rival's answers.

    `weights` of the samples in the score; `spread`, the variance that each is expected to give to a difference.
    """

    blocks: tuple[int, ...]
    front: ParetoFront
    cost: float
    rival: str
    said: Scores
    weights: Scores
    spread: Scores
    least_gain: float

    def is_futile(self, block: int, scores: Float[np.ndarray, "answered"]) -> bool:
        """Is it not worth going on behind this block? `scores` of all samples up to it, in the task's order."""
        done = np.array(self.blocks) <= block
        highest = highest_score(scores, self.said, self.weights, self.spread, done)
        own = ParetoFront.of([*self.front.costs, self.cost], [*self.front.scores, highest])
        volume = self.front.hypervolume()
        return own.hypervolume() - volume <= self.least_gain * volume

    def reason(self, n_answered: int) -> str:
        """Why a futile trial ends, in a line."""
        return (
            f"after {n_answered} of {len(self.blocks)} samples: beside trial {self.rival}, unlikely to add more than "
            f"{self.least_gain:g} of the front's hypervolume"
        )


def highest_score(
    scores: Float[np.ndarray, "answered"],
    rival: Scores,
    weights: Scores,
    spread: Scores,
    done: Bool[np.ndarray, "samples"],
) -> float:
    """What a trial may score on all samples: the upper end of a one-sided interval, at most what right answers give.

    The difference to the rival on all samples is foretold from that on the samples `done`: f, the part of the variance
    that these were expected to show, takes the place of their number, for the others separate less. As in a paired test
    of a sample drawn without replacement, the variance that is still open is (1 - f) / f of the variance so far; where
    hardly a difference was seen yet, one sample's worth is added to both, the seen and the expected.
    """
    lead = weights[done] * (scores - rival[done])
    seen, left = float(spread[done].sum()), float(spread[~done].sum())
    one = float(np.square(weights).mean())
    scale = (float(np.square(lead).sum()) + one) / (seen + one)
    part = seen / (seen + left)
    foretold = float(weights @ rival + lead.sum() / part - ndtri(DOUBT) * math.sqrt(scale * left / part))
    return min(foretold, float(weights[done] @ scores + weights[~done].sum()))


def separations(answers: Float[np.ndarray, "trials samples"]) -> Scores:
    """How much two settings are expected to differ on each sample: the mean square, > 0.

    A right and a wrong answer more are counted in, for a sample that has never separated may.
    """
    both = np.vstack([answers, np.zeros_like(answers[:1]), np.ones_like(answers[:1])])
    return np.asarray((2 * both.var(0)).round(9))  # equal ones must not be put in order by their last digits


def blocks_of(separation: Scores, n_blocks: int) -> tuple[int, ...]:
    """The block of each sample: equally many in each, those that separate most in the first."""
    ranks: Int[np.ndarray, samples] = np.empty(len(separation), dtype=int)
    ranks[np.argsort(-separation, kind="stable")] = np.arange(len(separation))
    return tuple((ranks * n_blocks // len(separation)).tolist())


def packed(scores: Scores) -> str:
    """As text; a thousand right or wrong answers take some 200 letters."""
    return base64.b64encode(zlib.compress(np.asarray(scores, dtype="<f8").tobytes(), 9)).decode()


def unpacked(text: str) -> Scores:
    """What `packed` packed."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<f8")


def _answers(trial: FrozenTrial) -> Scores:
    return unpacked(trial.user_attrs[ANSWERED])


def _first(study: optuna.Study) -> list[FrozenTrial] | None:
    """The `FIRST` answered trials by number; None until they are sure, for an earlier one may yet be answered."""
    found: list[FrozenTrial] = []
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished() or len(found) == FIRST:
            break
        if trial.state == TrialState.COMPLETE and ANSWERED in trial.user_attrs:
            found.append(trial)
    return found if len(found) == FIRST else None
