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
REPORT = "report.task"
FREE = ("batch_size", "features_gib", "prefix_gib", "cache")  # how answers are made; they change none


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
    """The experiment of a study's `config`, on what the words say: a model, a task, its report, how answers are made.

    A part that is named (`model=NAME`) is that option, a field of one that is not (`model.path=DIR`) changes the
    study's own. What is no such word changes nothing. Raises ConfigError for a wrong one, and where the config names
    code that neither the words nor a config here do: `source` says whose it is.
    """
    named = [part for part in PARTS if part in changed_keys(words)]
    of_own = [word for word in words if _part_of(word) not in (None, *named)]
    said = Experiment.compose([word for word in words if word not in of_own], folders)
    fields = {key_of(word): parsed(spelled(word)).value() for word in of_own}
    changes = {part: said.settings.config[part] for part in named}
    if SEVERAL in named:
        changes[REPORT] = said.settings.config["report"]["task"]
    copied = [key for key in changed_keys(words) if is_below(key, REPORT) or key in FREE]
    changes |= {key: select(said.settings.config, key) for key in copied}
    try:
        whole = {**said.settings.config, **config}  # one of an earlier version may lack what is newer
        found = _experiment(whole, changes | fields, folders)
        check_made(found, _experiment(said.settings.config, fields, folders), (*PARTS, "report"), source)
        _ = found.model_settings, found.task, found.report_task  # built here, so that a wrong field is told
    except KeyError as error:
        raise ConfigError(f"unknown field '{error.args[0]}': {source} has none of that name") from error
    return found


def _experiment(config: Mapping[str, Any], changes: Mapping[str, Any], folders: Sequence[Path]) -> Experiment:
    return Experiment(settings_of(changed(config, changes), folders))


def _part_of(word: str) -> str | None:
    """The part of which a word gives a field."""
    return next((part for part in PARTS if key_of(word).startswith(f"{part}.")), None)
