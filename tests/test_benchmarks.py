"""The speed benchmark measures what it says: floors of the arm's own lengths, turns in order, padding as computed."""

import json
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from acting import N_PATCHES, Acting
from expected_sorting import OLDER

from autoprune_lab.decoder.meter import flop_counter
from autoprune_lab.evaluation.timing import interleaved
from autoprune_lab.evidence.complexity import mutual_information
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import flops_ratio
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.adaptivity import ADAPTIVE, FIXED
from benchmarks import acting as decisions
from benchmarks import adaptivity, angelslim, episode_budget, launches, objectives, peers, prefill, throughput
from benchmarks.arms import pruners
from benchmarks.ragged import alike, entering_tokens, padding_percent, told, unequal_prompts
from benchmarks.random_llava import Prompt, pixel_inputs, random_llava
from benchmarks.timing import Workload, sliced
from policies.fixed import FixedPolicy
from search.config.catalogue import options_of
from search.config.experiment import Experiment
from search.methods.adaptivity import SHUFFLED, UNPRUNED
from search.methods.arms import ALWAYS, DOWNSAMPLE
from search.methods.ceiling import EQUAL, HINDSIGHT, IN_MEAN, ORACLE, Arm

VISION = 36
PRUNING = [name for name in ALWAYS if name != DOWNSAMPLE]


@pytest.fixture(scope="module")
def model():
    return random_llava("tiny", "cpu", torch.float32)


@torch.inference_mode()
def test_a_floor_is_the_stock_model_on_the_arm_s_lengths(model):
    workload = Workload(model, [Prompt(VISION, seed=seed) for seed in range(2)])
    pruner = pruners(16, VISION, 128)["logistic 128"]
    widths, samples = workload.look(pruner)
    np.testing.assert_array_equal(samples[0].counts + 95, widths)
    with sliced(model, widths):
        cache = model(**workload.inputs).past_key_values
    assert [layer.keys.shape[2] for layer in cache.layers] == widths
    stock = model(**workload.inputs).logits
    with sliced(model, [VISION + 95] * 16):
        assert torch.equal(model(**workload.inputs).logits, stock)


def test_runs_take_turns_and_the_first_round_warms_up():
    calls = []

    def run(name):
        calls.append(name)
        return np.full(2, len(calls))

    seconds = interleaved([lambda: run("a"), lambda: run("b")], rounds=2)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    np.testing.assert_array_equal(seconds[..., 0], [[4, 3], [5, 6]])


def test_padding_is_what_the_layers_computed(model):
    pruner, prompts = pruners(16, VISION, 64)["logistic 64"], unequal_prompts(VISION, sizes=4, n_prompts=6)
    groups, slots, real = [[0, 1, 2], [3, 4, 5]], 0, 0
    for group in groups:
        workload = Workload(model, [prompts[i] for i in group])
        widths, samples = workload.look(told(pruner, workload.prompts))
        slots += len(group) * sum(widths)
        real += sum(int(sample.counts.sum()) + 16 * sample.geometry.n_text for sample in samples)
        assert [sample.complexity for sample in samples] == [prompt.bits for prompt in workload.prompts]
    expected = 100 * (1 - real / slots)
    assert padding_percent(entering_tokens(model, pruner, prompts), groups) == pytest.approx(expected)
    assert expected > 1


def test_alike_curves_share_a_batch():
    entering = np.array([[9, 1], [5, 5], [9, 1], [5, 5], [9, 2]])
    assert alike(entering, batch=2) == [[4, 0], [1, 3], [2]]
    assert padding_percent(entering, [[4, 0], [1, 3], [2]]) < padding_percent(entering, [[0, 1], [2, 3], [4]])


def test_a_mean_budget_over_decisions_is_spent_where_the_number_says():
    bits = np.linspace(0.0, 1.0, 11)
    prompts = [Geometry(12, 96, 264, 4, 4, 24, n_vision=192, n_text=20)] * len(bits)
    seen = episode_budget.Seen(bits, prompts)
    for way, sign in ((episode_budget.DENSE, 1), (episode_budget.SPARSE, -1)):
        pruner = episode_budget.spender(mutual_information, seen, way, 0.35)
        counts = pruner.plan(bits, prompts).tokens
        assert (counts[:, : episode_budget.LAYER] == 192).all()
        assert (np.diff(counts[:, -1]) * sign >= 0).all()
        assert counts[:, -1].max() / counts[:, -1].min() == pytest.approx(4, rel=0.05)
        ratio = np.mean([flops_ratio(prompt, row) for prompt, row in zip(prompts, counts, strict=True)])
        assert 0.345 < ratio <= 0.35


