"""Searches policies for pruning visual tokens in vision-language models: `import autoprune_lab as ap`.

What a user needs stands here by name, `ap.Pruner` or `from autoprune_lab import Policy, Signal`, and is loaded when it
is asked for: a policy costs no torch. The list is `__init__.pyi`, which type checkers read as well; it is `__all__`.
A name that is not on it, and every module below this one, is private by convention: it may change without notice.
Configurations and pruner files name parts by module, as in `conf/`; those paths are kept like public names.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
