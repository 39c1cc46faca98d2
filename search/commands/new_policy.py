"""`autoprune new-policy`: writes a policy of the user's own, with its configuration and its search space."""

import argparse
import re
import sys
from importlib import resources
from importlib.machinery import PathFinder
from keyword import iskeyword
from pathlib import Path

SUMMARY = "write the three files of a policy of your own, to fill in"
DESCRIPTION = """\
Write a policy that works, for you to change: DIR/NAME.py, its configuration DIR/conf/policy/NAME.yaml and what a study
may change in it, DIR/conf/space/NAME.yaml. DIR is a Python package in the current folder; it is made if it does not
exist."""
EXAMPLES = """\
  autoprune new-policy my_staircase
  autoprune new-policy my_curve --adaptive
  autoprune check my_policies
  autoprune study policy=my_staircase --config-dir my_policies/conf"""

FIELDS = {"start": (0.25, 0.0, 0.75), "end": (0.1, 0.0, 1.0)}  # the templates' defaults, lowest and highest values
ADAPTIVE_FIELDS = FIELDS | {"end": (0.5, 0.0, 1.0), "gain": (1.0, 0.0, 20.0)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The policy's name, its package, and whether its shape depends on the sample."""
    parser.add_argument("name", help="lower case with underscores, such as my_staircase")
    parser.add_argument("--package", type=Path, default=Path("my_policies"), metavar="DIR")
    parser.add_argument("--adaptive", action="store_true", help="the shape depends on each sample's complexity")


def run(given: argparse.Namespace) -> int:
    """Write the files and say what to do next."""
    name, package = given.name, given.package
    _check_names(name, package)
    files = _files(name, package, given.adaptive)
    from search.config.errors import ConfigError

    for file in files:
        if file.exists():
            raise ConfigError(f"{file} exists already: take another name")
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (package / "__init__.py").touch()
    own = f"policy={name} --config-dir {package / 'conf'}"
    written = "".join(f"\n  {file}" for file in files)
    print(
        f"written:{written}\ncheck it:\n  autoprune check {package.name}\n"
        f"measure it:\n  autoprune evaluate {own}\nsearch it:\n  autoprune study {own}"
    )
    return 0


def _files(name: str, package: Path, adaptive: bool) -> dict[Path, str]:
    """What is written, and where."""
    class_name = "".join(part.capitalize() for part in name.split("_")) + "Policy"
    template = "adaptive_policy_template.txt" if adaptive else "policy_template.txt"
    code = resources.files("search.commands").joinpath(template).read_text(encoding="utf-8")
    fields = ADAPTIVE_FIELDS if adaptive else FIELDS
    defaults = [f"{key}: {default}" for key, (default, _, _) in fields.items()]
    config = ["# @package pruner.policy", f"_target_: {package.name}.{name}.{class_name}", *defaults]
    space = ["# @package _global_", "space:", "  pruner:", "    policy:"]
    space += [f"      {key}: {{type: float, low: {low}, high: {high}}}" for key, (_, low, high) in fields.items()]
    first = [f"      pruner.policy.{default}" for default in defaults]
    space += ["search:", "  baselines: # tried first", f"    - {first[0].lstrip()}", *first[1:]]
    return {
        package / f"{name}.py": code.format(title=name, class_name=class_name),
        package / "conf" / "policy" / f"{name}.yaml": "\n".join([*config, ""]),
        package / "conf" / "space" / f"{name}.yaml": "\n".join([*space, ""]),
    }


def _check_names(name: str, package: Path) -> None:
    """Raise ConfigError for a name that is no module's or is taken, or a package that Python finds elsewhere."""
    from search.config.catalogue import conf_dir, options_of
    from search.config.errors import ConfigError

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or iskeyword(name):
        raise ConfigError(f"'{name}' cannot name a policy: use lower-case letters, digits and underscores")
    if name in options_of("policy"):
        raise ConfigError(f"policy={name} is one that comes with autoprune, and would stay it: take another name")
    if not package.name.isidentifier() or package.is_absolute() or len(package.parts) != 1:
        raise ConfigError(f"--package {package} must be a package in the current folder, such as my_policies")
    elsewhere = [place for place in sys.path if Path(place).resolve() != Path.cwd()]
    found = PathFinder.find_spec(package.name, elsewhere)
    here = found is not None and str(package.resolve()) in map(str, found.submodule_search_locations or ())
    is_taken = package.name in sys.stdlib_module_names or (found is not None and found.origin is not None and not here)
    ours = ("autoprune_lab", "policies", "search", conf_dir().name)
    if is_taken or iskeyword(package.name) or package.name in ours:
        raise ConfigError(f"--package {package} is the name of something else in Python or autoprune: take another one")
