"""What can be wrong with a benchmark."""


class TaskError(ValueError):
    """A benchmark's files are not as they should be; one line that names the file and the remedy."""
