"""A scorer for each depth: who is asked where, what is refused, and how a study changes it."""

from dataclasses import replace

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.by_layer import ByLayer
from autoprune_lab.selection.scorers import feature_norm, last_token_attention, random, text_attention
from policies.layerwise import LayerwisePolicy
from search.config.errors import ConfigError
from search.config.experiment import Experiment

SEEN = evidence_of(random_attention(0, 2, 2, 3, 10), [10, 6])
THREE = (text_attention, feature_norm, random)


def asked(scorer, layer, n_layers=8):
    """The place among THREE of the scorer whose scores a cut entering `layer` goes by."""
    evidence = replace(SEEN, layer=layer - 1, n_layers=n_layers)
    found = scorer(evidence)
    return [torch.equal(found, one(evidence)) for one in THREE].index(True)


@pytest.mark.parametrize(
    ("starts", "turns"),
    [
        ((0, 2, 5), [0, 0, 1, 1, 1, 2, 2, 2]),
        ((0.0, 0.25, 0.625), [0, 0, 1, 1, 1, 2, 2, 2]),
        ((0, 0.5, 5), [0, 0, 0, 0, 1, 2, 2, 2]),
        ((0, 0, 4), [1, 1, 1, 1, 2, 2, 2, 2]),
        ((0, 1, 1.0), [0, 1, 1, 1, 1, 1, 1, 1]),
        ((0, 40, 50), [0] * 8),
    ],
)
def test_from_each_start_on_its_scorer_is_asked(starts, turns):
    assert [asked(ByLayer(starts, THREE), layer) for layer in range(8)] == turns


def test_nobody_else_is_asked():
    evidence = evidence_of(random_attention(0, 1, 2, 3, 10))
    ByLayer((0, 6), (text_attention, feature_norm))(evidence)
    assert evidence.source.asked == ["attention"]


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ((0, 1), "give one for each of the 3 scorers"),
        ((1, 2, 3), "must begin with 0"),
        ((0, -1, 3), "layers >= 0 or fractions"),
        ((0, 0.5, 1.5), "layers >= 0 or fractions"),
        ((0, float("nan"), 0.5), "layers >= 0 or fractions"),
        ((0, 3, 2), "must be in order"),
        ((0.0, 0.5, 0.25), "must be in order"),
    ],
)
def test_starts_that_mean_nothing_are_refused_in_one_line(starts, message):
    with pytest.raises(ValueError, match=message) as caught:
        ByLayer(starts, THREE)
    assert "\n" not in str(caught.value)


def test_starts_that_cross_in_a_decoder_are_refused_there():
    with pytest.raises(ValueError, match=r"are the layers \[0, 5, 4\] here"):
        asked(ByLayer((0, 5, 0.5), THREE), 1)
    with pytest.raises(ValueError, match=r"0\.5 is a fraction of a depth that the evidence does not know"):
        asked(ByLayer((0, 0.5), THREE[:2]), 1, None)


def test_the_tower_s_layers_are_those_that_any_scorer_names():
    def shallow(evidence):
        return text_attention(evidence)

    shallow.tower_layers = (3,)
    assert ByLayer((0, 2, 3), (shallow, random, shallow)).tower_layers == (3, 3)


def test_it_is_saved_and_read_again(tmp_path):
    pruner = Pruner(LayerwisePolicy(), scorer=ByLayer((0, 0.5), (last_token_attention, random)))
    pruner.save(tmp_path / "p.yaml")
    assert Pruner.load(tmp_path / "p.yaml") == pruner


def test_a_study_searches_the_start_and_the_scorers():
    given = Experiment.compose(["policy=layerwise", "scorer=horizon"])
    paths = {dimension.path for dimension in given.space.dimensions}
    assert {"pruner.scorer.starts.1", "pruner.scorer.scorers.0._target_", "pruner.policy.depths.0"} <= paths
    chosen = "autoprune_lab.selection.scorers.text_attention"
    values = {"pruner.scorer.starts.1": 0.3, "pruner.scorer.scorers.0._target_": chosen}
    scorer = given.pruner(values).scorer
    assert (scorer.starts, scorer.scorers[0], scorer.scorers[1].func) == ((0, 0.3), text_attention, random)
    with pytest.raises(ConfigError, match="must begin with 0"):
        given.pruner({"pruner.scorer.starts.1": -0.3})
