"""Evaluation: rows, summaries, and that they depend on nothing they should not depend on."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from autoprune_lab import scoring
from autoprune_lab.budget import Budget
from autoprune_lab.evaluate import evaluate, read_complexities
from autoprune_lab.flops import macs_3ndm, mean_tokens_leaving
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.prompts import prepare, prompt_lengths
from autoprune_lab.pruner import Pruner
from autoprune_lab.records import Record, Records, wilson
from autoprune_lab.tasks.shapes import ShapesTask
from autoprune_lab.testbed.build import build_model, build_processor
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.6))
TASK = ShapesTask("tune", 2)


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM(build_model(0, n_layers=5).eval(), build_processor(), "untrained")


@pytest.fixture(scope="module")
def prepared(vlm: VLM):
    return prepare(vlm, TASK, batch_size=4)


def test_rows_follow_the_task_and_the_plan(vlm: VLM, prepared):
    records = evaluate(vlm, prepared, PRUNER)
    assert [row.id for row in records.rows] == [s.id for s in TASK.samples()]
    bits = np.array([row.complexity for row in records.rows])
    plan = PRUNER.plan(bits, prepared.geometries).tokens
    assert [row.mean_tokens for row in records.rows] == plan.mean(1).tolist()
    assert 0.55 < records.flops_ratio <= 0.6
    assert max(row.decoder_flops / row.unpruned_flops for row in records.rows) <= 0.6


def test_without_a_pruner_nothing_is_saved(vlm: VLM, prepared):
    records = evaluate(vlm, prepared)
    assert records.flops_ratio == 1
    assert records.mean_tokens == 144
    assert records.scoring_ratio == 0


@pytest.mark.parametrize("scorer", [scoring.last_token_attention, scoring.cls_attention, scoring.random])
def test_answers_do_not_depend_on_batching_or_kept_features(vlm: VLM, prepared, scorer):
    pruner = dataclasses.replace(PRUNER, scorer=scorer)
    rows = evaluate(vlm, prepared, pruner).rows
    for other in (prepare(vlm, TASK, batch_size=7, keep_features=False), prepare(vlm, TASK, batch_size=1)):
        again = evaluate(vlm, other, pruner).rows
        assert [row.prediction for row in again] == [row.prediction for row in rows]
        assert [row.decoder_flops for row in again] == [row.decoder_flops for row in rows]


def test_complexities_are_those_of_the_evaluation(vlm: VLM, prepared):
    bits = read_complexities(vlm, prepared, PRUNER)
    rows = evaluate(vlm, prepared, PRUNER).rows
    np.testing.assert_allclose(bits, [row.complexity for row in rows], atol=1e-5)
    assert (bits > 0).all()
    assert (read_complexities(vlm, prepared, Pruner(FixedPolicy())) == 0).all()


def test_prompt_lengths_need_no_weights(vlm: VLM, prepared):
    lengths = prompt_lengths(build_processor(), vlm.model.config.image_token_id, TASK.samples())
    assert lengths == [(g.n_vision, g.n_text) for g in prepared.geometries]


def test_batch_size_must_be_positive(vlm: VLM):
    with pytest.raises(ValueError, match="batch_size 0"):
        prepare(vlm, TASK, batch_size=0)


def _records(scores: dict[str, list[float]]) -> Records:
    rows = [
        Record(f"{kind}-{i}", kind, "", (), s, None, 10, 4, 5.0, 50 + i, 100, 1, 25 + i, 50, 4.5, (5, 5))
        for kind, values in scores.items()
        for i, s in enumerate(values)
    ]
    return Records(tuple(rows), 2.0)


def test_summaries():
    records = _records({"a": [1.0, 1.0, 0.0, 1.0], "b": [0.0, 1.0]})
    assert records.by_kind() == {"a": 0.75, "b": 0.5}
    assert records.score == 0.625  # kinds weigh alike, not samples
    assert records.samples_per_second == 3
    assert records.flops_ratio == pytest.approx((4 * 50 + 6 + 2 * 50 + 1) / 600)
    low, high = records.interval()
    assert low < 0.625 < high
    frame = records.to_frame()
    assert frame.score.tolist() == [1, 1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match="no samples"):
        Records((), 1.0)


def test_wilson_interval_against_a_published_example():
    """8 of 10: Wilson's interval is (0.4902, 0.9433) (Brown, Cai & DasGupta 2001 use the same formula)."""
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)
    assert wilson(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-4)


def test_records_come_back_from_a_file(vlm: VLM, prepared, tmp_path):
    for pruner in (PRUNER, None):
        records = evaluate(vlm, prepared, pruner)
        records.to_frame().to_parquet(tmp_path / "r.parquet")
        assert Records.from_frame(pd.read_parquet(tmp_path / "r.parquet"), records.seconds) == records


def test_rows_count_in_the_papers_ways_too(vlm: VLM, prepared):
    records = evaluate(vlm, prepared, PRUNER)
    for row, geometry in zip(records.rows, prepared.geometries, strict=True):
        tokens = np.array(row.tokens)
        assert row.macs == macs_3ndm(geometry, tokens)
        assert row.mean_tokens_leaving == mean_tokens_leaving(tokens) <= row.mean_tokens == tokens.mean()
    assert 0 < records.macs_ratio < 1


def test_told_complexities_take_the_place_of_the_estimators(vlm: VLM, prepared):
    bits = read_complexities(vlm, prepared, PRUNER)
    told = evaluate(vlm, prepared, PRUNER, complexities=bits[::-1].copy())
    assert [row.complexity for row in told.rows] == bits[::-1].tolist()
    plan = PRUNER.plan(bits[::-1], prepared.geometries).tokens
    assert [row.tokens for row in told.rows] == [tuple(row) for row in plan.tolist()]
