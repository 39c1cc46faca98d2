"""Studies that differ in nothing but their seed, as one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from autoprune_lab.fronts.front import ParetoFront
from search.config.errors import ConfigError
from search.config.identity import is_as_before, is_free
from search.config.paths import leaves
from search.results.study_result import StudyResult

SEED = re.compile(r"(?P<stem>.+)[-_]s(?P<seed>\d+)")  # logistic-s0, logistic-s1, ...
MUST_AGREE = ("search.n_trials", "report")  # though two runs of one study may differ in them


@dataclass(frozen=True)
class Contender:
    """One study, or one under several seeds, by rising seed."""

    name: str
    seeds: tuple[int | None, ...]
    studies: tuple[StudyResult, ...]

    def fronts(self, report: bool) -> list[ParetoFront]:
        """The front of each seed, on the report or on the tune split."""
        return [study.report_front if report else study.front for study in self.studies]


def contenders(studies: Sequence[StudyResult]) -> list[Contender]:
    """Studies named NAME-s0, NAME-s1, ... as the seeds of NAME, all others alone, in the order given.

    Raises ConfigError where seeds of one name differ in more than the seed, or costs cannot be compared.
    """
    once = list({study.folder.resolve(): study for study in studies}.values())
    for study in once[1:]:
        if study.cost != once[0].cost:
            raise ConfigError(
                f"{once[0].name} counts {once[0].cost}, {study.name} {study.cost}: they cannot be compared"
            )
    order = {name: place for place, name in reversed(list(enumerate(map(_stem, once))))}
    ranked = sorted(once, key=lambda study: (order[_stem(study)], _seed(study) or 0))
    groups = [(stem, list(group)) for stem, group in groupby(ranked, key=_stem)]
    return [contender for stem, group in groups for contender in _together(stem, group)]


def _together(stem: str, group: Sequence[StudyResult]) -> list[Contender]:
    """The studies of one stem: one contender where they have seeds, different ones."""
    seeds = [_seed(study) for study in group]
    if len(group) == 1 or None in seeds or len(set(seeds)) < len(seeds):
        return [Contender(_name(study, group), (None,), (study,)) for study in group]
    for other in group[1:]:
        _check_same(group[0], other)
    return [Contender(stem, tuple(seeds), tuple(group))]


def _stem(study: StudyResult) -> str:
    found = SEED.fullmatch(study.name)
    return found["stem"] if found else study.name


def _seed(study: StudyResult) -> int | None:
    found = SEED.fullmatch(study.name)
    return int(found["seed"]) if found else None


def _name(study: StudyResult, group: Sequence[StudyResult]) -> str:
    """Its own name, or its folder where another has the same."""
    alone = sum(other.name == study.name for other in group) == 1
    return study.name if alone else str(study.folder)


def _check_same(one: StudyResult, other: StudyResult) -> None:
    """Raise ConfigError naming the first setting beside the seed in which two studies differ."""
    first, second = (
        {path: value for path, value in leaves(study.config).items() if not is_as_before(path, value)}
        for study in (one, other)
    )
    for path in sorted({*first, *second}):
        if path in ("seed", "search.sampler.seed") or (is_free(path) and not path.startswith(MUST_AGREE)):
            continue
        then, now = first.get(path), second.get(path)
        if then != now:
            raise ConfigError(
                f"{one.name} and {other.name} are named as seeds of one study, but {path} is {then!r} and {now!r}: "
                "rename a folder so that it does not end in -sNUMBER"
            )
