"""Names beside what they name."""

import pytest

from autoprune_lab.fronts.direct_labels import apart


def test_places_are_moved_no_more_than_must_be():
    assert apart([0.1, 0.5, 0.9], 0.1, 0.0, 1.0) == [0.1, 0.5, 0.9]
    assert apart([0.5, 0.5], 0.2, 0.0, 1.0) == pytest.approx([0.4, 0.6])
    assert apart([0.3, 0.5, 0.5], 0.2, 0.0, 1.0) == pytest.approx([0.7 / 3, 1.3 / 3, 1.9 / 3])
    assert apart([0.95, 1.0], 0.2, 0.0, 1.0) == pytest.approx([0.8, 1.0])
