"""Makes the parts of a pruner from plain data that anybody may have written: a shared file, a study's storage.

`_target_` names a frozen dataclass, made of the fields beside it, or with `_partial_: true` a function, which is not
called but bound to the keyword arguments beside it. What may stand in a field is what the field's annotation says: a
policy, a sizing, a scorer, a number. Nothing else is taken, so nothing but the makers of such dataclasses is called.
"""

import importlib
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import isabstract, isclass, isfunction, signature
from typing import Any, Final, Literal, NewType, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from autoprune_lab.errors import one_line
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.plugins.contracts import ESTIMATOR, RECOVERY, SCORER, Contract
from autoprune_lab.plugins.discovery import OURS, TARGET, closest, near_miss, package_of, packages_of, targets
from autoprune_lab.plugins.renamed import renamed
from autoprune_lab.schedule.policy import Policy
from autoprune_lab.schedule.sizing import Sizing

MOST_NODES, MOST_DEPTH = 5_000, 20
PARTIAL = "_partial_"
_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
_LISTS = (list, tuple, Sequence, Collection, Iterable)
_ANY = (Any, object)


class PartError(ValueError):
    """What was read is no part of a pruner, or not one that fits its place: one line with place, value and remedy."""


class PackagesError(PartError):
    """What was read names code of packages (`missing`) that its reader has not named."""

    def __init__(self, missing: Collection[str], example: str) -> None:
        self.missing = tuple(sorted(missing))
        near = "".join(f"; did you mean {near}?" for name in self.missing if (near := _mistyped(name)))
        self.needs = f"needs code of {', '.join(self.missing)}, such as {_cut(example)}{near}"
        super().__init__(f"{self.needs}: load it with packages={list(self.missing)} if you trust that code")


def make(node: Any, kind: Any, packages: Collection[str] = (), at: str = "") -> Any:
    """The value of `kind`, a class or an annotation, that `node`, of YAML's own types, describes.

    Modules of `autoprune_lab`, `policies` and the top-level `packages` may be imported for it. `at` is the node's
    place, for messages. Raises PackagesError, with nothing imported, for code of others, and PartError.
    """
    check_size(node)
    node = renamed(node)
    allowed = {*OURS, *packages}
    missing = {name for name in packages_of(node) - allowed if name.isidentifier()}  # others name no part at all
    if missing:
        raise PackagesError(missing, next(name for name in targets(node) if package_of(name) in missing))
    return _value(node, kind, at, allowed)


def check_size(node: Any, depth: int = 1) -> int:
    """How many values a node holds. Raises PartError for too many, or for too deep ones."""
    items = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ()
    check_bounds(n := 1, depth)
    for item in items:
        check_bounds(n := n + check_size(item, depth + 1), depth)
    return n


def check_bounds(n: int, depth: int) -> None:
    """Raise PartError for more values, or a deeper nesting, than any pruner has."""
    if depth > MOST_DEPTH:
        raise PartError(f"is nested deeper than {MOST_DEPTH} levels, as no pruner is")
    if n > MOST_NODES:
        raise PartError(f"holds more than {MOST_NODES} values, as no pruner does")


def _value(node: Any, kind: Any, at: str, allowed: Collection[str]) -> Any:
    kinds = _alternatives(kind)
    if isinstance(node, Mapping):
        return _part(node, kinds, at, allowed)
    if isinstance(node, list | tuple):
        for one in kinds:
            if (inner := _items(one, len(node))) is not None:
                items = [_value(item, inner[i], f"{at}[{i}]", allowed) for i, item in enumerate(node)]
                return items if list in (one, get_origin(one)) else tuple(items)
    elif any(_is_plain(node, one) for one in kinds):
        return node
    elif type(node) is int and float in kinds and abs(node) < 1e300:
        return float(node)
    raise PartError(f"{_place(at)}got {_shown(node)}, expected {_expected(kinds)}")


def _part(node: Mapping[Any, Any], kinds: Sequence[Any], at: str, allowed: Collection[str]) -> Any:
    """The dataclass or the bound function that a mapping names."""
    if TARGET not in node:
        raise PartError(f"{_place(at)}a mapping needs `{TARGET}`, got the keys {_shown(list(node))}")
    name, is_partial = node[TARGET], node.get(PARTIAL, False)
    found = _find(name, _below(at, TARGET), allowed)
    if is_partial not in (True, False) or isclass(found) == is_partial:
        rule = f"a function is taken with `{PARTIAL}: true` only, a class without it"
        raise PartError(f"{_place(at)}{name}: {rule}")
    settings = {str(key): item for key, item in node.items() if key not in (TARGET, PARTIAL)}
    if not any(_suits(found, one, settings) for one in kinds):
        raise PartError(f"{_place(at)}got {name}, expected {_expected(kinds)}{_why_not(found, kinds)}")
    takes = _takes(found)
    for key in settings:
        if key not in takes:
            near = f"; did you mean {near}?" if (near := closest(key, takes)) else ""
            known = ", ".join(takes) or "nothing"
            raise PartError(f"unknown field '{_below(at, key)}'{near}; {found.__name__} takes: {known}")
    made = {key: _value(item, takes[key], _below(at, key), allowed) for key, item in settings.items()}
    if is_partial:
        return partial(found, **made) if made else found
    try:
        return found(**made)
    except Exception as error:  # of any type: it is how a part says what it refuses
        raise PartError(f"{_place(at)}{one_line(error)}") from error


