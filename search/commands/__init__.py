"""One file a command: `new_policy.py` is `autoprune new-policy`.

Each has SUMMARY (one line), DESCRIPTION, EXAMPLES, `add_arguments(parser)` and `run(given) -> exit code`; heavy imports
stay inside `run`.
"""

import importlib
import pkgutil
from types import ModuleType


def find() -> dict[str, ModuleType]:
    """Every command by its name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in names}
