"""Writes the two files of a new policy."""

import re
import sys
from importlib import resources
from importlib.machinery import PathFinder
from keyword import iskeyword
from pathlib import Path

from search.config.compose import conf_dir, options_of
from search.config.errors import ConfigError


def new_policy(name: str, package: Path) -> str:
    """Write package/NAME.py and package/conf/policy/NAME.yaml; return what to do next.

    Raises ConfigError, with nothing written, for a name that is no module name, or is taken there or elsewhere.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or iskeyword(name):
        raise ConfigError(f"'{name}' cannot name a policy: use lower-case letters, digits and underscores")
    if name in options_of("policy"):
        raise ConfigError(f"policy={name} is one that comes with autoprune, and would stay it: take another name")
    if not package.name.isidentifier() or package.is_absolute() or len(package.parts) != 1:
        raise ConfigError(f"--package {package} must be a package in the current folder, such as my_policies")
    _check_free(package.name)
    code, config = package / f"{name}.py", package / "conf" / "policy" / f"{name}.yaml"
    for file in (code, config):
        if file.exists():
            raise ConfigError(f"{file} exists already: take another name")
    class_name = "".join(part.capitalize() for part in name.split("_")) + "Policy"
    template = resources.files("search").joinpath("policy_template.txt").read_text(encoding="utf-8")
    config.parent.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    code.write_text(template.format(title=name, class_name=class_name), encoding="utf-8")
    target = f"_target_: {package.name}.{name}.{class_name}"
    config.write_text(f"# @package pruner.policy\n{target}\nstart: 0.25\nend: 0.1\n", encoding="utf-8")
    return (
        f"written:\n  {code}\n  {config}\n"
        f"check it:\n  pytest tests/plugins/test_policies.py --policies {package.name}\n"
        f"measure it:\n  autoprune evaluate policy={name} --config-dir {package / 'conf'}\n"
        f"search it (budget and scorer; its own fields once {package}/conf/space/{name}.yaml lists them):\n"
        f"  autoprune study policy={name} --config-dir {package / 'conf'} "
        f"'+space.pruner.policy.end={{type: float, low: 0, high: 0.5}}'"
    )


def _check_free(package: str) -> None:
    """Raise ConfigError for a package that Python would find elsewhere than in the current folder."""
    elsewhere = [place for place in sys.path if Path(place).resolve() != Path.cwd()]
    found = PathFinder.find_spec(package, elsewhere)
    here = found is not None and str(Path(package).resolve()) in map(str, found.submodule_search_locations or ())
    is_taken = package in sys.stdlib_module_names or (found is not None and found.origin is not None and not here)
    if is_taken or iskeyword(package) or package in ("autoprune_lab", "policies", "search", conf_dir().name):
        raise ConfigError(f"--package {package} is the name of something else in Python or autoprune: take another one")