def test_shuffled_numbers_are_of_other_decisions():
    evidence = SimpleNamespace(index=torch.zeros(4, 3))
    drawn = [episode_budget.Shuffled(np.array([1.0, 2.0]), np.random.default_rng(0)) for _ in range(2)]
    told = [[one(evidence).tolist() for _ in range(5)] for one in drawn]
    assert told[0] == told[1]
    assert {*np.ravel(told).tolist()} == {1.0, 2.0}


def test_the_command_prints_and_writes_every_arm(monkeypatch, tmp_path, capsys):
    out = tmp_path / "prefill.json"
    words = f"prefill --dims tiny --vision {VISION} --batch 1 2 --mean-tokens 128 --rounds 1 --unequal 2 --out {out}"
    monkeypatch.setattr(sys, "argv", words.split())
    prefill.main()
    written = json.loads(out.read_text())
    tables = list(written["tables"].values())
    assert written["settings"]["dims"] == "tiny"
    assert [len(rows) for rows in tables] == [5, 5, 4, 4]
    for unpruned, *arms in tables[:2]:
        assert unpruned["ms"] > 0
        assert all(arm["flops_ratio"] < 1 and np.isfinite(arm["over_floor_percent"]) for arm in arms)
        assert [arm["cuts"] for arm in arms][:2] == [1, 3]
    assert [row["batch"] for row in tables[2]] == [1, 2, 2, 2]
    assert "by planned curve" in capsys.readouterr().out


@pytest.fixture(scope="module")
def sighted():
    return random_llava("tiny", "cpu", torch.float32, tower=True)


def test_every_method_prunes_what_is_timed(sighted):
    prompts = [Prompt(VISION, seed=seed) for seed in range(3)]
    contexts = throughput.method_contexts(sighted, prompts, ["fastervlm", "fastv", "autoprune_spend"], tokens=192)
    assert list(contexts) == ["none", "fastervlm", "fastv", "autoprune_spend", *PRUNING]
    inputs = pixel_inputs(sighted, prompts)
    for name, context in list(contexts.items())[1:]:
        with context() as trace, torch.inference_mode():
            sighted.generate(**inputs, max_new_tokens=1)
        assert np.mean([sample.flops_ratio for sample in trace.samples]) < 0.9, name


def test_launches_are_counted_for_every_method_and_batch(monkeypatch, tmp_path, capsys):
    out = tmp_path / "launches.json"
    monkeypatch.setattr(sys, "argv", f"launches --methods fastv --repeats 3 --out {out}".split())
    launches.main()
    written = json.loads(out.read_text())
    assert [row["method"] for row in written["rows"]] == 2 * ["fastv", *PRUNING]
    for row in written["rows"]:
        assert row["growing_decode_waits"] == row["static_decode_waits"] == 0
        assert row["cuts"] > 0
    assert written["rows"][0]["growing_prefill_waits"] == written["rows"][0]["static_prefill_waits"] == 2
    assert set(written["with_block_ms"]) == {"fastv", *PRUNING}
    assert "padded" in capsys.readouterr().out


def test_the_best_batch_is_the_fastest_that_fits(sighted, monkeypatch):
    rates = {1: 3.0, 2: 7.0, 4: 5.0}

    def rate(self, context, batch, most):
        assert most == max(3, batch)
        if batch not in rates:
            raise torch.OutOfMemoryError
        return rates[batch]

    monkeypatch.setattr(throughput.Crowd, "rate", rate)
    crowd = throughput.Crowd(sighted, (), new_tokens=1, rounds=1)
    assert crowd.best_batch(None, [1, 2, 4, 8, 16], few=3) == (2, 7.0)
    with pytest.raises(torch.OutOfMemoryError):
        crowd.best_batch(None, [8], few=3)


