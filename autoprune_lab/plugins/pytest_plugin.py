"""The contracts as tests: `pytest -p autoprune_lab.plugins.pytest_plugin --autoprune-package my_package`.

One test for each plug-in and each point of its contract; skipped where there is no configuration to agree with. It is
loaded by `-p` alone: an entry point would import autoprune_lab in every run of pytest, and before jaxtyping's plugin
can check what it imports. pytest itself is imported once it runs, so that every module of autoprune_lab can be
imported where it is not installed.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

OPTION = "--autoprune-package"


def pytest_addoption(parser: "pytest.Parser") -> None:
    """--autoprune-package."""
    words = "importable package whose policies, scorers, complexity estimators and recoveries must keep their contracts"
    parser.getgroup("autoprune").addoption(
        OPTION, action="append", default=[], metavar="PKG", help=f"{words}; repeatable"
    )


def pytest_collection_modifyitems(
    session: "pytest.Session", config: "pytest.Config", items: "list[pytest.Item]"
) -> None:
    """Add the checks to what was collected; a package beside the caller is found, after all that are installed."""
    packages: list[str] = config.getoption(OPTION)
    if not packages:
        return
    import pytest

    from autoprune_lab.plugins.checks import FAILED, NO_CONFIG, PackageError, checks_of

    class ContractItem(pytest.Item):
        def runtest(self) -> None:
            outcome, why = checks[self.name].outcome()
            if outcome == NO_CONFIG:
                pytest.skip(why)
            if outcome == FAILED:
                pytest.fail(f"{self.name}: {why}", pytrace=False)

    sys.path.append(str(config.invocation_params.dir))
    try:
        checks = {str(check): check for package in packages for check in checks_of(package)}
    except PackageError as error:
        raise pytest.UsageError(str(error)) from error
    items += [ContractItem.from_parent(session, name=name) for name in checks]
