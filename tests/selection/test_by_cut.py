"""Another operator at each cut: who works on which sample, what is refused, and how a study changes it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, evidence_of, random_attention
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.plan import Plan
from autoprune_lab.selection.by_cut import ByCut, check_operators
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.grid_pooling import GridPooling
from autoprune_lab.selection.pool_dropped import PoolDropped
from autoprune_lab.selection.recovery import drop, splits_of
from autoprune_lab.selection.scorers import text_attention
from policies.layerwise import LayerwisePolicy
from search.config.errors import ConfigError
from search.config.experiment import Experiment

COUNTS, ALLOWED = [60, 41, 30, 12], np.array([24, 15, 11, 12])
BEFORE = np.array([0, 1, 5, 1])  # cuts of each sample; the last one loses nothing here
SEEN = replace(evidence_of(random_attention(0, 4, 2, 3, 60), COUNTS, width=16), n_cuts=BEFORE)
SCORES = text_attention(SEEN)
PARTS = {"prune": drop, "merge": ClusterMerge(), "pool": PoolDropped()}


def counts(recovery, allowed, present):
    """What one cut of each sample keeps and makes."""
    return [part[:, 0] for part in Plan.within(allowed[:, None], present, splits_of(recovery))]


@pytest.mark.parametrize(
    "operators", [("prune", "merge", "pool"), ("pool", "prune"), ("merge", "pool", "prune"), ("pool",), ("prune",)]
)
def test_a_batch_is_what_the_operators_make_of_each_sample_alone(operators):
    names = [operators[min(n, len(operators) - 1)] for n in BEFORE]
    alike = [counts(PARTS[name], ALLOWED[[i]], np.array(COUNTS)[[i]]) for i, name in enumerate(names)]
    kept, merged = (torch.from_numpy(np.concatenate(part)) for part in zip(*alike, strict=True))
    found = ByCut(operators)(SEEN, SCORES, kept, merged)
    hidden = SEEN.hidden if found.hidden is None else found.hidden
    for i, (name, n_vision) in enumerate(zip(names, COUNTS, strict=True)):
        one = PARTS[name](alone(SEEN, i), SCORES[[i], :n_vision], kept[[i]], merged[[i]])
        stays = one.keep[0]
        assert torch.equal(found.keep[i, :n_vision], stays)
        assert not found.keep[i, n_vision:].any()
        expected = SEEN.hidden[i, :n_vision] if one.hidden is None else one.hidden[0]
        torch.testing.assert_close(hidden[i, :n_vision][stays], expected[stays], atol=1e-6, rtol=0)


def test_operators_that_move_tokens_move_those_of_their_samples():
    moves = ByCut(("merge", "prune"), merge=ContextualMerge())
    kept, merged = torch.tensor([20, 15, 11, 12]), torch.tensor([4, 0, 0, 0])
    found = moves(SEEN, SCORES, kept, merged)
    first = ContextualMerge()(SEEN, SCORES, kept, merged)
    assert torch.equal(found.index[0][found.keep[0]], first.index[0][first.keep[0]])
    assert torch.equal(found.index[1:], SEEN.index[1:])


def test_only_operators_at_work_are_asked():
    asked = []

    def spy(evidence, scores, kept, merged):
        asked.append(kept.tolist())
        return drop(evidence, scores, kept, merged)

    recovery = ByCut(("prune", "merge", "pool"), merge=spy, pool=spy)
    kept, nothing = torch.tensor([24, 15, 30, 12]), torch.zeros(4, dtype=torch.long)
    recovery(SEEN, SCORES, kept, nothing)
    assert asked == [[60, 15, 30, 12]]  # merge, of the second sample; of the others all
    assert torch.equal(recovery(SEEN, SCORES, torch.tensor(COUNTS), nothing).keep, SEEN.vision_mask)
    assert len(asked) == 1


def test_without_a_number_of_cuts_it_is_the_first():
    kept, merged = map(torch.from_numpy, counts(GridPooling(), ALLOWED, np.array(COUNTS)))
    found = ByCut(("pool", "prune"), pool=GridPooling())(replace(SEEN, n_cuts=None), SCORES, kept, merged)
    assert torch.equal(found.hidden, GridPooling()(SEEN, SCORES, kept, merged).hidden)


def test_each_cut_is_split_as_its_operator_splits():
    tokens, n_vision = np.array([[60, 40, 40, 20, 10], [60, 60, 40, 40, 20]]), np.array([60, 60])
    plan = Plan.within(tokens, n_vision, ByCut(("pool", "merge", "prune")).splits)
    merge = Plan.within(np.array([[20]]), np.array([40]), ClusterMerge().split).merged.item()
    assert plan.merged.tolist() == [[0, 6, 0, merge, 0], [0, 0, 6, 0, merge]]
    assert (plan.tokens == tokens).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"operators": ()}, r"at least one"),
        ({"merge": ByCut()}, r"merge=.* goes by cuts itself"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        ByCut(**given)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"one of prune, merge, pool for each cut"):
        check_operators(("prune", "blend"))


def test_the_tower_s_layers_are_those_that_a_recovery_at_work_names():
    def shallow(evidence, scores, kept, merged):
        return drop(evidence, scores, kept, merged)

    shallow.tower_layers = (3,)
    assert ByCut(merge=shallow, pool=shallow).tower_layers == (3, 3)
    assert ByCut(("prune", "pool", "pool"), merge=shallow).tower_layers == ()


def test_it_is_saved_and_read_again(tmp_path):
    pruner = Pruner(LayerwisePolicy(), recovery=ByCut(("merge", "prune"), merge=ContextualMerge(in_place=True)))
    pruner.save(tmp_path / "p.yaml")
    assert Pruner.load(tmp_path / "p.yaml") == pruner


@pytest.fixture(scope="module")
def given():
    return Experiment.compose(["experiment=operators"])


def test_a_study_searches_the_operator_of_every_stage_beside_its_depth_and_size(given):
    dimensions = {dimension.path: dimension for dimension in given.space.dimensions}
    stages = range(len(LayerwisePolicy().depths))
    for i in stages:
        assert dimensions[f"pruner.recovery.operators.{i}"].choices == ("prune", "merge", "pool")
        assert {f"pruner.policy.depths.{i}", f"pruner.policy.keep.{i}"} <= dimensions.keys()
    chosen = {f"pruner.recovery.operators.{i}": name for i, name in enumerate(("merge", "prune", "pool"))}
    assert given.pruner(chosen).recovery == ByCut(("merge", "prune", "pool"))
    assert [one["pruner.recovery.operators.0"] for one in given.baselines] == ["prune"]


def test_operators_that_are_typed_are_not_searched():
    pinned = Experiment.compose(["experiment=operators", "pruner.recovery.operators=[prune]"])
    assert not any("operators" in dimension.path for dimension in pinned.space.dimensions)
    assert pinned.pruner(pinned.baselines[0]).recovery.operators == ("prune",)


def test_the_space_without_its_recovery_is_refused():
    with pytest.raises(ConfigError, match=r"pruner.recovery.operators.0"):
        _ = Experiment.compose(["policy=layerwise", "space=operators"]).space
