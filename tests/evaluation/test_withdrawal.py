"""VTW's layer: divergences against single prefills, and which layer they choose."""

import numpy as np
import pytest
import torch

from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.evaluation.withdrawal import withdrawal_divergences, withdrawal_layer
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.scorers import uniform
from policies.fixed import FixedPolicy
from search.config.experiment import Experiment


@torch.inference_mode()
def test_divergences_are_those_of_each_sample_alone(checkpoint):
    given = Experiment.compose(["model=path", f"model.path={checkpoint}", "task.per_kind=1"])
    together, alone = (prepare(given.model, given.task, batch_size=size) for size in (8, 1))
    n_layers = together.geometries[0].n_layers
    first = n_layers - 3
    found = withdrawal_divergences(given.model, together, first)
    assert found.shape == (8, 3)
    for batch in alone.batches:
        (place,) = batch.places
        whole = given.model.model(**batch.arguments()).logits[0, -1].double().softmax(-1)
        for layer in range(first, n_layers):
            with Pruner(FixedPolicy(layer, keep=0.0), scorer=uniform).attach(given.model.model):
                some = given.model.model(**batch.arguments()).logits[0, -1].double().softmax(-1)
            expected = float((some * (some / whole).log()).sum())
            assert found[place, layer - first] == pytest.approx(expected, abs=2e-5)
    assert found.max() > 1e-3
    with pytest.raises(ValueError, match=f"first={n_layers} must be a layer of the decoder, 0 to {n_layers - 1}"):
        withdrawal_divergences(given.model, together, n_layers)


def test_the_first_layer_whose_mean_is_small_enough_is_chosen():
    divergences = np.array([[0.5, 0.001, 0.004, 0.0], [0.1, 0.007, 0.002, 0.0]])  # means 0.3, 0.004, 0.003, 0
    assert withdrawal_layer(divergences) == 7
    assert withdrawal_layer(divergences, threshold=0.3, first=2) == 2
    assert withdrawal_layer(divergences, threshold=0.0) == 8
    with pytest.raises(ValueError, match=r"threshold=0\.001 is met by no layer: .* is 0\.003, at layer 7; raise"):
        withdrawal_layer(divergences[:, :3], threshold=0.001)
