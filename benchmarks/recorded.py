"""The embedded model's objective as recorded by `benchmarks.tabulate`: an evaluator without a model.

Cost, complexities and refusals are exact: they are arithmetic. A score is interpolated between recorded plans: two
settings with the same visual tokens in every layer and the same scorer give the same answers, so near plans give near
scores. Locally linear: a ridge regression of the scores on the mean tokens of every layer, over the `NEAREST` plans of
the same scorer, each weighted by 1 / (distance + 1 token)**2; distance is the root mean square over the layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from transformers import AutoConfig

from autoprune_lab.models.checkpoint import check_checkpoint
from autoprune_lab.plugins.renamed import renamed
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.schedule.geometry import Geometry
from search.study.evaluator import Prompts
from search.study.planned import planned

NEAREST = 16
RIDGE = 1.0  # tokens**2


@dataclass(frozen=True)
class Interpolated:
    """What the objective reads of an evaluation."""

    kinds: Mapping[str, float]
    flops_ratio: float

    @property
    def score(self) -> float:
        """Mean over the kinds."""
        return float(np.mean(list(self.kinds.values())))

    def by_kind(self) -> Mapping[str, float]:
        """Score of each kind."""
        return self.kinds


@dataclass(frozen=True, eq=False)
class Recorded:
    """`tokens` (settings, layers) and `scores` (settings, kinds) as recorded, and the samples' sizes and bits.

    `right` says of every setting and sample whether the answer was right, `labels` the sample's kind.
    """

    tokens: Float[np.ndarray, "settings layers"]
    scorers: np.ndarray
    scores: Float[np.ndarray, "settings kinds"]
    kinds: tuple[str, ...]
    bits: Float[np.ndarray, "samples"]
    geometries: tuple[Geometry, ...]
    right: Float[np.ndarray, "settings samples"]
    labels: tuple[str, ...]

    closed_loop = False

    @classmethod
    def read(cls, file: Path, model: str = "embedded:shapes-s0") -> "Recorded":
        """What `benchmarks.tabulate` wrote."""
        config = AutoConfig.from_pretrained(check_checkpoint(model)).get_text_config()
        with np.load(file) as stored:
            labels = stored["kinds"]
            right = np.unpackbits(stored["right"], axis=1, count=len(labels)).astype(float)
            kinds = tuple(dict.fromkeys(labels.tolist()))
            scores = np.stack([right[:, labels == kind].mean(1) for kind in kinds], axis=1)
            geometries = tuple(Geometry.from_config(config, *map(int, pair)) for pair in stored["sizes"])
            scorers = np.array(renamed(stored["scorers"].tolist()))
            tokens, told = stored["tokens"].astype(float), tuple(labels.tolist())
            return cls(tokens, scorers, scores, kinds, stored["bits"], geometries, right, told)

    def complexities(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        """As they were read from the model."""
        return self.bits if pruner.policy.adaptive else np.zeros(len(self.bits))

    def prompts(self, pruner: Pruner) -> Prompts:
        """As they were read from the model."""
        return self.complexities(pruner), self.geometries

    def run(self, pruner: Pruner, after_block: object = None) -> Interpolated:
        """The scores of the nearest plans."""
        plan = planned(pruner, self.complexities(pruner), self.geometries)
        scores = self.interpolate(plan.plan.tokens.mean(0), plain(pruner)["scorer"]["_target_"])
        return Interpolated(dict(zip(self.kinds, scores.tolist(), strict=True)), plan.flops_ratio)

    def interpolate(
        self, tokens: Float[np.ndarray, "layers"], scorer: str, without: int | None = None, nearest: int = NEAREST
    ) -> Float[np.ndarray, "kinds"]:
        """Score of each kind for a plan; `without` leaves one recorded setting out."""
        return np.asarray(np.clip(self._interpolate(self.scores, tokens, scorer, without, nearest), 0, 1))

    def answers(
        self, tokens: Float[np.ndarray, "layers"], scorer: str, without: int | None = None
    ) -> Float[np.ndarray, "samples"]:
        """1 where a sample is answered right more likely than not, else 0."""
        return np.asarray(self._interpolate(self.right, tokens, scorer, without, NEAREST) > 0.5, dtype=float)

    def _interpolate(
        self,
        values: Float[np.ndarray, "settings columns"],
        tokens: Float[np.ndarray, "layers"],
        scorer: str,
        without: int | None,
        nearest: int,
    ) -> Float[np.ndarray, "columns"]:
        known = np.flatnonzero(self.scorers == scorer)
        known = known[known != without]
        distances = np.sqrt(np.square(self.tokens[known] - tokens).mean(1))
        near = np.argsort(distances, kind="stable")[:nearest]
        weights = 1 / np.square(distances[near] + 1)[:, None]
        design = np.column_stack([np.ones(len(near)), self.tokens[known[near]] - tokens])
        ridge = np.diag([0.0] + [RIDGE] * len(tokens))
        lines = np.linalg.solve(design.T @ (weights * design) + ridge, design.T @ (weights * values[known[near]]))
        return np.asarray(lines[0])

    def left_out_error(self, nearest: int = NEAREST) -> tuple[float, float]:
        """Root mean square error of a recorded setting's score from the others, and what is left of the variance."""
        guessed = [
            self.interpolate(row, str(scorer), i, nearest).mean()
            for i, (row, scorer) in enumerate(zip(self.tokens, self.scorers, strict=True))
        ]
        true = self.scores.mean(1)
        errors = np.array(guessed) - true
        return float(np.sqrt(np.square(errors).mean())), float(np.square(errors).mean() / true.var())
