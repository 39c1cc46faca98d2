"""Smaller pictures as an arm of the table, on a toy whose processor takes pictures as they are."""

from dataclasses import dataclass

import pytest
from cinema import Cinema, drawn
from PIL import Image
from toys import save_toy

from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import unpruned_flops
from autoprune_lab.selection.scorers import uniform
from autoprune_lab.tasks.base import Sample
from policies.fixed import FixedPolicy
from search.methods.arms import DOWNSAMPLE, UNPRUNED, Arm, paper_ratio
from search.methods.downsample import downsample_arms
from search.methods.table import AnswerCache, run_arms
from search.study.model_evaluator import ModelEvaluator

TOKENS, TOO_FEW = 400.0, 20.0


@dataclass(frozen=True, eq=False)
class Odd(Cinema):
    """An answer of an odd sum of letters is right."""

    def score(self, prediction, sample):
        return float(sum(map(ord, prediction)) % 2)


def sample(i):
    return Sample(str(i), (Image.fromarray(drawn(i, 64, 96)),), "What is there", ("cat",), "all")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The table, the unpruned evaluator, the arms, and how often a task was opened for them."""
    folder = save_toy("qwen2_5_vl", tmp_path_factory.mktemp("toy"))
    vlm, opened = load_model(str(folder)), []
    task = Odd(tuple(map(sample, range(8))))
    evaluator = ModelEvaluator(vlm, prepare(vlm, task, batch_size=4))

    def open_task(shown):
        opened.append(shown)
        return ModelEvaluator(vlm, prepare(vlm, shown, batch_size=4))

    smaller = downsample_arms(folder, False, task, [TOKENS, TOO_FEW], evaluator.geometries)
    pruner = Pruner(FixedPolicy(layer=0, keep=0.5), Budget(flops_ratio=smaller[0].bound), uniform, probe_layer=-1)
    arms = [Arm("uniform", TOKENS, smaller[0].bound, pruner), *smaller]
    cache = AnswerCache(tmp_path_factory.mktemp("records"), {})
    frames = [run_arms(arms, evaluator, evaluator, cache, open_task) for _ in range(2)]
    assert (
        frames[0]
        .drop(columns=["time_ratio", "selection_share"])
        .equals(frames[1].drop(columns=["time_ratio", "selection_share"]))
    )
    return frames[0].set_index(["method", "tokens"]), evaluator, arms, opened


def test_it_costs_what_its_prompts_do_against_the_whole_ones(made):
    frame, evaluator, (_, arm, _), opened = made
    row, whole = frame.loc[(DOWNSAMPLE, TOKENS)], evaluator.geometries[0]
    small = prepare(evaluator.vlm, arm.shown).geometries[0]
    assert arm.bound == paper_ratio(TOKENS, whole)
    assert whole.n_vision > small.n_vision == row["entering"]
    assert row["flops_ratio"] == unpruned_flops(small) / unpruned_flops(whole) <= arm.bound
    assert (row["scoring_ratio"], row["selection_share"], row["note"]) == (0, 0, "")
    assert row["time_ratio"] > 0
    assert len(opened) == 2  # the second time the answers were kept


def test_samples_are_parted_by_its_answers(made):
    frame, evaluator, _, _ = made
    right = round(frame.xs(UNPRUNED)["score"].item() * len(evaluator.geometries))
    row, other = frame.loc[(DOWNSAMPLE, TOKENS)], frame.loc[("uniform", TOKENS)]
    assert row["n_a"] + row["n_b"] == other["n_a"] + other["n_b"] == right
    for group, score in (("a", 0.0), ("b", 1.0)):
        if row[f"n_{group}"]:
            assert row[f"score_{group}"] == score
            assert 0 <= other[f"score_{group}:low"] <= other[f"score_{group}"] <= other[f"score_{group}:high"] <= 1


def test_a_budget_that_no_picture_is_small_enough_for_says_the_floor(made):
    frame, evaluator, (_, _, arm), _ = made
    least = evaluator.geometries[0].with_tokens(12, evaluator.geometries[0].n_text)  # what min_pixels leaves
    floor = unpruned_flops(least) / unpruned_flops(evaluator.geometries[0])
    assert frame.loc[(DOWNSAMPLE, TOO_FEW), "note"] == f"floor {floor:.3f}"
    assert arm.shown.enlarged
    assert [image.size for image in arm.shown.samples()[0].images] == [(96, 64)]
