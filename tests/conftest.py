"""Helpers that several test files share."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from unsynced import unsynced

# A busy machine is no failure: no time limit per example.
settings.register_profile("house", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
unsynced()
gc.disable()  # until all tests are collected: nearly everything that collecting makes stays


def pytest_configure(config: pytest.Config) -> None:
    sys.path.insert(0, str(config.invocation_params.dir))  # benchmarks is imported from the repository


# Few tests that take long: begun first, so that no process is left alone with them at the end.
LONGEST = ("test_notebooks.py", "test_methods_table.py", "test_workers.py", "test_kills.py", "test_label_free.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(3600))


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there by now, a million objects, need not be looked through again and again
    gc.enable()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow model of the embedded layout that answers a part of the questions, in a folder."""
    from fake_evaluator import save_narrow_model

    return save_narrow_model(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(autouse=True)
def own_modules(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test leaves nothing on the path, and none of its own modules: the next one may use the same names."""
    known, temporary = set(sys.modules), str(tmp_path_factory.getbasetemp())
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - known:
        spec = getattr(sys.modules[name], "__spec__", None)
        places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else []
        if any(str(place).startswith(temporary) for place in places):
            del sys.modules[name]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole study without its pictures, which take longer than a few trials: for tests that look at none."""
    monkeypatch.setattr("search.results.pictures.draw", lambda result: None)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model is a failure."""
    from search.config.experiment import Experiment

    def refuse(experiment: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Experiment, "model", property(refuse))
