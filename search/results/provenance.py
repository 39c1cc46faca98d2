"""What a study was made of: the code's commit, the packages' versions, the task's data, the model's weights."""

import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import optuna

from autoprune_lab.schedule import policy
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.drawn import spread

PROVENANCE = "provenance"  # attribute of a study
PACKAGES = ("autoprune-lab", "torch", "transformers", "numpy", "optuna", "mlflow", "hydra-core")


def note_provenance(study: optuna.Study, samples: Sequence[Sample]) -> None:
    """Add what this process runs with to the study's notes, if it is not the last one there."""
    noted = study.user_attrs.get(PROVENANCE, [])
    now = {
        **commit(Path.cwd()),
        "packages": {"python": platform.python_version()} | versions(PACKAGES),
        "data": fingerprint(samples),
        "weights": study.user_attrs.get("settings", {}).get("model.weights", ""),
    }
    if noted[-1:] != [now]:
        study.set_user_attr(PROVENANCE, [*noted, now])


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def commit(folder: Path) -> dict[str, Any]:
    """{"commit", "changed"} of the repository that tracks this package's code, else of the folder's; none: {}."""
    code = Path(policy.__file__)
    place = code.parent if _git(code.parent, "ls-files", "--error-unmatch", code.name) else folder
    head = _git(place, "rev-parse", "HEAD")
    return {"commit": head, "changed": bool(_git(place, "status", "--porcelain", "-uno"))} if head else {}


def fingerprint(samples: Sequence[Sample]) -> str:
    """Sixteen letters that change with any sample's id, question or answers, or their order. Pictures are not read.

    Of very many samples that are made from seeds, some stand for all (`spread`).
    """
    mark = hashlib.sha256()
    for sample in spread(samples):
        mark.update(repr((sample.id, sample.question, tuple(sample.answers))).encode())
    return mark.hexdigest()[:16]


def tags_of(notes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The last note as tags of a run."""
    if not notes:
        return {}
    last = notes[-1]
    known = {
        "mlflow.source.git.commit": last.get("commit"),
        "git_changed": str(last["changed"]).lower() if "changed" in last else None,
        "data": last["data"],
        "weights": last["weights"],
    }
    known |= {f"version/{name}": version for name, version in last["packages"].items()}
    return {key: str(value) for key, value in known.items() if value}


def _git(folder: Path, *words: str) -> str:
    """What git says, or nothing."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
