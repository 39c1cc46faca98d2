"""Divergences against single prefills, and which layer VTW chooses by them."""

import numpy as np
import pytest
import torch

from autoprune_lab.evaluation.divergence import divergences, withdrawal_layer
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.scorers import uniform
from policies.fixed import FixedPolicy
from search.config.experiment import Experiment


@torch.inference_mode()
def test_divergences_are_those_of_each_sample_alone(checkpoint):
    given = Experiment.compose(["model=path", f"model.path={checkpoint}", "task.per_kind=1"])
    together, alone = (prepare(given.model, given.task, batch_size=size) for size in (8, 1))
    layers = range(2, together.geometries[0].n_layers, 4)
    pruners = [Pruner(FixedPolicy(layer, keep=0.0), scorer=uniform) for layer in layers]
    found = divergences(given.model, together, pruners)
    assert found.shape == (8, len(layers))
    for batch in alone.batches:
        (place,) = batch.places
        whole = given.model.model(**batch.arguments()).logits[0, -1].double().softmax(-1)
        for column, pruner in enumerate(pruners):
            with pruner.attach(given.model.model):
                some = given.model.model(**batch.arguments()).logits[0, -1].double().softmax(-1)
            expected = float((some * (some / whole).log()).sum())
            assert found[place, column] == pytest.approx(expected, rel=1e-4, abs=2e-5)
    assert found.max() > 1e-3


def test_the_first_layer_whose_mean_is_small_enough_is_chosen():
    found = np.array([[0.5, 0.001, 0.004, 0.0], [0.1, 0.007, 0.001, 0.0]])  # means 0.3, 0.004, 0.0025, 0
    assert withdrawal_layer(found) == 7
    assert withdrawal_layer(found, first=2, threshold=0.3) == 2
    assert withdrawal_layer(found, threshold=0.0) == 8
    with pytest.raises(ValueError, match=r"threshold=0\.001 is met by no layer: .* is 0\.0025, at layer 7; raise"):
        withdrawal_layer(found[:, :3], threshold=0.001)
