"""A study's experiment with another model, task or split: its config, with some values changed by words."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from search.config.compose import settings_of
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.overrides import SEVERAL, changed_keys, is_below, key_of, names_several, parsed, spelled, values_of
from search.config.paths import changed, select
from search.config.trust import check_made

PARTS = ("model", "task")
REPORT = "report"


def combinations(words: Sequence[str]) -> list[list[str]]:
    """The words of each combination of the values that they name, the last word's values changing fastest.

    Other than elsewhere, `task=A,B` are two tasks.
    """
    several = [(names_several(word) if key_of(word) == SEVERAL else values_of(word)) for word in words]
    named = [
        [f"{word.partition('=')[0]}={value}" for value in values] or [word]
        for word, values in zip(words, several, strict=True)
    ]
    return [list(chosen) for chosen in product(*named)]


def variant(config: Mapping[str, Any], words: Sequence[str], folders: Sequence[Path], source: str) -> Experiment:
    """The experiment of a study's `config`: its model, task and report, all else as the words say.

    A part that is named (`model=NAME`) is that option, with the shipped report if it is the task; a field of another
    (`model.path=DIR`) changes the study's own. Raises ConfigError for a wrong word, and where the config names code
    that neither the words nor a config here do: `source` says whose it is.
    """
    typed = changed_keys(words)
    named = [part for part in PARTS if part in typed]
    of_own = [word for word in words if _part_of(word) not in (None, *named)]
    said = Experiment.compose([word for word in words if word not in of_own], folders)
    taken = [part for part in (*PARTS, REPORT) if part not in named and not (part == REPORT and SEVERAL in named)]
    whole = said.settings.config | {part: config[part] for part in taken if part in config}
    reported = {key: select(said.settings.config, key) for key in typed if is_below(key, f"{REPORT}.task")}
    fields = {key_of(word): parsed(spelled(word)).value() for word in of_own}
    try:
        found = _experiment(whole, reported | fields, folders)
        check_made(found, _experiment(said.settings.config, fields, folders), (*PARTS, REPORT), source)
        _ = found.model_settings, found.task, found.report_task  # built here, so that a wrong field is told
    except KeyError as error:
        raise ConfigError(f"unknown field '{error.args[0]}': {source} has none of that name") from error
    return found


def _experiment(config: Mapping[str, Any], changes: Mapping[str, Any], folders: Sequence[Path]) -> Experiment:
    return Experiment(settings_of(changed(config, changes), folders))


def _part_of(word: str) -> str | None:
    """The part of which a word gives a field."""
    return next((part for part in PARTS if key_of(word).startswith(f"{part}.")), None)
