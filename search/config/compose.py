"""Composes the experiment's config with Hydra; every mistake in it becomes one line that names the key."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from autoprune_lab.plugins.renamed import renamed
from search.config.catalogue import conf_dir, options_of
from search.config.errors import ConfigError, close, without_password
from search.config.options import expand
from search.config.overrides import SEVERAL, changed_keys, is_below, key_of, names_several, quoted, spelled
from search.config.paths import leaves
from search.config.pinned import pin
from search.config.ranges import check
from search.config.schema import Schema

OPTIONAL = ("method", "experiment", "space")  # groups of which null is an option
NEEDED = ("model", "task", "policy", "budget", "search", "tracking", "launcher")  # groups that no experiment is without


@dataclass(frozen=True)
class Settings:
    """One composed experiment in plain values: the config, its typed form, which option of each group was chosen."""

    config: dict[str, Any]
    typed: Schema
    choices: Mapping[str, str | None]
    overrides: tuple[str, ...]
    folders: tuple[Path, ...]

    @property
    def out(self) -> Path:
        """The study's own folder."""
        return Path(self.typed.out)

    @property
    def yaml(self) -> str:
        """The config as it is written into a file: without passwords."""
        lines = OmegaConf.to_yaml(OmegaConf.create(self.config)).splitlines(keepends=True)
        return "".join(map(without_password, lines))


def compose(overrides: Sequence[str] = (), folders: Sequence[Path] = ()) -> Settings:
    """Compose config.yaml with `overrides`; `folders` are config folders beside the shipped one.

    Raises ConfigError for an unknown option or field, a missing or a wrong value.
    """
    without = {f"{group}=null": f"~{group}" for group in OPTIONAL}  # Hydra takes no null for a group
    words = _with_budget_group([spelled(without.get(word, word)) for word in overrides])
    _check_folders(folders)
    for word in words:
        _check_group(word, folders)
    words = _with_one_task(words, folders)
    config, choices = _compose(words, folders)
    expand(config, words, choices, lambda group: options_of(group, folders), lambda some: _compose(some, folders)[0])
    _share(config, words)
    with _in_one_line():
        pin(config, words, choices)
        _fill_in(config, choices)
        OmegaConf.resolve(config)
    typed = _typed(config)
    if typed.search.storage is not None:
        config.search.storage = without_password(typed.search.storage)  # the config is written into files
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    return Settings({str(key): value for key, value in plain.items()}, typed, choices, tuple(overrides), tuple(folders))


def settings_of(config: Mapping[str, Any], folders: Sequence[Path] = ()) -> Settings:
    """The settings of a whole config in plain values, such as a study's; it knows neither words nor options.

    Raises ConfigError for a missing or a wrong value.
    """
    return Settings(dict(config), _typed(OmegaConf.create(dict(config))), {}, (), tuple(folders))


def _typed(config: DictConfig) -> Schema:
    """The config's numbers and texts, in their types and ranges. Raises ConfigError."""
    with _in_one_line():
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Schema), config))
    assert isinstance(typed, Schema)
    check(typed)
    return typed


@contextmanager
def _in_one_line() -> Iterator[None]:
    """What OmegaConf refuses, as a ConfigError that names the key."""
    try:
        yield
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(key + _first_line(error)) from error


def _fill_in(config: DictConfig, choices: Mapping[str, str | None]) -> None:
    """The study's name, where none is given. ConfigError for a field that is not there, or has no value."""
    known = [each.name for each in fields(Schema)]
    for key in config:
        if key not in known:
            raise ConfigError(_unknown(str(key), OmegaConf.masked_copy(config, known), choices))
    if OmegaConf.is_missing(config, "study"):
        config.study = choices["space" if _searches_groups(config) else "policy"]
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"{missing[0]} has no value: add {missing[0]}=VALUE to the command")


def _with_budget_group(overrides: Sequence[str]) -> list[str]:
    """`budget.mean_tokens=64` alone means a budget in tokens: without it the default group would bound FLOPs too."""
    names = {key_of(word) for word in overrides}
    in_tokens = "budget.mean_tokens" in names and not names & {"budget", "budget.flops_ratio"}
    return [*overrides, "budget=tokens"] if in_tokens else list(overrides)