def _find(name: Any, at: str, allowed: Collection[str]) -> Any:
    """The class or function of that dotted name, defined in one of the allowed packages."""
    words = name.split(".") if isinstance(name, str) else []
    if len(words) < 2 or not all(word.isidentifier() and word[0] != "_" for word in words):
        raise PartError(f"{at} {_shown(name)} names no part: give package.module.name, without a leading `_`")
    module, _, attribute = name.rpartition(".")
    try:
        found = vars(importlib.import_module(module)).get(attribute)
    except Exception as error:  # of any type: a module of the user's own may fail as it likes
        if not (isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")):
            raise PartError(f"{at} '{name}' cannot be imported: {error}") from error
        found = None
    if found is None:
        near = f"; did you mean {near}?" if (near := near_miss(name)) else ""
        raise PartError(f"{at} '{name}' was not found{near}")
    if not (isclass(found) or isfunction(found)):
        raise PartError(f"{at} '{name}' is a {type(found).__name__}, not a part of a pruner")
    if (home := package_of(str(found.__module__))) not in allowed:
        raise PackagesError([home], f"{found.__module__}.{found.__qualname__}")
    return found


def _suits(found: Any, kind: Any, settings: Collection[str]) -> bool:
    """Is a class, or a function with these settings bound, of the kind?"""
    if isclass(found) and not (is_dataclass(found) and found.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        return False
    if kind in _ANY:
        return any(_suits(found, each, settings) for each in (Policy, Sizing, Callable))
    if contracts := _contracts(kind):
        return any(contract.kept_by(found, settings) for contract in contracts)
    return isclass(found) and isclass(kind) and issubclass(found, kind)


def _takes(found: Any) -> dict[str, Any]:
    """Fields of a dataclass, or settings of a function that looks at evidence, each with its annotation."""
    try:
        hints = get_type_hints(found)
    except Exception as error:  # a name that only type checkers import
        raise PartError(f"the annotations of {found.__name__} cannot be read: {error}") from error
    if isinstance(found, type):
        return {field.name: hints.get(field.name, Any) for field in fields(found) if field.init}
    _, *others = signature(found).parameters.values()
    return {p.name: hints.get(p.name, Any) for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _why_not(found: Any, kinds: Sequence[Any]) -> str:
    """What a class or a function lacks that was meant to be of one of the kinds."""
    if isclass(found) and any(isclass(kind) and issubclass(found, kind) for kind in kinds):
        return f": {found.__name__} is abstract" if isabstract(found) else ": a part is a @dataclass(frozen=True)"
    lines = dict.fromkeys(contract.line for kind in kinds for contract in _contracts(kind))
    return f", which is annotated so: {' or '.join(lines)}" if lines else ""


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The kinds of a union; of Final, NewType and a named type what they stand for."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(one for each in get_args(kind) for one in _alternatives(each))
    if get_origin(kind) is Final:
        return _alternatives(get_args(kind)[0])
    if isinstance(kind, NewType):
        return _alternatives(kind.__supertype__)
    named = type(kind).__name__ == "TypeAliasType"  # Python 3.12's `type X = ...`
    return _alternatives(kind.__value__) if named else (kind,)


def _contracts(kind: Any) -> list[Contract]:
    """The contracts of plug-ins that an annotation such as `Callable[[Evidence], Tensor]` allows."""
    if (get_origin(kind) or kind) is not Callable:
        return []
    parameters, gives = get_args(kind) or (..., Any)
    if parameters is not ... and Evidence not in parameters[:1]:
        return []
    known = [each for each in (SCORER, ESTIMATOR, RECOVERY) if parameters is ... or each.n_arguments == len(parameters)]
    loose = gives in (*_ANY, Tensor)
    return [each for each in known if each.gives_as(gives) or (loose and (gives is not Tensor or each is not RECOVERY))]


def _is_plain(node: Any, kind: Any) -> bool:
    """Is it a number, text, true, false or null of just that kind?"""
    if get_origin(kind) is Literal:
        return any(type(node) is type(value) and node == value for value in get_args(kind))
    return type(node) in _PLAIN and (kind in _ANY or kind is type(node))


def _items(kind: Any, n: int) -> Sequence[Any] | None:
    """The kinds of a list's `n` items; None where the kind is no list of so many."""
    if kind in _ANY:
        return [Any] * n
    origin, inner = get_origin(kind) or kind, get_args(kind) or (Any, ...)
    if origin not in _LISTS:
        return None
    if origin is not tuple or inner[-1] is ...:
        return [inner[0]] * n
    return inner if len(inner) == n else None


def _expected(kinds: Sequence[Any]) -> str:
    """What would have been right, in words."""
    words: list[str] = []
    for kind in kinds:
        if kind in _ANY:
            words.append("a number, text, a list or a part of a pruner")
        elif get_origin(kind) is Literal:
            words.append(f"one of {', '.join(map(str, get_args(kind)))}")
        elif contracts := _contracts(kind):
            words += [contract.words for contract in contracts]
        elif (get_origin(kind) or kind) in _LISTS:
            words.append("a list")
        else:
            words.append(_PLAIN.get(kind) or f"a {getattr(kind, '__name__', kind)}")
    return " or ".join(dict.fromkeys(words))


def _below(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _place(at: str) -> str:
    return f"{at}: " if at else ""


def _mistyped(package: str) -> str | None:
    """The package of ours that may have been meant; a name that holds ours, as my_policies does, is another's."""
    near = closest(package, OURS)
    return None if near is not None and near in package else near


def _shown(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
