"""Studies that are logged, what MLflow then holds, and servers that are of no use."""

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from fake_evaluator import FakeEvaluator, objective, settings

from search.results import pictures, report, study_result
from search.results.page.keeping import kept
from search.study import loop
from search.study.storage import StudyStorage
from search.tracking.background import tracked

PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Held:
    """The runs of one study in an MLflow."""

    client: object
    parent: object
    children: list

    @property
    def numbers(self):
        return sorted(int(run.data.tags["trial"]) for run in self.children)

    def trial(self, number):
        return next(run for run in self.children if run.data.tags["trial"] == str(number))

    def history(self, name):
        return [(m.step, m.value) for m in self.client.get_metric_history(self.parent.info.run_id, name)]

    @property
    def files(self):
        return {item.path for item in self.client.list_artifacts(self.parent.info.run_id)}


def held(uri, study, experiment="tests"):
    """What MLflow holds of a study; fails unless it is one run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name(experiment).experiment_id
    found = client.search_runs(
        [place], f"tags.kind = 'study' and tags.study_key = '{study.user_attrs['tracking_key']}'"
    )
    assert len(found) == 1
    children = client.search_runs([place], f"tags.`{PARENT}` = '{found[0].info.run_id}' and tags.kind = 'trial'")
    return Held(client, found[0], list(children))


def composed(folder, uri, n, *words):
    """Settings of a logged study of `n` trials."""
    place = ("tracking=mlflow", f"tracking.uri={uri}", "tracking.experiment=tests")
    return settings(folder, "policy=fixed", "seed=2", f"search.n_trials={n}", *place, *words)


def open_study(given):
    return loop.open_study(StudyStorage.of(given.typed), given.made_of())


def ran(given, evaluator=None, after_trials=lambda: None, drawn=False):
    """The study, run to its end, logged, with its files; `after_trials` is called after the last trial.

    Pictures only where it is `drawn`: they take longer than all the rest.
    """
    study = open_study(given)
    with tracked(study, given) as observers, kept(study, given.out) as page:
        loop.run(study, objective(given, evaluator or FakeEvaluator()), given, [*observers, page])
        after_trials()
        report.tuned_pruners(study, given, study_result.write(study, given.settings))
        if drawn:
            pictures.draw(study_result.StudyResult.read(given.out))
    return study


def refusing():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def black_hole():
    """A port that takes every connection and never answers; and the connections that it has taken."""
    taken = []

    def take(listener):
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=take, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1], taken
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in taken:
        connection.close()
