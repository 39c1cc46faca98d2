"""The search space: which fields of the pruner a study may change, and which options of its config groups."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search.config.dimension import GROUP, Dimension, Value, Values, entries, is_number, read_dimension
from search.config.errors import ConfigError, close
from search.config.paths import changed, leaves, select

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, eq=False)
class Option:
    """One option of a config group: the fields that it sets, and what may be searched while it is chosen."""

    name: str
    sets: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """A config group of which a study chooses an option; `now` is the one that the config itself names."""

    path: str
    options: tuple[Option, ...]
    now: str | None

    def option(self, name: object, owner: str) -> Option:
        """The option of that name; ConfigError, with `owner` to say whose it is, where there is none."""
        names = [option.name for option in self.options]
        if name not in names:
            raise ConfigError(f"{owner}: {self.path}={name!r} is not among {names}{close(str(name), names)}")
        return self.options[names.index(str(name))]


@dataclass(frozen=True)
class Space:
    """All dimensions of a study, in the order of the config, and the groups whose options bring more of them."""

    dimensions: tuple[Dimension, ...]
    groups: tuple[Group, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Space":
        """Read `space` of a config; raise ConfigError for a path the config does not have or a wrong type."""
        found = list(entries(config["space"]))
        groups = tuple(_group(path, entry, config) for path, entry in found if entry["type"] == GROUP)
        space = cls(tuple(read_dimension(p, entry) for p, entry in found if entry["type"] != GROUP), groups)
        if not found and (pinned := select(config, "search.pinned")):
            raise ConfigError(
                f"nothing is left to search: {', '.join(pinned)} was typed, and what is typed is not searched; "
                "leave a word out, or measure this one setting with autoprune evaluate"
            )
        if not found:
            raise ConfigError("the space is empty: add a dimension, for example conf/space/<policy>.yaml")
        _check_once([dimension.path for dimension in space.dimensions])
        _check_once([path for group in groups for path in group.options[0].sets])
        for dimension in space.dimensions:
            _check_owned(dimension, groups)
            _check_path(dimension, config)
        return space

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """What a trial changes in the config: one value per dimension, and per group an option with its own."""
        for group in self.groups:
            names = [option.name for option in group.options]
            chosen = group.option(trial.suggest_categorical(group.path, names), "trial")
            for dimension in chosen.dimensions:
                dimension.suggest(trial)
        for dimension in self.dimensions:
            dimension.suggest(trial)
        return self.changes(trial.params)

    def asked_by(self, names: Mapping[str, str]) -> "Space":
        """The same space, its choices called by those `names` that there are for them."""

        def asked(dimensions: Sequence[Dimension]) -> tuple[Dimension, ...]:
            return tuple(replace(d, choices=tuple(names.get(str(c), c) for c in d.choices)) for d in dimensions)

        options = [tuple(replace(o, dimensions=asked(o.dimensions)) for o in group.options) for group in self.groups]
        groups = (replace(group, options=some) for group, some in zip(self.groups, options, strict=True))
        return Space(asked(self.dimensions), tuple(groups))

    def changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the parameters of a trial change in the config, by path; `search.config.paths.changed` takes it."""
        options = [group.option(params[group.path], "trial") for group in self.groups]
        paths = {dimension.name: dimension.path for dimension in self._with(options)}
        sets = {path: node for option in options for path, node in option.sets.items()}
        return sets | {paths[name]: value for name, value in params.items() if name in paths}

    def complete(self, baseline: Mapping[str, Any], config: Mapping[str, Any], name: str) -> Values:
        """A baseline by path -> parameters of a trial; what it leaves open is the config's, where the space has that.

        Raises ConfigError for a path that is not searched or a value outside the space.
        """
        options = [group.option(baseline.get(group.path, group.now), name) for group in self.groups]
        values: Values = {group.path: option.name for group, option in zip(self.groups, options, strict=True)}
        config = changed(config, {path: node for option in options for path, node in option.sets.items()})
        known = {dimension.path: dimension for dimension in self._with(options)}
        for path, value in baseline.items():
            if path not in known and path not in values:
                raise ConfigError(f"{name}: {path} is not in the search space{self._elsewhere(path, known)}")
            if path in known:
                known[path].check(value, name)
        for path, dimension in known.items():
            now: Value = baseline[path] if path in baseline else select(config, path)
            try:
                dimension.check(now, name)
            except ConfigError:
                continue  # left to the sampler
            values[dimension.name] = float(now or 0) if dimension.type == "float" else now
        return values

    def settings(self, params: Mapping[str, Any]) -> Values:
        """The parameters of a trial, by config path."""
        options = [group.option(params[group.path], "trial") for group in self.groups]
        paths = {dimension.name: dimension.path for dimension in self._with(options)}
        return {paths.get(name, name): value for name, value in params.items()}

    def exact(self, settings: Mapping[str, Any], config: Mapping[str, Any], name: str) -> Values:
        """The parameters of a trial with these settings by config path, of which none is left open.

        Raises ConfigError as `complete` does, and for one that is missing.
        """
        values = self.complete(settings, config, name)
        options = [group.option(values[group.path], name) for group in self.groups]
        known = [*(group.path for group in self.groups), *(dimension.path for dimension in self._with(options))]
        if missing := [path for path in known if path not in settings]:
            raise ConfigError(f"{name}: {missing[0]} is missing: give all of {', '.join(known)}")
        return values

    def corners(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The changes with every dimension at its low, then at its high end, for each option of each group."""
        first = [group.options[0] for group in self.groups]
        choices = [first] if not self.groups else []
        for i, group in enumerate(self.groups):
            choices += [[*first[:i], option, *first[i + 1 :]] for option in group.options]
        for options in choices:
            where = "".join(f"{group.path}={o.name}, " for group, o in zip(self.groups, options, strict=True))
            for i, end in enumerate(("low", "high")):
                params: Values = {group.path: option.name for group, option in zip(self.groups, options, strict=True)}
                params |= {dimension.name: dimension.ends()[i] for dimension in self._with(options)}
                yield f"{where}every dimension at its {end} end", self.changes(params)

    def _with(self, options: Sequence[Option]) -> list[Dimension]:
        """The dimensions of a trial that chose `options`."""
        return [*(dimension for option in options for dimension in option.dimensions), *self.dimensions]

    def _elsewhere(self, path: str, known: Mapping[str, object]) -> str:
        """Which option would bring the path, or what is like it."""
        for group in self.groups:
            owners = [o.name for o in group.options if any(dimension.path == path for dimension in o.dimensions)]
            if owners:
                return f" of this option: it belongs to {group.path}={' or '.join(owners)}"
        return close(path, [*known, *(group.path for group in self.groups)])


def _group(path: str, entry: Mapping[str, Any], config: Mapping[str, Any]) -> Group:
    """A group as `search.config.options.expand` left it in the config."""
    options = []
    for name, option in entry["options"].items():
        found = [read_dimension(at, dimension, name) for at, dimension in entries(option["space"])]
        for dimension in found:
            _check_path(dimension, changed(config, option["sets"]))
        options.append(Option(str(name), option["sets"], tuple(found)))
    return Group(path, tuple(options), entry["now"])


def _check_once(paths: Sequence[str]) -> None:
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise ConfigError(f"space.{path} is given twice")


def _check_owned(dimension: Dimension, groups: Sequence[Group]) -> None:
    for group in groups:
        for path in group.options[0].sets:
            if f"{dimension.path}.".startswith(f"{path}."):
                raise ConfigError(
                    f"space.{dimension.path} lies in what space.{group.path} chooses: "
                    "put it into conf/space/<option>.yaml, beside its option"
                )


def _check_path(dimension: Dimension, config: Mapping[str, Any]) -> None:
    from search.config.instantiate import wants_whole_number  # brings Hydra, which a space made in Python needs not

    known = [path for path in leaves(config) if path.startswith("pruner.")]
    if dimension.path not in known:
        raise ConfigError(
            f"space: unknown path '{dimension.path}'{close(dimension.path, known)}: "
            "a study can change fields of the pruner that exist in the config"
        )
    now = select(config, dimension.path)
    values = dimension.choices if dimension.type == "categorical" else (dimension.low,)
    suits = now is None or all(value is None or is_number(value) == is_number(now) for value in values)
    if not suits or (dimension.type == "float" and wants_whole_number(config, dimension.path)):
        raise ConfigError(
            f"space.{dimension.path}: type {dimension.type} does not suit the field, "
            f"whose value is {now!r} ({type(now).__name__})"
        )
