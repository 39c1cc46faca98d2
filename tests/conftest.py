"""Options and helpers that several test files share."""

import sys

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: no time limit per example.
settings.register_profile("house", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--policies",
        action="append",
        metavar="PKG",
        help="importable package whose policies must keep the contract; repeatable (default: policies)",
    )


def pytest_configure(config: pytest.Config) -> None:
    sys.path.insert(0, str(config.invocation_params.dir))  # a package beside the caller is importable
