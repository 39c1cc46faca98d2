"""Conversations about pictures, as models are trained on them: LLaVA's, LLaMA-Factory's, ms-swift's, chat APIs'."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autoprune_lab.tasks.fields import Given, UnfitError, is_empty, text

IMAGE = "<image>"
USERS, ASSISTANTS, SYSTEM = ("human", "user"), ("gpt", "assistant"), "system"


class Content(NamedTuple):
    """What a turn says: its text with <image>, how many pictures it shows, and the paths of those that it names."""

    text: str
    n_images: int
    paths: list[str]


def exchange(given: Given) -> tuple[str, str, list[str]]:
    """Question, with the system's words before it, answer, and the pictures' paths. Raises UnfitError."""
    turns = [_turn(turn) for turn in _turns(given)]
    roles = [role for role, _ in turns]
    if sum(role in USERS for role in roles) != 1 or sum(role in ASSISTANTS for role in roles) != 1:
        raise UnfitError("more or less than one question and answer")
    *before, user, assistant = roles
    if user not in USERS or assistant not in ASSISTANTS or set(before) - {SYSTEM}:
        raise UnfitError("turns in another order than system, question, answer")
    *asked, answer = [content for _, content in turns]
    if answer.n_images:
        raise UnfitError("a picture in the answer")
    field = given.values.get(SYSTEM)
    if not is_empty(field):
        asked.insert(0, _content(field, SYSTEM))
    if not asked[-1].text.replace(IMAGE, "").strip():
        raise UnfitError("no question")
    words = "\n".join(content.text for content in asked)
    return words.replace(IMAGE, "").strip(), answer.text, _paths(given, asked)


def _turns(given: Given) -> list[Mapping[str, Any]]:
    turns = next((given.values[name] for name in ("messages", "conversations") if given.values.get(name)), None)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnfitError("no messages")
    return turns


def _turn(turn: Mapping[str, Any]) -> tuple[str, Content]:
    """Role and content of either layout."""
    role = text(turn.get("role", turn.get("from")), "role")
    return role, _content(turn.get("content", turn.get("value")), "content")


def _content(said: object, name: str) -> Content:
    if not isinstance(said, list):
        return Content(text(said, name), text(said, name).count(IMAGE), [])
    parts = [_part(part) for part in said]
    words = "\n".join(part.text for part in parts if part.text)
    return Content(words, sum(part.n_images for part in parts), [path for part in parts for path in part.paths])


def _part(part: object) -> Content:
    """One part of a list of parts: text, or a picture that may name its file."""
    if not isinstance(part, dict):
        raise UnfitError("a part that is neither text nor picture")
    kind = part.get("type") or next((name for name in ("text", "image") if name in part), None)
    if kind == "text":
        return _content(text(part.get("text"), "a part"), "a part")
    if kind not in ("image", "image_url"):
        raise UnfitError("a part that is neither text nor picture")
    named = part.get(kind, part.get("path"))
    named = named.get("url") if isinstance(named, dict) else named
    return Content("", 1, [] if named is None else [text(named, "image")])


def _paths(given: Given, asked: Sequence[Content]) -> list[str]:
    """The row's pictures; those that parts name must be the same."""
    in_parts = [path for content in asked for path in content.paths]
    n_images = sum(content.n_images for content in asked)
    named = next((given.values[name] for name in ("images", "image") if given.values.get(name)), in_parts)
    paths = [text(path, "image") for path in (named if isinstance(named, list) else [named])]
    if not paths:
        raise UnfitError("no images")
    if any("://" in path or path.startswith("data:") for path in paths):
        raise UnfitError("an image that is no file")
    if n_images not in (0, len(paths)):
        raise UnfitError(f"another number of {IMAGE} than images")
    if in_parts and in_parts != paths:
        raise UnfitError("parts that name other images than the row")
    return paths
