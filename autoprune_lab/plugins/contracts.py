"""Finds the plug-ins that look at evidence, in any package: by what they take and what they give, no list names them.

Each is a public function, or a class whose instances are called, with `Evidence` as the first argument:

* a scorer gives `Float[Tensor, "batch vision"]` and needs no other argument,
* a complexity estimator gives `Float[Tensor, "batch"]` and needs no other argument,
* a recovery gives `Survivors` of (evidence, scores, kept, merged).
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Any, get_type_hints

from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.plugins.discovery import modules_of
from autoprune_lab.selection.recovery import Survivors

Plugin = Callable[..., Any]


@dataclass(frozen=True)
class Contract:
    """What a kind of plug-in takes (`n_arguments` in all, evidence first) and `gives`.

    `words` name one of them, `group` is its folder in conf/ and its field of a pruner.
    """

    words: str
    group: str
    gives: Any
    n_arguments: int

    @property
    def line(self) -> str:
        """The annotations that make a function one of them."""
        gives = self.gives.__name__.replace("'", '"')  # jaxtyping quotes the other way round
        others = ", scores, kept, merged" if self.n_arguments > 1 else ""
        return f"(evidence: Evidence{others}) -> {gives}"

    def kept_by(self, plugin: Any, settings: Collection[str] = ()) -> bool:
        """Does a function with `settings` bound, or a class's `__call__`, take and give that, by its annotations?"""
        call = plugin if inspect.isfunction(plugin) else plugin.__call__
        if not inspect.isfunction(call):  # a class whose instances are not called
            return False
        try:
            hints = get_type_hints(call)
        except Exception:  # names that only type checkers import: none of the contract's
            return False
        parameters = [p for p in inspect.signature(call).parameters.values() if p.name != "self"]
        wanted = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if call is plugin:
            wanted = [p for p in wanted if p.name not in settings]
        looks = bool(parameters) and hints.get(parameters[0].name) is Evidence
        return looks and wanted == parameters[: self.n_arguments] and self.gives_as(hints.get("return"))

    def gives_as(self, gives: Any) -> bool:
        """Is it the same type? Two of jaxtyping's are alike, not the same object."""
        return _facts(gives) == _facts(self.gives)


SCORER = Contract("a scorer", "scorer", Float[Tensor, "batch vision"], n_arguments=1)
ESTIMATOR = Contract("a complexity estimator", "complexity", Float[Tensor, "batch"], n_arguments=1)
RECOVERY = Contract("a recovery", "recovery", Survivors, n_arguments=4)


def plugins_of(package: str, contract: Contract) -> list[Plugin]:
    """Every plug-in of that contract defined in the importable `package` (or module), in order of its full name."""
    plugins = {member for module in modules_of(package) for member in _public(module) if contract.kept_by(member)}
    return sorted(plugins, key=lambda plugin: (plugin.__module__, plugin.__qualname__))


def find_scorers(package: str) -> list[Plugin]:
    """Every scorer defined in the importable `package` (or module), in order of its full name."""
    return plugins_of(package, SCORER)


def find_estimators(package: str) -> list[Plugin]:
    """The same for complexity estimators."""
    return plugins_of(package, ESTIMATOR)


def find_recoveries(package: str) -> list[Plugin]:
    """The same for recoveries."""
    return plugins_of(package, RECOVERY)


def _public(module: ModuleType) -> list[Any]:
    """Functions and classes whose home is this module."""
    members = [member for name, member in vars(module).items() if not name.startswith("_")]
    return [m for m in members if (inspect.isfunction(m) or inspect.isclass(m)) and m.__module__ == module.__name__]


def _facts(kind: Any) -> list[Any]:
    return [getattr(kind, name, kind) for name in ("array_type", "dim_str", "dtypes")]
