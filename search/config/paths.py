"""Values of nested mappings and lists, by their dotted paths."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every value that is no mapping or list, by its path; a list's items have numbers for names."""
    items = _items(node)
    if items is None:
        return {prefix: node}
    return {path: value for key, item in items for path, value in leaves(item, f"{prefix}.{key}".lstrip(".")).items()}


def select(node: Any, path: str) -> Any:
    """What stands at the path; None where nothing does."""
    for key in path.split("."):
        found = dict(_items(node) or ())
        if key not in found:
            return None
        node = found[key]
    return node


def changed(node: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the changes at their paths, the shortest first; a mapping replaces the whole node.

    Raises KeyError for a path that leads through a value which holds none.
    """
    copy: dict[str, Any] = dict(node)
    for path in sorted(changes, key=lambda path: path.count(".")):
        *above, last = path.split(".")
        place: Any = copy
        for key in above:
            place = _opened(place, key, path)
        _put(place, last, changes[path])
    return copy


def _items(node: Any) -> "Iterator[tuple[str, Any]] | None":
    if isinstance(node, Mapping):
        return ((str(key), item) for key, item in node.items())
    if isinstance(node, list | tuple):
        return ((str(i), item) for i, item in enumerate(node))
    return None


def _opened(place: Any, key: str, path: str) -> Any:
    """The node below `place`, copied so that the one that it was taken from stays as it is."""
    inner = select(place, key)
    if not isinstance(inner, Mapping | list | tuple):
        raise KeyError(path)
    fresh = dict(inner) if isinstance(inner, Mapping) else list(inner)
    _put(place, key, fresh)
    return fresh


def _put(place: Any, key: str, value: Any) -> None:
    place[int(key) if isinstance(place, list) else key] = value
