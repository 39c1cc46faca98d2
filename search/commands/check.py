"""`autoprune check`."""

import argparse
import sys
from pathlib import Path

SUMMARY = "check that the plug-ins of a package keep their contracts"
DESCRIPTION = """\
Run the contract tests of every policy, scorer, complexity estimator and recovery that is found in a package, installed
or in the current folder: a valid curve at any depth, never over a budget, the same result twice and in any batch, a
configuration that agrees with the code, and so on. The plug-ins that come with autoprune pass the same ones. One line
for each plug-in and point; exit code 1 where one failed."""
EXAMPLES = """\
  autoprune check my_policies
  pytest -p autoprune_lab.plugins.pytest_plugin --autoprune-package my_policies"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The packages."""
    parser.add_argument("packages", nargs="+", metavar="PACKAGE", help="its importable name, such as my_policies")


def run(given: argparse.Namespace) -> int:
    """Print every outcome, how many there were of each, and where the packages' configurations are."""
    from autoprune_lab.plugins.checks import FAILED, NO_CONFIG, OK, PackageError, checks_of
    from search.config.errors import ConfigError

    try:
        checks = [check for package in given.packages for check in checks_of(package)]
    except PackageError as error:
        raise ConfigError(str(error)) from error
    counts = {OK: 0, NO_CONFIG: 0, FAILED: 0}
    for check in checks:
        outcome, why = check.outcome()
        counts[outcome] += 1
        print(f"{outcome:<9}  {check}{': ' if why else ''}{why}", flush=True)
    n_plugins = len({check.plugin for check in checks})
    told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
    print(f"\n{n_plugins} plug-in{'' if n_plugins == 1 else 's'}: {told}")
    for package in dict.fromkeys(name.partition(".")[0] for name in given.packages):
        for conf in _configs(package):
            print(f"configurations of {package}: --config-dir {conf}")
    return 1 if counts[FAILED] else 0


def _configs(package: str) -> list[Path]:
    """The configuration folders inside or beside a package that was imported."""
    module = sys.modules[package]
    homes = [Path(folder) for folder in getattr(module, "__path__", [])][:1]
    places = [homes[0], homes[0].parent] if homes else [Path(str(module.__file__)).parent]
    return [place / "conf" for place in places if (place / "conf").is_dir()]
