"""Studies over pruning policies: `search.run(search.Experiment.compose(["policy=fixed"]))` is `autoprune study`.

What a user needs stands here by name, and is loaded when it is asked for. The list is `__init__.pyi`. A name that is
not on it, and every module below this one, is private by convention.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
