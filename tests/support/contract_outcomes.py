"""What the contracts say of a package in a temporary folder."""

import pytest

from autoprune_lab.plugins.checks import FAILED, checks_of


def outcomes(package):
    """Plug-in's name -> point's name -> (outcome, why)."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package.parent)
        for check in checks_of(package.name):
            found.setdefault(check.plugin.__name__, {})[check.point.__name__] = check.outcome()
    return found


def failures_of(package):
    """Plug-in's name -> point's name -> why, of the points that failed."""
    found = outcomes(package)
    return {
        plugin: {point: why for point, (o, why) in points.items() if o == FAILED} for plugin, points in found.items()
    }
