"""How an error of any kind is told in the one line of another."""


def one_line(error: BaseException) -> str:
    """Its message without line breaks; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
