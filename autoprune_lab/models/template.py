"""The chat template of a checkpoint: a small program from its folder, run within bounds."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from autoprune_lab.models.errors import CheckpointError, one_line

STEPS = 100_000  # lines of the compiled template that a prompt may run; those of the hub run some hundred
LETTERS = 1_000_000  # that a template may add to a prompt
COMPILED = "<template>"  # jinja's file name for a template that came as text


def apply_template(processor: Any, message: Sequence[Mapping[str, Any]]) -> str:
    """The message as the checkpoint's own template words it, up to where the answer starts.

    Raises CheckpointError where there is none, and for one that fails, does not end, or makes an empty prompt or a
    flood of one.
    """
    template = getattr(processor.tokenizer, "chat_template", None) if processor.chat_template is None else None
    kind = type(processor).__name__
    if processor.chat_template is None and template is None:
        raise CheckpointError(f"{kind} has no chat template: put the checkpoint's chat_template.jinja into its folder")
    whose = f"the chat template of {getattr(processor.tokenizer, 'name_or_path', '') or kind}"
    try:
        with _at_most(STEPS):
            text = str(processor.apply_chat_template(message, chat_template=template, add_generation_prompt=True))
    except Exception as error:  # whatever the template does
        raise CheckpointError(f"{whose} fails: {one_line(error)}; mend chat_template.jinja") from error
    if not text.strip() or len(text) > LETTERS + len(str(message)):
        raise CheckpointError(f"{whose} makes a prompt of {len(text)} letters; mend chat_template.jinja")
    return text


class _Endless(Exception):  # noqa: N818 - told as a CheckpointError
    pass


@contextmanager
def _at_most(steps: int) -> Iterator[None]:
    """Inside the block compiled templates may run so many lines: counted, not timed, so alike on every machine.

    One step that never ends, such as 9 ** 9 ** 9, is not caught.
    """
    left = steps

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != COMPILED:
            return None
        left -= 1
        if left < 0:
            raise _Endless(f"it is not done after {steps} steps")
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)
