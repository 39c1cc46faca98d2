"""Kept patches are those of the trace, at the places where the picture has them."""

import numpy as np
import pytest
from answering import answering

from autoprune_lab.decoder.places import UnknownPlacesError
from autoprune_lab.evaluation.kept_patches import depths, show
from autoprune_lab.evaluation.prompts import batch_of
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy

PRUNER = Pruner(FixedPolicy(layer=3, keep=0.25), probe_layer=1)


@pytest.fixture(scope="module")
def vlm():
    return answering(5)


@pytest.fixture(scope="module")
def samples():
    return ShapesTask("tune", 1).samples()[:3]


def test_each_patch_goes_when_the_trace_says_so(vlm, samples):
    shown = show(vlm, samples)
    found = depths(vlm, shown, PRUNER)
    assert shown.grid == (12, 12)
    assert found.shape == (3, 144)
    with PRUNER.attach(vlm.model, keep_indices=True) as trace:
        vlm.model(**batch_of(vlm, samples).arguments())
    for row, cells, record in zip(found, shown.cells, trace.samples, strict=True):
        assert cells.tolist() == list(range(144))  # row by row
        for layer, kept in enumerate(record.kept):
            assert np.flatnonzero(row > layer).tolist() == kept.tolist()
    assert sorted(set(found[0].tolist())) == [3, 5]


def test_the_picture_is_what_the_model_sees(vlm, samples):
    shown = show(vlm, samples)
    for seen, sample in zip(shown.pictures, samples, strict=True):
        given = np.asarray(sample.images[0].convert("RGB"))
        assert seen.shape == given.shape
        assert np.abs(seen.astype(int) - given).max() <= 1


def test_what_is_not_known_is_not_painted(vlm, samples):
    two = Sample("two", list(samples[0].images) * 2, "which?", ("a",), "kind")
    with pytest.raises(UnknownPlacesError, match="one picture each"):
        show(vlm, [two])
