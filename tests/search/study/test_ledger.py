"""What a trial costs beside the model does not grow with the study: counted, not timed."""

import sys

import numpy as np
import optuna
import pytest
from fake_evaluator import FakeEvaluator, objective, settings
from optuna.trial import TrialState, create_trial

from search.study import loop, trials
from search.study.front import from_study
from search.study.journal import Journal
from search.study.ledger import Ledger
from search.study.progress import line
from search.study.storage import StudyStorage
from search.tracking.fields import Progress
from search.tracking.mirror import Mirror
from search.tracking.settings import MlflowTracking

CUT_OFF = {"state": TrialState.FAIL}
WORDS = ("search=random", "policy=fixed", "search.n_trials=9")


def ended(cost, score, over=-0.1):
    return create_trial(values=[cost, score], constraints={"bound": over})


@pytest.fixture(params=["memory", "journal"])
def study(request, tmp_path):
    storage = Journal(tmp_path / "journal.log") if request.param == "journal" else None
    return optuna.create_study(storage=storage, directions=["minimize", "maximize"])


def assert_agrees(ledger, study):
    """What was read step by step is what one who begins now reads."""
    ledger.look()
    assert ledger.n_ended == trials.n_ended(study)
    assert ledger.n_begun == trials.n_begun(study)
    assert sorted(t.number for t in ledger.ended) == [t.number for t in study.trials if t.state.is_finished()]
    assert ledger.running == study.get_trials(states=(TrialState.RUNNING,))
    assert {*zip(ledger.front().costs, ledger.front().scores, strict=True)} == {
        *zip(from_study(study).costs, from_study(study).scores, strict=True)
    }
    assert ledger.front().hypervolume() == from_study(study).hypervolume()


def test_a_ledger_that_follows_a_study_agrees_with_one_that_begins_anew(study):
    rng, ledger, progress = np.random.default_rng(0), Ledger(study), Progress(study)
    under_way = []
    for _ in range(60):
        match int(rng.integers(6)):
            case 0 | 1:
                under_way.append(study.ask())
                if rng.random() < 0.8:
                    under_way[-1].set_constraint("bound", float(rng.choice([-0.1, 0.0, 0.2])))
            case 2 | 3 if under_way:
                trial = under_way.pop(int(rng.integers(len(under_way))))
                study.tell(trial, [float(rng.integers(1, 9)) / 10, float(rng.integers(9)) / 10])
            case 4 if under_way:
                study.tell(under_way.pop(), state=[TrialState.FAIL, TrialState.PRUNED][int(rng.integers(2))])
            case _:
                study.add_trial(ended(*rng.random(2).round(1)))
        assert_agrees(ledger, study)
        assert progress.after(4) == Progress(study).after()[5:]
    assert len(ledger.front().costs) > 1


def test_a_trial_that_was_cut_off_is_lost_until_another_repeats_it(study):
    ledger = Ledger(study)
    for trial in (ended(0.5, 0.5), create_trial(**CUT_OFF), create_trial(**CUT_OFF)):
        study.add_trial(trial)
    assert [trial.number for trial in ledger.look().lost] == [1, 2]
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={trials.RETRY: 1}))
    assert [trial.number for trial in ledger.look().lost] == [2]
    assert ledger.n_ended == ledger.n_begun == 1
    study.add_trial(create_trial(**CUT_OFF, user_attrs={trials.NO_RESULT: True}))
    assert [trial.number for trial in ledger.look().lost] == [2]
    assert ledger.n_ended == 2


@pytest.mark.parametrize("states", [None, *[(state,) for state in TrialState], tuple(TrialState)], ids=str)
def test_a_journal_gives_the_trials_that_optuna_s_own_gives(tmp_path, states):
    journal = Journal(tmp_path / "journal.log")
    study = optuna.create_study(study_name="s", storage=journal)
    for state in (TrialState.WAITING, TrialState.COMPLETE, TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL):
        values = [1.0] if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, values=values))
        found = study.get_trials(deepcopy=False, states=states)
        assert found == super(Journal, journal).get_all_trials(study._study_id, states=states)
    study.tell(2, 0.5)
    study.set_user_attr("x", 1)
    assert study.get_trials(states=states) == super(Journal, journal).get_all_trials(study._study_id, states=states)
    optuna.delete_study(study_name="s", storage=journal)
    with pytest.raises(KeyError):
        journal.get_all_trials(0, states=states)


def operations_of_the_second_of_two_trials(study, given, bench, observe):
    """Bytecodes from one trial's end to the next one's, whoever wrote them; what is written in C counts as one."""
    (settings_of_both,) = given.baselines
    counts, n = [], 0

    def see(frame, event, argument):
        nonlocal n
        frame.f_trace_opcodes = True
        n += event == "opcode"
        return see

    def count(study, trial):
        observe(trial)
        bench.known.clear()
        counts.append(n)

    for _ in range(2):
        study.enqueue_trial(settings_of_both)
    given.typed.search.n_trials = trials.n_ended(study) + 2
    before = sys.gettrace()
    sys.settrace(see)
    try:
        loop.run(study, bench, given, [count])
    finally:
        sys.settrace(before)
    first, second = counts
    return second - first


def test_a_trial_takes_as_many_operations_in_a_long_study_as_in_a_short_one(tmp_path):
    """Whoever walked through the trials that have ended would take one operation a trial more, at least."""
    given = settings(tmp_path, *WORDS)
    study = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    mirror, progress = Mirror(study, MlflowTracking("sqlite:///none.db"), tmp_path), Progress(study)
    ledger = Ledger(study)

    def observe(trial):
        """All that a terminal and MLflow ask of the study after a trial."""
        line(ledger.look(), 10, 0, 1.0)
        assert [waiting.number for waiting in mirror.pending()] == [trial.number]
        mirror.sent.add(trial.number)
        assert progress.after(trial.number - 1)[-1][0] == trial.number

    bench = objective(given, FakeEvaluator())
    short = operations_of_the_second_of_two_trials(study, given, bench, observe)
    mirror.sent |= set(range(400 + 2))
    done, rng, more = study.trials[-1], np.random.default_rng(0), 400
    for cost in rng.uniform(0.3, 1, more):  # the front stays as long as it is
        done.values = [cost, 0.0]
        study.add_trial(done)
    long = operations_of_the_second_of_two_trials(study, given, bench, observe)
    assert abs(long - short) < more
