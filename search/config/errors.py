"""What a user did wrong, told in one line; and which failures of others are told so too."""

import difflib
import re
import sys
from collections.abc import Iterable

# By the module that defines them: who has not imported it cannot have raised them, so nothing is imported to ask.
EXPECTED = {
    "autoprune_lab.evaluation.answers": ("AnswersError",),
    "autoprune_lab.schedule.budget": ("BudgetError",),
    "autoprune_lab.decoder.checks": ("NaNError",),
    "autoprune_lab.evidence.calibration": ("CalibrationError",),
    "autoprune_lab.evidence.evidence": ("NoAttentionError",),
    "autoprune_lab.models.errors": ("CheckpointError",),
    "autoprune_lab.tasks.base": ("TaskError",),
    "hydra.errors": ("HydraException",),
    "json": ("JSONDecodeError",),
    "mlflow.exceptions": ("MlflowException",),
    "omegaconf.errors": ("OmegaConfBaseException",),
    "optuna.exceptions": ("StorageInternalError",),
    "pandas.errors": ("EmptyDataError", "ParserError"),
    "psycopg": ("Error",),
    "pyarrow": ("ArrowException",),
    "sqlalchemy.exc": ("SQLAlchemyError",),
    "sqlite3": ("Error",),
    "torch": ("OutOfMemoryError",),
    "yaml": ("YAMLError",),
}


class ConfigError(ValueError):
    """A mistake in what the user asked for: one line with the key, the bound and the remedy."""


def is_expected(error: BaseException) -> bool:
    """Is it a mistake, or the disk's, a database's or a file's fault, rather than ours? Ours keep their traceback."""
    named = (getattr(sys.modules.get(module), name, ()) for module, names in EXPECTED.items() for name in names)
    return isinstance(error, (ConfigError, OSError, UnicodeError, *(kind for kind in named if isinstance(kind, type))))


def one_line(error: BaseException) -> str:
    """Why it failed: of a chain that Hydra or SQLAlchemy made the root; no password, no reference to a manual."""
    root = _root(error)
    if isinstance(root, OSError) and root.strerror:
        place = root.filename if root.filename2 is None else f"{root.filename} -> {root.filename2}"
        return f"{root.strerror}: {place}" if place is not None else root.strerror
    text = " ".join(str(root).split())
    text = re.sub(r"\s*\(Background on this error at: \S+\)", "", text)
    text = without_password(text) or type(root).__name__
    if type(root).__name__ == "OutOfMemoryError":
        return f"{text.partition('. ')[0]}: lower batch_size"
    return text if root is error or isinstance(root, ValueError) else f"{type(root).__name__}: {text}"


def without_password(url: str) -> str:
    """The URL with `***` for its password."""
    return re.sub(r"(?<=://)([^/@:\s]*):[^/@\s]*(?=@)", r"\1:***", url)


def add_packages(missing: Iterable[str]) -> str:
    """What to type for packages whose code a pruner is made of: it is run only if they are named."""
    options = " ".join(f"--package {name}" for name in missing)
    return f"add {options} if you trust that code"


def close(word: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' for a mistyped word, or nothing."""
    matches = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""


def _root(error: BaseException) -> BaseException:
    """What a wrapper's own message would hide: the driver's error, or what a part said that Hydra called."""
    if (driver := getattr(error, "orig", None)) is not None:
        return _root(driver) if isinstance(driver, BaseException) else error
    if type(error).__name__ in ("InstantiationException", "StorageInternalError") and error.__cause__ is not None:
        return _root(error.__cause__)
    return error
