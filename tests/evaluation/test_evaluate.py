"""Evaluation: rows, summaries, and that they depend on nothing they should not depend on."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from answering import answering

from autoprune_lab.decoder.attach import needs_pixels
from autoprune_lab.evaluation.evaluate import evaluate, read_complexities
from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import prepare, prompt_lengths
from autoprune_lab.evaluation.timing import latency_ratio, prefill_time_ratios
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import macs_3ndm, mean_tokens_leaving
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.selection.hiprune import ReceivedAttention
from autoprune_lab.statistics.records import Record, Records, wilson
from autoprune_lab.tasks.shapes import ShapesTask
from autoprune_lab.testbed.build import build_processor
from autoprune_lab.testbed.shapes.layout import layout
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.6))
OPENED = dataclasses.replace(
    PRUNER, budget=Budget(flops_ratio=0.5, opening=40), opening_scorer=scorers.feature_norm, probe_layer=2
)
TASK = ShapesTask("tune", 2)


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return answering(n_layers=5)


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


@pytest.mark.parametrize("scorer", [scorers.last_token_attention, scorers.cls_attention, scorers.random])
def test_answers_do_not_depend_on_batching_or_kept_features(vlm: VLM, prepared, scorer):
    pruner = dataclasses.replace(PRUNER, scorer=scorer)
    rows = evaluate(vlm, prepared, pruner).rows
    for other in (prepare(vlm, TASK, batch_size=7, keep_features=False), prepare(vlm, TASK, batch_size=1)):
        again = evaluate(vlm, other, pruner).rows
        assert [row.prediction for row in again] == [row.prediction for row in rows]
        assert [row.decoder_flops for row in again] == [row.decoder_flops for row in rows]


@pytest.mark.parametrize("pruner", [PRUNER, OPENED], ids=["whole", "opened"])
def test_complexities_are_those_of_the_evaluation(vlm: VLM, prepared, pruner):
    bits = read_complexities(vlm, prepared, pruner)
    rows = evaluate(vlm, prepared, pruner).rows
    np.testing.assert_allclose(bits, [row.complexity for row in rows], atol=1e-5)
    assert (bits > 0).all()
    assert [list(row.tokens) for row in rows] == pruner.plan(bits, prepared.geometries).tokens.tolist()


def test_complexities_are_read_behind_the_opening(vlm: VLM, prepared):
    bits = read_complexities(vlm, prepared, OPENED)
    uncalibrated = dataclasses.replace(OPENED, budget=MeanBudget(flops_ratio=0.5, opening=40))
    np.testing.assert_array_equal(read_complexities(vlm, prepared, uncalibrated), bits)
    whole = read_complexities(vlm, prepared, dataclasses.replace(OPENED, budget=None))
    assert np.abs(bits - whole).mean() > 1e-3
    assert (read_complexities(vlm, prepared, Pruner(FixedPolicy())) == 0).all()


def test_reading_complexities_runs_no_layer_after_the_probe(vlm: VLM, prepared):
    ran = []
    layers = vlm.model.model.language_model.layers
    hooks = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(layers)]
    try:
        bits = read_complexities(vlm, prepared, dataclasses.replace(PRUNER, probe_layer=2))
    finally:
        for hook in hooks:
            hook.remove()
    assert set(ran) == {0, 1, 2}
    assert (bits > 0).all()
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_a_complexity_that_is_no_number_is_refused(vlm: VLM, prepared):
    broken = dataclasses.replace(PRUNER, complexity=lambda evidence: evidence.attention.mean((1, 2, 3)) * np.nan)
    with pytest.raises(ValueError, match=r"complexity by <lambda> .* holds NaN"):
        read_complexities(vlm, prepared, broken)


@pytest.mark.parametrize("name", ["logistic", "two probes", "fixed", "opened"])
def test_prefixes_change_no_figure(vlm: VLM, name):
    prepared = prepare(vlm, TASK, batch_size=8, blocks=2)  # kinds mixed: padded, and answers of several tokens
    pruners = {
        "logistic": [PRUNER, dataclasses.replace(PRUNER, budget=Budget(flops_ratio=0.5))],
        "two probes": [PRUNER, dataclasses.replace(PRUNER, probe_layer=2, budget=Budget(flops_ratio=0.8)), PRUNER],
        "opened": [PRUNER, dataclasses.replace(OPENED, probe_layer=1)],
        "fixed": [
            Pruner(FixedPolicy(layer=2, keep=0.2)),
            Pruner(FixedPolicy(layer=0, keep=0.2), scorer=scorers.random, probe_layer=-1),
        ],
    }[name]
    prefixes = Prefixes(vlm, prepared, 1 << 30)
    for pruner in pruners:
        assert evaluate(vlm, prepared, pruner, prefixes=prefixes).rows == evaluate(vlm, prepared, pruner).rows
    assert {probe for _, probe in prefixes.known} == {pruner.probe_layer for pruner in pruners} - {-1}


def test_prefixes_stay_within_their_memory_and_leave_nothing_behind(vlm: VLM, prepared):
    prefixes = Prefixes(vlm, prepared, 1)
    rows = evaluate(vlm, prepared, PRUNER, prefixes=prefixes).rows
    assert rows == evaluate(vlm, prepared, PRUNER).rows
    assert len(prefixes.known) == 1
    (kept,) = prefixes.known.values()
    assert kept.nbytes == 1 - prefixes.room
    assert not any("forward" in vars(layer) or layer._forward_hooks for layer in vlm.model.model.language_model.layers)


def test_blocks_deal_out_the_kinds_and_change_no_answer(vlm: VLM, prepared):
    blocks = []
    dealt = prepare(vlm, TASK, batch_size=3, blocks=2)
    records = evaluate(vlm, dealt, PRUNER, after_block=blocks.append)
    assert [row.prediction for row in records.rows] == [row.prediction for row in evaluate(vlm, prepared, PRUNER).rows]
    assert [(block.number, block.is_last) for block in blocks] == [(0, False), (1, True)]
    assert [set(block.outcome.by_kind()) for block in blocks] == [set(records.by_kind())] * 2
    assert blocks[0].so_far.rows == tuple(sorted(blocks[0].outcome.rows, key=records.rows.index))
    assert blocks[1].so_far.rows == records.rows
    assert 0 < records.score < 1
    assert len({block.outcome.score for block in blocks}) == 2
    assert np.mean([block.outcome.score for block in blocks]) == pytest.approx(records.score)


def test_an_evaluation_ends_where_after_block_raises(vlm: VLM):
    def stop(block):
        raise RuntimeError(block.number)

    with pytest.raises(RuntimeError, match="0"):
        evaluate(vlm, prepare(vlm, TASK, batch_size=8, blocks=2), PRUNER, after_block=stop)
    assert not any(layer._forward_pre_hooks for layer in vlm.model.model.language_model.layers)


def test_features_beyond_the_memory_given_are_made_anew(vlm: VLM, prepared):
    kept = [batch.inputs["mm_encoder_outputs"]["image"] for batch in prepared.batches]
    one = sum(tensor.nbytes for tensor in kept[0]["pooler_output"])
    few = prepare(vlm, TASK, batch_size=4, most_bytes=one)
    held = [batch.kept is not None for batch in few.batches]
    assert held[0]
    assert not held[-1]
    rows = evaluate(vlm, prepared, PRUNER).rows
    assert [row.prediction for row in evaluate(vlm, few, PRUNER).rows] == [row.prediction for row in rows]


def test_latency_is_the_median_ratio_of_wall_times(vlm: VLM, prepared, monkeypatch):
    """By a clock of our own: how fast a busy machine is decides nothing here."""
    walls = iter([1.0, 3.0, 4.0, 9.0, 8.0, 7.0, 2.0, 4.0])  # turns of two, the first warms up
    monkeypatch.setattr(
        "autoprune_lab.evaluation.timing.stopwatch", lambda device: nullcontext(np.array([99.0, next(walls)]))
    )
    nothing = Pruner(FixedPolicy(layer=1, keep=0.0), probe_layer=0)
    assert latency_ratio(vlm, prepared, nothing, rounds=3) == pytest.approx(0.5)


def test_prompt_lengths_need_no_weights(vlm: VLM, prepared):
    lengths = prompt_lengths(build_processor(layout()), (vlm.model.config.image_token_id,), TASK.samples())
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
    assert records.scoring_ratio == pytest.approx(6 / 600)
    assert records.macs_ratio == pytest.approx((4 * 25 + 6 + 2 * 25 + 1) / 300)
    assert (records.mean_tokens, records.mean_tokens_leaving) == (5.0, 4.5)
    frame = records.to_frame()
    assert frame.score.tolist() == [1, 1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match="no samples"):
        Records((), 1.0)


def test_the_interval_of_a_mean_over_kinds_adds_their_variances():
    """Wilson's intervals of 3 of 4 and of 1 of 2 are (0.3006, 0.9544) and (0.0945, 0.9055)."""
    records = _records({"a": [1.0, 1.0, 0.0, 1.0], "b": [0.0, 1.0]})
    assert records.interval("a") == pytest.approx((0.3006, 0.9544), abs=1e-4)
    half = np.hypot((0.9544 - 0.3006) / 2, (0.9055 - 0.0945) / 2) / 2
    assert records.interval() == pytest.approx((0.625 - half, 0.625 + half), abs=1e-4)
    assert _records({"a": [1.0] * 3, "b": [1.0] * 3}).interval()[1] == 1.0
    assert _records({"a": [0.0] * 3, "b": [0.0] * 3}).interval()[0] == 0.0


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


