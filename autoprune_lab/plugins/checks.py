"""The contract tests of a package's plug-ins: what `autoprune check` and the pytest plugin run."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune_lab.plugins import evidence_checks, policy_checks
from autoprune_lab.plugins.contracts import plugins_of
from autoprune_lab.plugins.discovery import find_policies
from autoprune_lab.plugins.requirements import ContractError, NoConfigError

OK, FAILED, NO_CONFIG = "ok", "failed", "no config"


class PackageError(ValueError):
    """A package that is not there, cannot be imported or holds no plug-in."""


@dataclass(frozen=True)
class Check:
    """One point of a contract, of one plug-in."""

    plugin: Any
    point: Callable[[Any], None]

    def __str__(self) -> str:
        name = self.point.__name__.replace("_", " ")
        return f"{self.plugin.__module__}.{self.plugin.__qualname__}: {name}"

    def outcome(self) -> tuple[str, str]:
        """`OK`, `FAILED` or `NO_CONFIG`, and why in one line; a plug-in that raises has failed."""
        try:
            self.point(self.plugin)
        except ContractError as error:
            return FAILED, _one_line(error)
        except NoConfigError as error:
            return NO_CONFIG, _one_line(error)
        except Exception as error:  # of any type: it is the plug-in's own
            last = traceback.extract_tb(error.__traceback__)[-1]
            return FAILED, f"{type(error).__name__}: {_one_line(error)} ({Path(last.filename).name}:{last.lineno})"
        return OK, ""


def checks_of(package: str) -> list[Check]:
    """Every point of its contract for every policy, scorer, estimator and recovery of an importable package.

    Raises PackageError.
    """
    try:
        checks = [Check(kind, point) for kind in find_policies(package) for point in policy_checks.POINTS]
        for contract, points in evidence_checks.POINTS.items():
            checks += [Check(plugin, point) for plugin in plugins_of(package, contract) for point in points]
    except Exception as error:  # of any type: a user's own module may fail as it likes
        if isinstance(error, ModuleNotFoundError) and error.name and f"{package}.".startswith(f"{error.name}."):
            raise PackageError(f"there is no package '{package}', neither installed nor in this folder") from error
        raise PackageError(f"{package} cannot be imported: {type(error).__name__}: {_one_line(error)}") from error
    if not checks:
        kinds = "policy, scorer, complexity estimator or recovery"
        raise PackageError(f"{package} holds no {kinds}: plug-ins are found by their annotations, in its own modules")
    return checks


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
