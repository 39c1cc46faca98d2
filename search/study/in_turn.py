"""A sampler that is one sampler at first and another one later: who learns fast, then who goes on learning."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from search.study.trials import n_ended


class InTurn(optuna.samplers.BaseSampler):
    """`first` suggests until `n_first` trials of the study have ended, and `then` all others."""

    def __init__(self, first: optuna.samplers.BaseSampler, then: optuna.samplers.BaseSampler, n_first: int) -> None:
        self._first, self._then, self._n_first = first, then, n_first

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As who suggests the trial does."""
        return self._of(study).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As who suggests the trial does."""
        return self._of(study).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As who suggests the trial does."""
        return self._of(study).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As who suggests the trial does."""
        self._of(study).before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As who suggests the trial does."""
        self._of(study).after_trial(study, trial, state, values)

    def _of(self, study: optuna.Study) -> optuna.samplers.BaseSampler:
        return self._first if n_ended(study) < self._n_first else self._then
