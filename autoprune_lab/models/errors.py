"""What can be wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; one line that names the file and the remedy."""


FILES = (OSError, ValueError, ImportError, AttributeError, KeyError, TypeError)


def is_of_code(error: Exception, trust_remote_code: bool) -> bool:
    """Does it come from a checkpoint's own code, whose author wants the traceback, rather than from its files?"""
    return trust_remote_code and not isinstance(error, FILES)


def one_line(error: BaseException, most: int = 300) -> str:
    """An error's message without line breaks, at most `most` characters."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError) or not text:  # a key alone says nothing
        text = f"{type(error).__name__} {text}".rstrip()
    return text if len(text) <= most else text[: most - 3] + "..."
