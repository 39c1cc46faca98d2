"""`autoprune table`: methods x budgets on a narrow model."""

import numpy as np
import pandas as pd
import pytest
from fake_evaluator import SMALL, refused

from autoprune_lab.evaluation import timing
from autoprune_lab.evaluation.timing import interleaved
from autoprune_lab.schedule.flops import flops_ratio, macs_3ndm, mean_tokens_leaving, prefill_flops, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from search.cli import main
from search.config.catalogue import options_of
from search.config.compose import compose
from search.methods.arms import method_arms, paper_ratio
from search.study import model_evaluator

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=70)


@pytest.fixture(scope="module")
def tabled(tmp_path_factory, checkpoint):
    """A small table, made twice: its folder, and what ran each time as (pruner, geometries, records)."""
    out, ran = tmp_path_factory.mktemp("table") / "t", []
    words = [f"model.path={checkpoint}", "task.per_kind=2"]
    argv = ["table", "--methods", "fastv", "autoprune_spend", "--out", str(out), "--tokens", "192", "20", *words]
    run = model_evaluator.ModelEvaluator.run

    def counted(self, pruner):
        records = run(self, pruner)
        ran.append((pruner, self.prepared.geometries, records))
        return records

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_evaluator.ModelEvaluator, "run", counted)
        patch.setattr(timing, "interleaved", lambda runs, rounds: interleaved(runs, 1))
        assert main(argv) == 0
        first = ran.copy()
        patch.setattr("search.methods.figure.draw", lambda *args: [])
        assert main(argv) == 0
    return out, first, ran[len(first) :]


def test_the_baselines_and_the_unpruned_model_are_always_there(tabled):
    frame = pd.read_csv(tabled[0] / "table.csv")
    baselines = {"random", "uniform", "window_uniform", "pooling", "downsample"}
    assert set(frame["method"]) == {"none", "fastv", "autoprune_spend"} | baselines


def test_as_many_samples_are_measured_as_were_typed(tabled):
    sizes = {len(pd.read_parquet(file)) for file in (tabled[0] / "records").iterdir()}
    assert sizes == {2 * 8}  # kinds


def test_arms_cost_the_same_and_say_so_in_every_count(tabled):
    frame = pd.read_csv(tabled[0] / "table.csv").set_index(["method", "tokens"])
    for method in ("fastv", "random", "uniform"):
        row = frame.loc[(method, 192.0)]
        assert row["flops_ratio"] == pytest.approx(frame.loc[("fastv", 192.0), "flops_ratio"], rel=0.01)
        assert row["time_ratio"] > 0
        assert row["relative"] == pytest.approx(row["score"] / frame.loc[("none", np.nan), "score"])
        assert row["relative:low"] <= row["relative"] <= row["relative:high"]


def test_the_costs_of_an_arm_are_those_of_its_plan(tabled):
    """Chance looks at nothing, so that its plan is known beforehand."""
    frame = pd.read_csv(tabled[0] / "table.csv").set_index(["method", "tokens"])
    ran = list(frame.dropna(subset="score").index)
    for arm in [(method, tokens) for method in ("random", "uniform") for tokens in (192.0, 20.0)]:
        row, (pruner, prompts, records) = frame.loc[arm], tabled[1][ran.index(arm)]
        plan = pruner.plan(np.zeros(len(prompts)), prompts).tokens
        pairs, whole = list(zip(prompts, plan, strict=True)), [np.full(16, g.n_vision) for g in prompts]
        flops = sum(prefill_flops(g, tokens) for g, tokens in pairs)
        assert row["flops_ratio"] == pytest.approx(flops / sum(map(unpruned_flops, prompts)))
        macs = sum(macs_3ndm(g, tokens) for g, tokens in pairs)
        assert row["paper_ratio"] == pytest.approx(macs / sum(map(macs_3ndm, prompts, whole)))
        assert row["entering"] == pytest.approx(plan.mean())
        assert row["leaving"] == pytest.approx(np.mean([mean_tokens_leaving(tokens) for tokens in plan]))
        assert row["scoring_ratio"] == 0
        assert row["score"] == pytest.approx(records.score)
    assert 0 < frame.loc[("fastv", 192.0), "scoring_ratio"] < frame.loc[("autoprune_spend", 192.0), "scoring_ratio"]


def test_what_is_out_of_reach_is_a_row_with_the_floor(tabled):
    frame = pd.read_csv(tabled[0] / "table.csv").set_index(["method", "tokens"])
    prompts = tabled[1][0][1]
    full = np.array([144] * 2 + [0] * 14)  # FastV cuts before layer 2
    floor = f"floor {max(flops_ratio(prompt, full) for prompt in prompts):.3f}"
    assert frame.loc[("fastv", 20.0), "note"] == floor
    assert f"out of reach: {floor}" in (tabled[0] / "table.md").read_text()


