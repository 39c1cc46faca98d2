"""The worlds that an embedded model can be trained for: every folder here that has a course.py."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoprune_lab.testbed.training.contract import Course


def world_names() -> list[str]:
    """In alphabetical order."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob("*/course.py"))


def course_of(world: str) -> "Course":
    """How that world's model is trained."""
    found: Course = importlib.import_module(f"autoprune_lab.testbed.{world}.course").COURSE
    return found
