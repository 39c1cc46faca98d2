"""What a study's storage tells a worker, taken as the words of a stranger.

They choose among what is here: options, numbers, paths of data. They name no code but parts of a pruner, run none of a
checkpoint's, and decide nothing about this host. What the worker's own command says or its own config folders hold is
trusted.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException

from autoprune_lab.plugins.discovery import OURS, packages_of, targets
from search.config.catalogue import conf_dir
from search.config.compose import Settings
from search.config.errors import ConfigError, add_packages
from search.config.experiment import Experiment
from search.config.identity import is_free
from search.config.overrides import parsed, spelled
from search.config.paths import leaves

MADE = ("model", "task", "search", "tracking", "launcher")  # made of what the config names, beside the pruner
LENGTH = "search.n_trials"  # free, but the same for all who work on a study


def for_others(word: str) -> bool:
    """Is it about the study, rather than about the host and the command that say it?"""
    try:
        override = parsed(word)
    except HydraException:
        return False
    key, value = override.key_or_group, override.value()
    paths = leaves(value, key) if isinstance(value, dict) else [key]
    about_study = not key.startswith("hydra") and override.package is None
    return about_study and all(path == LENGTH or not is_free(path) for path in (key, *paths))


def words_for_others(settings: Settings) -> list[str]:
    """What was said on the command line, as far as another host must know it too."""
    return [word for word in map(spelled, settings.overrides) if for_others(word)]


def check_words(words: Any, own: Experiment) -> list[str]:
    """What a storage holds as words, without those of the worker's own command.

    Raises ConfigError for one that no study tells, or that may read this host's environment, as `${...}` can.
    """
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise ConfigError("the study's storage holds no list of words: it was not begun by autoprune study")
    told = [word for word in words if word not in own.settings.overrides]
    for word in told:
        if "${" in word or not for_others(word):
            raise ConfigError(
                f"the study's storage tells its workers {word!r}, which only their own commands may say: "
                "add it to this one if you mean it"
            )
    return told


def check_code(told: Experiment, own: Experiment, packages: Sequence[str] = ()) -> None:
    """Raise ConfigError where the experiment runs code that neither the configs here nor the worker itself names.

    `own` is what the worker's command alone would give, `packages` those that it names for parts of a pruner.
    """
    if missing := sorted(told.packages - trusted(own, packages)):
        names = ", ".join(missing)
        raise ConfigError(f"the study's pruners need code of {names}: {add_packages(missing)}")
    check_made(told, own, MADE, "the study's storage")


def trusted(own: Experiment, packages: Sequence[str] = ()) -> set[str]:
    """The packages whose code a pruner of somebody else's study may be made of, as in `check_code`."""
    return {*OURS, *packages, *own.packages, *packages_of(list(_files(own.settings.folders, "**")))}


def check_made(told: Experiment, own: Experiment, keys: Iterable[str], source: str) -> None:
    """Raise ConfigError for a `_target_` below `keys` that neither a config here nor `own` names, or remote code.

    `source`: who tells.
    """
    for key in keys:
        files = _files([conf_dir(), *own.settings.folders], "experiment" if key == "report" else key)
        known = {*targets(own.settings.config[key]), *targets(list(files))}
        if strange := sorted({*targets(told.settings.config[key])} - known):
            raise ConfigError(
                f"{key}: {source} names {strange[0]}, which no config here does: "
                "add the word that says so to this command if you trust that code"
            )
    if told.typed.model.get("trust_remote_code") and not own.typed.model.get("trust_remote_code"):
        raise ConfigError(
            "the study runs the code of its checkpoint: read it, then add its words model=..., model.path=... and "
            "model.trust_remote_code=true to this command"
        )


def _files(folders: Iterable[Path], below: str) -> Iterator[Any]:
    """What the YAML files of config folders say."""
    for folder in folders:
        for file in sorted(folder.glob(f"{below}/*.yaml")):
            yield yaml.safe_load(file.read_text(encoding="utf-8"))