def test_few_samples_run_singly_and_all_in_a_batch(sighted, monkeypatch):
    asked = []
    monkeypatch.setattr(throughput.Crowd, "rate", lambda self, context, *which: asked.append(which) or 4.0)
    prompts = [Prompt(VISION, seed=seed) for seed in range(6)]
    for few, expected in ((3, [(2, 3), (2,), (1, 5)]), (6, [(2, 6), (1, 5)])):
        asked.clear()
        crowd = throughput.Crowd(sighted, prompts, 1, 1)
        (row,) = throughput.measure(crowd, {"none": None}, sizes=[2], few=few, singly=5)
        assert asked == expected
    assert row["samples_per_s_singly"] == row["samples_per_s_best"] == 4.0


def test_samples_a_second_are_written_for_every_arm(monkeypatch, tmp_path, capsys):
    out = tmp_path / "throughput.json"
    words = f"throughput --dims tiny --samples 3 --few 2 --batch 2 --tokens 192 --methods fastv --out {out}"
    monkeypatch.setattr(sys, "argv", words.split())
    throughput.main()
    written = json.loads(out.read_text())
    assert [row["method"] for row in written["rows"]] == ["none", "fastv", *PRUNING]
    assert written["settings"]["samples"] == 3
    unpruned, *others = written["rows"]
    assert unpruned["speed_singly"] == unpruned["speed_best"] == 1
    for row in others:
        assert row["speed_best"] == pytest.approx(row["samples_per_s_best"] / unpruned["samples_per_s_best"])
    assert "fastv" in capsys.readouterr().out


def told_arm(name: str, scores: list[float]) -> Arm:
    return Arm(name, np.array(scores), mean_tokens=40.0, flops_ratio=0.25)


def test_gains_of_an_adaptive_policy_are_pooled_over_models():
    """Two models of two kinds, four samples each: the second kind is lost by the fixed curve, won by the others."""
    won, lost = [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]
    ceilings = [(f"{who}, {how}", won) for who in (ORACLE, HINDSIGHT) for how in (EQUAL, IN_MEAN)]
    several = [(UNPRUNED, won), (FIXED, lost), (ADAPTIVE, [1.0, 1.0, 1.0, 0.0]), (SHUFFLED, lost), *ceilings]
    compared = SimpleNamespace(kinds=["a", "a", "b", "b"], in_mean=False, arms=[told_arm(*one) for one in several])
    compared.arm = lambda name: next(arm for arm in compared.arms if arm.name == name)
    methods = {name: told_arm(name, [0.0] * 4) for name in adaptivity.METHODS}
    models = [SimpleNamespace(model=f"m{i}", compared=compared, methods=methods) for i in range(2)]
    for one in models:
        one.scores = lambda name: methods[name].scores if name in methods else compared.arm(name).scores
    found = adaptivity.pooled(0.25, models)
    assert found["gain_over_fixed"][0] == 25
    assert found["gain_over_pdrop"][0] == 75
    assert found["share_of_headroom"][0] == 0.5
    assert found["kept"] == 0.75
    table = adaptivity.markdown([found], {"m0": [found]}).splitlines()
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1
    assert "| +25.0 [" in table[-1]
    assert "| 50% [" in table[-1]


def test_budgets_of_the_file_stay_beside_new_ones(tmp_path):
    out = tmp_path / "adaptivity.json"
    setting = {"models": ["m0"], "trials": 2}
    budgets = [{"budget": 0.25, "kept": 0.8}, {"budget": 0.3, "kept": 0.9}]
    assert adaptivity.held(out, setting, [0.35]) == ([], {})
    out.write_text(json.dumps({"setting": setting, "budgets": budgets, "by_seed": {"m0": budgets}}))
    assert adaptivity.held(out, setting, [0.35]) == (budgets, {"m0": budgets})
    assert adaptivity.held(out, setting, [0.3, 0.35]) == (budgets[:1], {"m0": budgets[:1]})
    with pytest.raises(SystemExit, match=r"'trials': 2.*'trials': 3.*choose another --out"):
        adaptivity.held(out, setting | {"trials": 3}, [0.35])


def test_a_budget_in_tokens_is_never_above_its_flops_ratio():
    geometry = Geometry(16, 96, 264, 4, 4, 24, n_vision=144, n_text=20)
    tokens = adaptivity.tokens_at(SimpleNamespace(geometries=[geometry]), 0.3)

    def dearest(tokens: float) -> float:
        return flops_ratio(geometry, np.clip(tokens * 16 - 144 * np.arange(16), 0, 144).astype(int))

    assert dearest(tokens) <= 0.3 < dearest(tokens + 0.11)