def test_confidence_is_the_probability_of_the_answer_that_was_given(vlm: VLM, prepared):
    """Against a forward pass over the answer's tokens."""
    records = evaluate(vlm, prepared)
    batch = next(batch for batch in prepared.batches if len(batch.places) > 1)
    inputs = batch.arguments()
    start = inputs["input_ids"].shape[1]
    told = vlm.model.generate(**inputs, max_new_tokens=TASK.max_new_tokens, do_sample=False)
    (end,) = {vlm.model.generation_config.eos_token_id}
    longer = batch.arguments() | {"input_ids": told, "attention_mask": torch.ones_like(told)}
    longer["attention_mask"][:, :start] = inputs["attention_mask"]
    with torch.inference_mode():
        spoken = vlm.model(**longer).logits[:, start - 1 : -1].log_softmax(-1)
    for row, new, odds in zip(batch.places, told[:, start:].tolist(), spoken, strict=True):
        n = new.index(end) + 1 if end in new else len(new)
        expected = float(odds[range(n), new[:n]].sum().exp())
        assert records.rows[row].confidence == pytest.approx(expected, rel=1e-4)
        assert 0 < records.rows[row].confidence <= 1


def test_records_from_before_confidences_were_kept_are_read(vlm: VLM, prepared):
    frame = evaluate(vlm, prepared).to_frame().drop(columns="confidence")
    assert {row.confidence for row in Records.from_frame(frame, 1.0).rows} == {None}


def test_a_pruner_that_looks_at_more_of_the_tower_than_is_kept_is_shown_the_pictures(vlm: VLM, prepared):
    arm = Pruner(FixedPolicy(0, 0.5), scorer=ReceivedAttention(0), probe_layer=-1)
    kept, anew = (evaluate(vlm, each, arm) for each in (prepared, prepare(vlm, TASK, keep_features=False)))
    assert [row.prediction for row in kept.rows] == [row.prediction for row in anew.rows]
    assert kept.scoring_ratio == anew.scoring_ratio > 0
    usual = Pruner(FixedPolicy(0, 0.5), scorer=ReceivedAttention(None), probe_layer=-1)
    assert [needs_pixels(each, vlm.model) for each in (arm, usual, PRUNER)] == [True, False, False]
    ratios = prefill_time_ratios(vlm, prepared.batches[0], [PRUNER, arm], rounds=1)
    assert (ratios > 0).all()
    assert latency_ratio(vlm, prepared, arm, rounds=1) > 0
