"""What can be wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; one line that names the file and the remedy."""


def one_line(error: BaseException, most: int = 300) -> str:
    """An error's message without line breaks, at most `most` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else text[: most - 3] + "..."
