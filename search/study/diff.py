"""What differs between the settings that something was made with and those of now."""

from collections.abc import Mapping
from typing import Any


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """'KEY was X, now Y' of the first two that differ, and how many more do; empty where none does."""
    differing = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    shown = "; ".join(f"{key} was {then.get(key)!r}, now {now.get(key)!r}" for key in differing[:2])
    return shown + (f" and {len(differing) - 2} more" if len(differing) > 2 else "")