def _with_one_task(words: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """`task=A,B` as Hydra takes it: task=several, and of the benchmarks in it these alone. The last choice counts."""
    choices = [word for word in words if word.partition("=")[0] == SEVERAL]
    names = names_several(choices[-1]) if choices else []
    others = [word for word in words if word not in choices]
    if not names:
        return [*others, *choices[-1:]] if any(map(names_several, choices)) else list(words)
    known = [name for name in options_of(SEVERAL, folders) if name != "several"]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown {SEVERAL} '{name}'{close(name, known)}; available: {', '.join(known)}")
        if names.count(name) > 1:
            raise ConfigError(f"{choices[-1]} names {name} twice: name each once")
    others.append(f"{SEVERAL}=several")
    place = f"{SEVERAL}@{SEVERAL}.tasks."
    _, found = _compose([word for word in others if not is_below(key_of(word), f"{SEVERAL}.tasks")], folders)
    there = [key.removeprefix(place) for key in found if key.startswith(place)]
    more = [f"+{place}{name}={name}" for name in names if name not in there]
    return [*others, *more, *(f"~{place}{name}" for name in there if name not in names)]


def _share(config: DictConfig, words: Sequence[str]) -> None:
    """Take from the benchmarks of task=several what is said for all of them. ConfigError where it was typed for one."""
    parts = config.task.get("tasks") if OmegaConf.is_dict(config.task) else None
    if not isinstance(parts, DictConfig):
        return
    for name, part in parts.items():
        for field in ("split", "per_kind"):
            if (key := f"task.tasks.{name!s}.{field}") in changed_keys(words):
                raise ConfigError(f"{key}: benchmarks of one task share it: task.{field}=VALUE")
            if isinstance(part, DictConfig):
                with open_dict(part):
                    part.pop(field, None)


def _compose(overrides: Sequence[str], folders: Sequence[Path]) -> tuple[DictConfig, dict[str, str | None]]:
    paths = ",".join(quoted(f"file://{folder.resolve()}") for folder in folders)
    extra = [f"hydra.searchpath=[{paths}]"] if folders else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir().resolve())):
            config = hydra_compose("config", overrides=[*overrides, *extra], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_explain(error, overrides, folders)) from error
    choices = {str(key): value for key, value in config.hydra.runtime.choices.items()}
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    plain = OmegaConf.to_container(config)
    if (now := renamed(plain)) != plain:  # words, or files of a user's own, that are older than a name in them
        config = DictConfig(now)
    config.setdefault("space", {})
    OmegaConf.set_struct(config, True)
    _check_space_option(overrides, folders)
    return config, choices


def _check_group(word: str, folders: Sequence[Path]) -> None:
    """Raise ConfigError for a group that is left out, that is given no name, or whose name is given to its fields."""
    key, _, value = word.partition("=")
    group = key_of(word).removeprefix("pruner.")
    known = options_of(group, folders) if group.isidentifier() else []
    if not known:
        return
    if key == f"~{group}" and group in NEEDED:
        raise ConfigError(f"{word}: an experiment needs its {group}; to change it: {group}=NAME, of {', '.join(known)}")
    if key == f"pruner.{group}" and value in known:
        raise ConfigError(f"{word}: did you mean {group}={value}?")
    if key == group and re.fullmatch(r"(?i)null|true|false|[-+.\d]+", value) and value not in known:
        raise ConfigError(f"unknown {group} '{value}'; available: {', '.join(known)}")


def _check_folders(folders: Sequence[Path]) -> None:
    """Each is there, and Hydra would take no shipped file instead of one that they hold."""
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"config folder {folder} does not exist")
        for file in sorted((*folder.glob("*.yaml"), *folder.glob("*/*.yaml"))):
            shipped = conf_dir() / file.relative_to(folder)
            if shipped.is_file() and shipped.read_bytes() != file.read_bytes():
                raise ConfigError(f"{file} would be passed over for the shipped one of that name: give it another name")


def _searches_groups(config: DictConfig) -> bool:
    return any(OmegaConf.is_dict(node) and node.get("type") == "group" for node in config.space.values())


def _check_space_option(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """The group is optional (a policy need not have a space), so Hydra passes over a mistyped option."""
    named = [override.removeprefix("space=") for override in overrides if override.startswith("space=")]
    known = options_of("space", folders)
    for name in named:
        if name not in known:
            raise ConfigError(f"unknown space '{name}'{close(name, known)}; available: {', '.join(known)}")


def _explain(error: Exception, overrides: Sequence[str], folders: Sequence[Path]) -> str:
    """Hydra's message in one line, with what would have been right."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        listed = ", ".join(error.options)
        return f"unknown {group} '{option}'{close(option, error.options)}; available: {listed}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': write KEY=VALUE, for example policy=fixed"
    if doubled := re.match(r"Multiple values for (\S+?)\. |force-add of config groups .*'\+\+([^=]+)", text):
        group = doubled[1] or doubled[2]
        return f"{group} is chosen already: write {group}=NAME, once and without a plus"
    if there := re.match(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"{there[1]} is there already: write {there[1]}=VALUE, without a plus"
    unknown = re.match(r"Could not (?:override|delete from config\.?) '([^']+)'", text)
    if unknown is None:
        return _first_line(error)
    key = str(getattr(error.__cause__, "full_key", None) or unknown[1])
    others = [override for override in overrides if not is_below(key_of(override), unknown[1])]
    try:
        config, choices = _compose(others if len(others) < len(overrides) else (), folders)
    except ConfigError:
        config, choices = _compose((), ())
    return _unknown(unknown[1] if key in choices else key, config, choices)


def _unknown(key: str, config: DictConfig, choices: Mapping[str, str | None]) -> str:
    """That there is no such field, what is like it, and what is beside it."""
    known = [
        *(name for name in choices if not name.startswith("hydra") and "@" not in name),
        *leaves(OmegaConf.to_container(config, resolve=False)),
    ]
    parent, _, _ = key.rpartition(".")
    if parent in choices and OmegaConf.select(config, f"pruner.{parent}") is not None:  # policy.x for pruner.policy.x
        meant, parent = f"; did you mean pruner.{key}?", f"pruner.{parent}"
    else:
        meant = close(key, known)
    beside = sorted({name[len(parent) + 1 :].split(".")[0] for name in known if name.startswith(f"{parent}.")})
    listed = f"; fields of {parent}: {', '.join(beside)}" if parent and beside else ""
    return f"unknown field '{key}'{meant}{listed}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
