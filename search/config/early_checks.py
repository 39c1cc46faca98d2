"""What can be found wrong with an experiment before torch, transformers, optuna or MLflow are imported."""

import os
from pathlib import Path

from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.goal import BEST
from search.config.instantiate import check_targets
from search.config.overrides import check_used
from search.config.space import Space


def check(experiment: Experiment) -> None:
    """Raise ConfigError or TaskError for a policy or a task that is not there, and for a path that leads nowhere."""
    config = experiment.settings.config
    check_targets(config["pruner"]["policy"], "pruner.policy")
    _ = experiment.task  # built here, so that a mistake in it is told first
    parts = config["task"].get("tasks")
    nodes = {f"task.tasks.{name}": part for name, part in parts.items()} if isinstance(parts, dict) else {}
    given = {"task": config["task"], **nodes}
    data = {key: node["path"] for key, node in given.items() if node.get("path") is not None}
    if data:
        from autoprune_lab.tasks.reading import find_data

        for key, path in data.items():
            find_data(str(path), f"{key}.path")
    model = config["model"].get("path")
    if model is None:
        raise ConfigError("model.path has no value: add model.path=DIR to the command")
    if (Path(model).is_absolute() or str(model).startswith(".")) and not Path(model).exists():
        raise ConfigError(f"checkpoint folder {model} does not exist")


def check_search(experiment: Experiment) -> None:
    """Raise ConfigError where all that is searched was typed, and for a word about what this search has not."""
    typed, unused = experiment.typed, dict[str, str]()
    if typed.search.mode != BEST:
        unused["search.pruner"] = (
            "it stops trials with search.mode=best only; those of a front: search.least_gain=0.001"
        )
        if typed.search.least_gain is None:
            unused["search.blocks"] = "trials are stopped with search.mode=best or search.least_gain= only"
    if typed.search.storage is None:
        unused["search.heartbeat"] = "a study in a journal has none; it counts with search.storage="
    check_used(experiment.settings.overrides, unused)
    if typed.search.pinned and not typed.space:
        Space.of(experiment.settings.config)  # says that nothing is left


def check_folder(place: Path, said: str) -> None:
    """Raise ConfigError unless `place`, named by `said`, is a folder that one can write to, or can be made."""
    for above in (place, *place.parents):
        if os.path.lexists(above):
            if not above.is_dir():
                raise ConfigError(f"{said} {place}: {above} is a file; give a folder")
            if not os.access(above, os.W_OK | os.X_OK):
                raise ConfigError(f"{said} {place}: {above} cannot be written to")
            return


def check_file(place: Path, said: str) -> None:
    """The same of a file."""
    if place.is_dir():
        raise ConfigError(f"{said} {place} is a folder: name a file in it")
    check_folder(place.parent, f"{said} {place}:")
