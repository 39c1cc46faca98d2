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
from omegaconf import DictConfig, OmegaConf

from autoprune_lab.plugins.discovery import OURS, packages_of, targets
from search.config.compose import ConfigError, Settings, conf_dir, fields_of
from search.config.instantiate import pruner_packages
from search.config.overrides import parsed
from search.study.loop import is_free

MADE = ("model", "task", "search", "tracking", "launcher")  # made of what the config names, beside the pruner
LENGTH = "search.n_trials"  # free, but the same for all who work on a study


def for_others(word: str) -> bool:
    """Is it about the study, rather than about the host and the command that say it?"""
    try:
        override = parsed(word)
    except HydraException:
        return False
    key, value = override.key_or_group, override.value()
    paths = fields_of(value, key) if isinstance(value, dict) else [key]
    about_study = not key.startswith("hydra") and override.package is None
    return about_study and all(path == LENGTH or not is_free(path) for path in (key, *paths))


def check_words(words: Any, own: Settings) -> list[str]:
    """What a storage holds as words, without those of the worker's own command.

    Raises ConfigError for one that no study tells, or that may read this host's environment, as `${...}` can.
    """
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise ConfigError("the study's storage holds no list of words: it was not begun by autoprune study")
    told = [word for word in words if word not in own.overrides]
    for word in told:
        if "${" in word or not for_others(word):
            raise ConfigError(
                f"the study's storage tells its workers {word!r}, which only their own commands may say: "
                "add it to this one if you mean it"
            )
    return told


def check_code(told: Settings, own: Settings, packages: Sequence[str] = ()) -> None:
    """Raise ConfigError where the experiment runs code that neither the configs here nor the worker itself names.

    `own` is what the worker's command alone would give, `packages` those that it names for parts of a pruner.
    """
    trusted = {*OURS, *packages, *pruner_packages(own.config), *packages_of(list(_files(own.folders, "**")))}
    if missing := sorted(pruner_packages(told.config) - trusted):
        options = " ".join(f"--package {name}" for name in missing)
        names = ", ".join(missing)
        raise ConfigError(f"the study's pruners need code of {names}: add {options} if you trust that code")
    for key in MADE:
        known = {*_targets(own.config, key), *targets(list(_files([conf_dir(), *own.folders], key)))}
        if strange := sorted(set(_targets(told.config, key)) - known):
            raise ConfigError(
                f"{key}: the study's storage names {strange[0]}, which no config here does: "
                "add the word that says so to this command if you trust that code"
            )
    if told.typed.model.get("trust_remote_code") and not own.typed.model.get("trust_remote_code"):
        raise ConfigError(
            "the study runs the code of its checkpoint: read it, then add its words model=..., model.path=... and "
            "model.trust_remote_code=true to this command"
        )


def _targets(config: DictConfig, key: str) -> Iterator[str]:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return targets(plain[key])


def _files(folders: Iterable[Path], below: str) -> Iterator[Any]:
    """What the YAML files of config folders say."""
    for folder in folders:
        for file in sorted(folder.glob(f"{below}/*.yaml")):
            yield yaml.safe_load(file.read_text(encoding="utf-8"))