def test_answered_arms_are_not_run_again(tabled):
    _, first, second = tabled
    assert len(first) == 1 + 3 + 3 * 2 + 2  # three cut behind layer 0, three before; smaller pictures
    assert second == []


def test_markdown_and_picture_are_written(tabled):
    text = (tabled[0] / "table.md").read_text()
    costs, scores, trust = text.split("\n\n")
    assert {line.count("|") for line in costs.splitlines()} == {12}
    assert "chain" in scores.splitlines()[0]
    assert "ECE" in trust.splitlines()[0]
    assert (tabled[0] / "table.tex").read_text().count(r"\begin{tabular}") == 3
    for name in ("table", "table_column"):
        assert (tabled[0] / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert {file.suffix for file in tabled[0].glob(f"{name}.*")} >= {".png", ".pdf", ".svg"}


def test_every_arm_says_how_loyal_and_how_sure_it_is(tabled):
    frame = pd.read_csv(tabled[0] / "table.csv").dropna(subset=["score"]).set_index("method")
    assert frame.loc["none", "loyalty"] == 1.0
    assert not frame.loc["none", "no_op"]
    assert frame[["loyalty", "ece", "brier", "aurc"]].stack().between(0, 1).all()
    assert frame["loyalty"].nunique() > 1


def test_smaller_pictures_part_the_samples_where_the_processor_reads_all_alike(tabled):
    """The embedded layout's processor does: no arm, but groups, from pictures that were enlarged again."""
    frame = pd.read_csv(tabled[0] / "table.csv").set_index(["method", "tokens"])
    assert set(frame.loc["downsample", "note"]) == {"the processor reads a picture as 144 tokens whatever its size"}
    assert "out of reach: the processor reads" in (tabled[0] / "table.md").read_text()
    runs = [records for pruner, _, records in tabled[1] if pruner is None]
    ran = list(frame.dropna(subset="score").index)
    whole, *coarse = (np.array([row.score for row in records.rows]) for records in runs)
    for tokens, seen in zip((192.0, 20.0), coarse, strict=True):
        row = frame.loc[("random", tokens)]
        assert (row["n_a"], row["n_b"]) == ((whole > seen).sum(), (whole * seen).sum())
        within = [0 if row[f"n_{group}"] == 0 else row[f"score_{group}"] * row[f"n_{group}"] for group in "ab"]
        own = tabled[1][ran.index(("random", tokens))][2]
        assert sum(within) == pytest.approx(sum(row.score for row, one in zip(own.rows, whole, strict=True) if one))
    assert frame.loc[("none", np.nan), "n_a":"n_b"].isna().all()


def test_selection_takes_a_part_of_a_pruned_prefill_alone(tabled):
    shares = pd.read_csv(tabled[0] / "table.csv").dropna(subset=["score"]).set_index("method")["selection_share"]
    assert shares["none"] == 0
    assert shares.drop("none").between(0, 1, inclusive="neither").all()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--methods", "fastw"], ["unknown method 'fastw'", "did you mean fastv"]),
        (["--tokens", "600"], ["--tokens 600 is outside (0, 576]"]),
        (["pruner.probe_layer=x"], ["probe_layer"]),
    ],
)
def test_mistakes_are_one_line_before_a_model_is_loaded(words, expected, checkpoint, capsys, here, no_model):
    refused(["table", f"model.path={checkpoint}", "task.per_kind=1", *words], expected, capsys, here)


@pytest.mark.parametrize(("tokens", "published"), [(192, 0.429), (128, 0.337), (64, 0.232)])
def test_budgets_cost_about_what_papers_say_of_them(tokens, published):
    """AutoPrune's column for LLaVA-1.5-7B (arXiv 2509.23931), which counts MACs; the ratio is nearly the same."""
    assert paper_ratio(tokens, LLAVA) == pytest.approx(published, abs=0.015)


def test_a_budget_means_tokens_leaving():
    counts = np.array([576] + [64] * 31)
    assert mean_tokens_leaving(counts) == 64
    assert paper_ratio(64, LLAVA) == pytest.approx(flops_ratio(LLAVA, np.full(32, 64 + 576 // 32)))
    assert paper_ratio(64, SMALL) == pytest.approx(flops_ratio(SMALL, np.full(16, 144 * 64 // 576 + 144 // 16)))
    assert paper_ratio(576, LLAVA) == 1.0


def test_every_method_of_the_shelf_can_be_an_arm_at_a_generous_budget():
    arms = method_arms(compose(), options_of("method"), [400], [LLAVA])
    assert {arm.method for arm in arms if arm.pruner is None} == set()


def test_a_budget_in_tokens_needs_no_second_word():
    for words in (["budget.mean_tokens=40"], ["budget=tokens", "budget.mean_tokens=40"]):
        assert compose(words).config["pruner"]["budget"] == {
            "_target_": "autoprune_lab.schedule.budget.Budget",
            "flops_ratio": None,
            "mean_tokens": 40,
            "opening": None,
        }
