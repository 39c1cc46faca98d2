"""Puts an old study aside, so that its name is free."""

import optuna

from search.config.errors import ConfigError
from search.study.storage import StudyStorage


def put_aside(place: StudyStorage) -> None:
    """Keep folder and study under the first free NAME.old-N. Raises ConfigError while somebody works on it."""
    if living := place.liveness.living():
        raise ConfigError(f"study '{place.name}' is being worked on by {', '.join(living)}: stop them first")
    kept = _names(place) if place.url is not None and place.exists() else []
    n = next(
        n
        for n in range(1, 10_000)
        if not place.out.with_name(f"{place.out.name}.old-{n}").exists() and f"{place.name}.old-{n}" not in kept
    )
    if place.name in kept:
        storage = place.open()
        optuna.copy_study(
            from_study_name=place.name, from_storage=storage, to_storage=storage, to_study_name=f"{place.name}.old-{n}"
        )
        optuna.delete_study(study_name=place.name, storage=storage)
    if place.out.exists():
        place.out.rename(place.out.with_name(f"{place.out.name}.old-{n}"))


def _names(place: StudyStorage) -> list[str]:
    return place.exclusively(lambda: optuna.get_all_study_names(storage=place.open()))
