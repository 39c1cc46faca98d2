"""A study as it grows: what has ended never changes, so a trial is looked at until it has ended and never again."""

from typing import Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from autoprune_lab.fronts.front import ParetoFront
from search.study.front import point_of
from search.study.trials import RETRY, is_feasible, was_cut_off


class Ledger:
    """How far a study was when it was last looked at; a look costs the same however long the study is.

    `ended` holds every ended trial in the order in which it was seen to end, `running` those under way by number,
    `n_ended` counts the ended ones that count towards `n_trials`. Not for two threads at once.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self.ended: list[FrozenTrial] = []
        self.running: list[FrozenTrial] = []
        self.n_ended = 0
        self._n, self._open = 0, list[int]()  # how many trials there were; numbers of those that had not ended
        self._cut_off, self._repeated = dict[int, FrozenTrial](), set[int]()
        self._front, self._n_on_front = ParetoFront(), 0

    def look(self) -> Self:
        """Read what has changed since the last look."""
        trials = self.study.get_trials(deepcopy=False)
        looked = [trials[number] for number in (*self._open, *range(self._n, len(trials)))]
        for trial in looked:
            if RETRY in trial.user_attrs:
                self._repeated.add(trial.user_attrs[RETRY])
                self._cut_off.pop(trial.user_attrs[RETRY], None)
            if trial.state.is_finished():
                self._enter(trial)
        self.running = [trial for trial in looked if trial.state == TrialState.RUNNING]
        self._n, self._open = len(trials), [trial.number for trial in looked if not trial.state.is_finished()]
        return self

    @property
    def n_begun(self) -> int:
        """`n_ended`, and those under way at the same moment."""
        return self.n_ended + len(self.running)

    @property
    def lost(self) -> list[FrozenTrial]:
        """Trials that were cut off and wait for nobody yet, by number."""
        return [trial for number, trial in sorted(self._cut_off.items()) if number not in self._repeated]

    def front(self) -> ParetoFront:
        """The front of the trials that were seen to end, as `from_study` finds it, without its count of the rest."""
        new = [trial for trial in self.ended[self._n_on_front :] if is_feasible(trial)]
        points = [*zip(self._front.costs, self._front.scores, strict=True), *map(point_of, new)]
        labels = [*self._front.labels, *(trial.number for trial in new)]
        if new:
            self._front = ParetoFront.of([cost for cost, _ in points], [score for _, score in points], labels)
        self._n_on_front = len(self.ended)
        return self._front

    def _enter(self, trial: FrozenTrial) -> None:
        self.ended.append(trial)
        if was_cut_off(trial):
            self._cut_off[trial.number] = trial
        else:
            self.n_ended += 1