def test_scores_are_ranked_against_the_report_split(monkeypatch, tmp_path, capsys, checkpoint):
    out = tmp_path / "objectives.json"
    words = (
        f"objectives --settings 3 --out {out} model=path model.path={checkpoint} task.per_kind=1 report.task.per_kind=1"
    )
    monkeypatch.setattr(sys, "argv", [*words.split(), f"folder={tmp_path}", "policy=fixed"])
    objectives.main()
    kept = json.loads(out.read_text())
    assert f"{len(kept['settings'])} settings, {3 - len(kept['settings'])} refused" in capsys.readouterr().out
    assert all({"task", "agreement", "kl", "cosine", "report"} <= row.keys() for row in kept["settings"])
    rows = [{"task": i, "agreement": -i, "kl": i**3, "cosine": [0, 2, 1][i], "report": i} for i in range(3)]
    assert list(objectives.ranks(rows).values()) == pytest.approx([1, -1, 1, 0.5])


@pytest.fixture
def paired(sighted):
    """DivPrune beside itself, and evenly spread tokens beside it."""
    divprune, uniform = (
        Experiment.compose([f"method={name}", "budget=none", f"pruner.policy.keep={6.5 / VISION}"]).pruner()
        for name in ("divprune", "uniform")
    )

    other = partial(divprune.attach, sighted, keep_indices=True)
    return [peers.Pair("divprune", 6, one, other) for one in (divprune, uniform)]


def test_peers_are_compared_by_time_and_by_what_they_keep(sighted, paired, monkeypatch):
    def kept_in(self, context):
        with context() as trace, torch.inference_mode():
            sighted(**pixel_inputs(sighted, [self.prompt]))
        return trace.samples[0].kept[-1]

    monkeypatch.setattr(peers.Answer, "kept_in", kept_in)
    answer = peers.Answer(sighted, Prompt(VISION), steps=2)
    alike, unlike = peers.compare(answer, paired, rounds=2)
    assert alike["same"] == 100 > unlike["same"]
    for row in (alike, unlike):
        for phase in ("prefill", "step"):
            assert row[f"{phase}_ratio_q1"] <= row[f"{phase}_ratio"] <= row[f"{phase}_ratio_q3"]
            assert row[f"{phase}_ms"] > 0
    with pytest.raises(ValueError, match=r"divprune keeps 6 tokens, AngelSlim 6: not 5 both"):
        peers.compare(answer, [replace(paired[0], tokens=5)], rounds=1)


def test_without_angelslim_nothing_is_compared(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["peers"])
    peers.main()
    assert "name a checkout" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["peers", "--angelslim", str(tmp_path)])
    with pytest.raises(SystemExit, match="its wheels leave that out"):
        peers.main()


def test_angelslim_is_told_the_settings_of_the_papers():
    """Every method is one of ours, and names layers that its requirements capture."""
    for name, strategy in angelslim.strategies(24).items():
        assert name in options_of("method", ())
        named = {key: value for key, value in strategy.params.items() if key in ("layer_idx", "object_layer")}
        captured = {layer for key, layers in strategy.needs.items() if key.endswith("layers") for layer in layers}
        assert set(named.values()) <= captured
    assert angelslim.strategies(24)["hiprune"].params["object_layer"] == 8


@pytest.mark.skipif(OLDER, reason="of transformers 5.23")
def test_a_decision_s_parts_are_counted_pruned_as_they_run():
    tiny = Acting()
    sample = tiny.sample(cameras=2)
    inputs = tiny.batch([sample])
    model, whole = decisions.stock(tiny.model.config, 2, N_PATCHES)
    pruner = Pruner(FixedPolicy(2), Budget(flops_ratio=0.6))
    with flop_counter() as counter:
        tiny.model.sample_actions(**inputs)
    assert decisions.by_part(counter) == whole
    with flop_counter() as counter, pruner.attach(tiny.model) as trace:
        tiny.model.sample_actions(**inputs)
    counted, (record,) = decisions.by_part(counter), trace.samples
    assert decisions.pruned(model, whole, 2 * N_PATCHES, 0.6) == counted | {
        "prompt's decoder": counted["prompt's decoder"] - record.scoring_flops
    }
