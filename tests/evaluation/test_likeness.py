"""Likeness to the unpruned model, against the logits of prompts that hold the answer already."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from answering import answering

from autoprune_lab.evaluation import likeness as module
from autoprune_lab.evaluation.likeness import COSINE, KL, likeness, read_reference
from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import GIB, prepare
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.scorers import uniform
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy

FEW = Pruner(FixedPolicy(1, keep=0.0), scorer=uniform, probe_layer=0)
ALL = Pruner(FixedPolicy(2, keep=1.0), scorer=uniform)


@pytest.fixture(scope="module")
def vlm():
    return answering(6)


@pytest.fixture(scope="module")
def prepared(vlm):
    return prepare(vlm, ShapesTask("tune", 1), batch_size=4)


@pytest.fixture(scope="module")
def reference(vlm, prepared):
    return read_reference(vlm, prepared)


def figures(vlm, prepared, pruner, reference, figure, **others):
    return [row.score for row in likeness(vlm, prepared, pruner, reference, figure, **others).rows]


@torch.inference_mode()
def told(vlm, batch, answer, pruner):
    """Probabilities and last states at each of the answer's tokens, the prompt followed by all but the last."""
    given, more = batch.arguments(), torch.tensor([answer[:-1]], dtype=torch.long)
    given["input_ids"] = torch.cat([given["input_ids"], more], 1)
    given["attention_mask"] = torch.cat([given["attention_mask"], torch.ones_like(more)], 1)
    states = []
    hook = vlm.model.lm_head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    with pruner.attach(vlm.model) if pruner else nullcontext():
        logits = vlm.model(**given).logits[0, -len(answer) :]
    hook.remove()
    return logits.double().softmax(-1), states[0][0, -len(answer) :]


def test_figures_are_those_of_each_answer_behind_its_prompt(vlm, prepared, reference):
    found = {figure: figures(vlm, prepared, FEW, reference, figure) for figure in (KL, COSINE)}
    lengths = set()
    for batch in prepare(vlm, ShapesTask("tune", 1), batch_size=1).batches:
        (place,) = batch.places
        answer = [int(token) for token in reference.tokens[place] if token >= 0]
        lengths.add(len(answer))
        (whole, state), (some, other) = (told(vlm, batch, answer, pruner) for pruner in (None, FEW))
        assert whole.argmax(-1).tolist() == answer
        divergence = (whole * (whole / some).log()).sum(-1).mean()
        assert found[KL][place] == pytest.approx(-float(divergence), rel=1e-3, abs=1e-5)
        cosine = torch.cosine_similarity(state, other, -1).mean()
        assert found[COSINE][place] == pytest.approx(float(cosine), abs=1e-4)
    assert max(lengths) > 1
    assert min(found[KL]) < -1e-4
    assert min(found[COSINE]) < 1 - 1e-5


def test_a_pruner_that_drops_nothing_is_the_unpruned_model(vlm, prepared, reference):
    assert figures(vlm, prepared, ALL, reference, KL) == pytest.approx([0.0] * 8, abs=1e-9)
    assert figures(vlm, prepared, ALL, reference, COSINE) == pytest.approx([1.0] * 8)


def test_rows_hold_the_costs_of_an_evaluation_and_no_label(vlm, prepared, reference):
    from autoprune_lab.evaluation.evaluate import evaluate

    records = likeness(vlm, prepared, FEW, reference, KL, prefixes=Prefixes(vlm, prepared, GIB))
    assert records.flops_ratio == evaluate(vlm, prepared, FEW).flops_ratio
    assert {row.answers for row in records.rows} == {()}
    assert [row.score for row in records.rows] == figures(vlm, prepared, FEW, reference, KL)


def test_rare_tokens_count_as_one_and_first_tokens_alone(vlm, prepared, reference, monkeypatch):
    whole = np.array(figures(vlm, prepared, FEW, reference, KL))
    monkeypatch.setattr(module, "LIKELIEST", 2)
    some = read_reference(vlm, prepared)
    assert (some.ids.shape[2], some.logs.shape[2]) == (2, 3)
    assert np.exp(some.logs[some.tokens >= 0]).sum(-1) == pytest.approx(1.0)
    coarse = np.array(figures(vlm, prepared, FEW, some, KL))
    assert (coarse >= whole - 1e-9).all()
    assert (coarse > whole + 1e-6).any()
    monkeypatch.setattr(module, "TOKENS", 1)
    assert read_reference(vlm, prepared).tokens.shape == (8, 1)
