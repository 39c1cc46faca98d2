"""What gives a study's pruners the numbers of their estimators: fitted once, kept with the study."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from autoprune_lab.evidence.calibration import Calibrated
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from search.config.errors import ConfigError
from search.config.schema import CalibrationSettings
from search.study.planned import opening_of

NUMBERS = "calibrated/"  # user attribute of a study: + a digest of estimator, probe layer and opening


def is_uncalibrated(pruner: Pruner) -> bool:
    """Does its policy read an estimator that has yet to be calibrated?"""
    estimator = pruner.complexity
    return pruner.policy.adaptive and isinstance(estimator, Calibrated) and not estimator.ready


def check_calibrated(pruner: Pruner, where: str) -> None:
    """Raise ConfigError for an estimator without numbers, where nothing will fit them; begins with `where`."""
    if is_uncalibrated(pruner):
        raise ConfigError(
            f"{where}: {type(pruner.complexity).__name__} is not calibrated: autoprune calibrate writes a "
            "complexity that is, and a study calibrates its own"
        )


@dataclass(frozen=True)
class Calibrator:
    """Fits what a pruner's estimator lacks, on the study's own samples; the study remembers, and so do its workers.

    Needs are those under the scorer and recovery of the study's `base` pruner, whatever others a trial has. `stored`
    makes a pruner of plain data (`Experiment.stored_pruner`). Two workers that fit the same at the same time find the
    same; the first one's numbers stay.
    """

    evaluator: Any
    settings: CalibrationSettings
    base: Callable[[], Pruner]
    stored: Callable[[Any, str], Pruner]
    known: dict[str, Any] = field(default_factory=dict)

    def __call__(self, study: optuna.Study, pruner: Pruner) -> Pruner:
        """The pruner, calibrated if it must be. Raises CalibrationError where that cannot be done."""
        if not is_uncalibrated(pruner):
            return pruner
        base = self.base()
        chooser = pruner.opening_scorer or pruner.scorer  # an opening stays as it is
        asked = replace(
            pruner, scorer=base.scorer, opening_scorer=chooser, recovery=base.recovery, positions=base.positions
        )
        key = self._key(asked)
        if key not in self.known:
            self.known[key] = study.user_attrs.get(key) or self._fit(study, asked, key)
        node = plain(pruner) | {"complexity": self.known[key]}
        return replace(pruner, complexity=self.stored(node, f"study {study.study_name}, {key}").complexity)

    def _fit(self, study: optuna.Study, pruner: Pruner, key: str) -> Any:
        from search.study.calibration import calibrate  # here: it loads transformers

        found = calibrate(self.evaluator, pruner, self.settings)
        name, told = type(found.estimator).__name__, found.quality
        print(
            f"autoprune: {name} calibrated at layer {pruner.probe_layer} on {found.n_fit} samples; on "
            f"{found.n_held_out} others: Spearman {told.spearman:.2f}, AUC {told.auc:.2f}; {found.n_lost} have no need",
            file=sys.stderr,
        )
        fitted = plain(found.estimator)
        if (before := study.user_attrs.get(key)) is not None:
            return before
        study.set_user_attr(key, fitted)
        return fitted

    def _key(self, pruner: Pruner) -> str:
        opened = opening_of(pruner, self.evaluator.geometries)
        asked = json.dumps([plain(pruner.complexity), pruner.probe_layer, opened])
        return NUMBERS + hashlib.sha256(asked.encode()).hexdigest()[:16]
