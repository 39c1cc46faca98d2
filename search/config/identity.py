"""What two runs of one study must agree in: every setting that a trial's result depends on."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from search.config.catalogue import files_of
from search.config.dimension import GROUP
from search.config.goal import OWN_SCORE
from search.config.paths import leaves

if TYPE_CHECKING:
    from search.config.compose import Settings

SAMPLER = "search.sampler._target_"
FREE = (
    *("study", "folder", "out", "cache", "report", "tracking", "launcher", "model.device", "model.strict"),
    *("batch_size", "threads", "features_gib", "prefix_gib", "search.n_trials", "search.pictures"),
    *("search.storage", "search.workers", "search.heartbeat", "search.patience"),
)

LATER = {"frames": 8, "fps": 1.0}
"""Fields of tasks that came after studies were made, and the values that change nothing of what those are made of."""

LATER_PATHS = {"search.score": (None, OWN_SCORE), "search.least_gain": (None,)}
"""The same of other fields, by path: all such values."""


def is_free(path: str) -> bool:
    """May this setting differ between two runs of one study?"""
    return any(path == free or path.startswith(f"{free}.") for free in FREE)


def is_as_before(path: str, value: object) -> bool:
    """Is it a later field that stands where it changes nothing? A folder from before then stays the same."""
    name = path.rpartition(".")[2]
    if path in LATER_PATHS:
        return value in LATER_PATHS[path]
    return path.startswith("task.") and name in LATER and value == LATER[name]


def made_of(settings: "Settings", weights: str = "") -> dict[str, Any]:
    """All settings that a trial's result depends on, by path; `weights` is the checkpoint's mark."""
    kept = {
        path: value
        for path, value in leaves(settings.config).items()
        if not path.startswith(("space.", "search.baselines.")) and not is_free(path) and not is_as_before(path, value)
    }
    kept |= {"search.baselines": settings.typed.search.baselines, "space": settings.config["space"]}
    return dict(json.loads(json.dumps(kept | {"model.weights": weights})))


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """'KEY was X, now Y' of the first two that differ, and how many more do; empty where none does."""
    differing = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    shown = "; ".join(f"{key} was {then.get(key)!r}, now {now.get(key)!r}" for key in differing[:2])
    return shown + (f" and {len(differing) - 2} more" if len(differing) > 2 else "")


def options_of_then(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The words that give every searched group the options that a study began with, where there are others now."""
    groups = {path: node["choices"] for path, node in then.get("space", {}).items() if node.get("type") == GROUP}
    chosen = {path: now.get("space", {}).get(path, {}).get("choices", had) for path, had in groups.items()}
    return [f"space.{path}.choices=[{','.join(had)}]" for path, had in groups.items() if chosen[path] != had]


def search_of(made_of: Mapping[str, Any]) -> list[str]:
    """The word that chooses the search that a study was made with; none where it is no option of `search`."""
    options = {name: yaml.safe_load(file.read_text()) for name, file in files_of("search").items()}
    targets = {option["sampler"]["_target_"]: name for name, option in options.items()}
    return [f"search={targets[made_of[SAMPLER]]}"] if made_of.get(SAMPLER) in targets else []
