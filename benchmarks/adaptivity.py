"""Does a curve of its own for each sample pay? The claim of AutoPrune, measured in the crowded world.

    python -m benchmarks.adaptivity                        # the shipped models
    python -m benchmarks.adaptivity --ratios 0.45          # one more budget, beside those that the file holds
    python -m benchmarks.adaptivity --models embedded:dense-s0 --trials 4 --per-kind 12 --out small.json

For every model `autoprune adaptivity experiment=adaptivity` is run at each budget: both searches, the table that is
filled from their pool, the oracle and hindsight. Beside them stand published methods, fitted to the same FLOPs. Curves,
tables and estimators are chosen on tune, scores are of the report split, intervals are paired over the samples and
pooled over the models. Gains are in points, shares are fractions; what stands at the top is of the first budget, and
`tightest` the least one at which the adaptive policy keeps 96.7 % of the unpruned score. All numbers are from
embedded models. The same command again goes on where it stopped; budgets that the file holds already, of the same
models and settings, stay in it.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.flops import flops_ratio
from autoprune_lab.statistics.adaptivity import ADAPTIVE, FIXED
from autoprune_lab.statistics.contrast import Estimate
from autoprune_lab.statistics.headroom import gain_of, score_of, share_of_headroom
from autoprune_lab.statistics.needs import KEPT
from search.config.experiment import Experiment
from search.methods.adaptivity import SHUFFLED, UNPRUNED, Bench, Compared
from search.methods.adaptivity_page import arms_text, needs_text, oracle_of
from search.methods.ceiling import Arm
from search.results.text_table import markdown_table
from search.study.model_evaluator import ModelEvaluator
from search.study.planned import planned

SHIPPED = ["embedded:dense-s0", "embedded:dense-s1", "embedded:dense-s2"]
RATIOS = (0.25, 0.3, 0.35, 0.4)
KEPT_POSITIONS = "pruner.positions=original"
METHODS = {  # as published, and with the positions and the scorer that the other arms have
    "pdrop": ["method=pdrop"],
    "pdrop, positions kept": ["method=pdrop", KEPT_POSITIONS],
    "autoprune": ["method=autoprune"],
    "autoprune, positions kept, last token": ["method=autoprune", KEPT_POSITIONS, "scorer=last_token_attention"],
    "autoprune_official": ["method=autoprune_official"],
}
HALVINGS = 12
Result = tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]  # over all models, and by model


@dataclass(frozen=True, eq=False)
class Answered:
    """One model's arms at one budget, those of published methods among them."""

    model: str
    compared: Compared
    methods: dict[str, Arm]

    def scores(self, name: str) -> np.ndarray:
        """Every report sample's score."""
        return self.methods[name].scores if name in self.methods else self.compared.arm(name).scores


def tokens_at(evaluator: ModelEvaluator, ratio: float) -> float:
    """The mean visual tokens that no curve of an arm spends above this FLOPs ratio, in the mean over the samples.

    Attention is quadratic in the tokens of a layer, so the dearest curve is all tokens in as few layers as they fill.
    """
    low, high = 0.0, float(max(geometry.n_vision for geometry in evaluator.geometries))
    for _ in range(40):
        middle = (low + high) / 2
        costs = [
            flops_ratio(g, np.clip(middle * g.n_layers - g.n_vision * np.arange(g.n_layers), 0, g.n_vision).astype(int))
            for g in evaluator.geometries
        ]
        low, high = (middle, high) if np.mean(costs) <= ratio else (low, middle)
    return math.floor(10 * low) / 10


def method_at(name: str, words: list[str], evaluator: ModelEvaluator, tokens: float, ratio: float) -> Pruner:
    """A published method at the budget; AutoPrune as coded counts otherwise, and is fitted to the FLOPs by halving."""
    if name != "autoprune_official":
        chosen = [*words, *METHODS[name], "budget=tokens", f"budget.mean_tokens={tokens}"]
        return Experiment.compose([*chosen, "pruner.budget.mean_tokens=${budget.mean_tokens}"]).pruner()
    experiment = Experiment.compose([*words, *METHODS[name]])
    low, high = 0.0, tokens
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        pruner = experiment.pruner({"pruner.budget.mean_tokens": middle})
        plan = planned(pruner, evaluator.complexities(pruner), evaluator.geometries)
        low, high = (middle, high) if plan.flops_ratio <= ratio else (low, middle)
    return experiment.pruner({"pruner.budget.mean_tokens": low})


def words_of(model: str, args: argparse.Namespace) -> list[str]:
    """The experiment's command line."""
    return [
        *("experiment=adaptivity", "model=path", f"model.path={model}", "tracking=none"),
        *(f"folder={args.folder}", f"study={Path(model.replace(':', '-')).name}", f"search.n_trials={args.trials}"),
        *(f"task.per_kind={args.per_kind}", f"report.task.per_kind={2 * args.per_kind}", *args.words),
    ]


def answered(model: str, args: argparse.Namespace) -> list[Answered]:
    """Run what is missing of one model: all arms at each budget."""
    words = words_of(model, args)
    bench = Bench(Experiment.compose(words), args.grid)
    checkpoint = bench.check()
    print(f"{model}\n\n{needs_text(bench.needs)}\n", flush=True)
    own = [word for word in words if not word.startswith(("experiment=", "study=", "search."))] + ["task=dense"]
    several = []
    for ratio in args.ratios:
        tokens = tokens_at(bench.on_tune, ratio)
        compared = bench.compare(tokens, checkpoint, args.shuffles)
        methods = {}
        for method in METHODS:
            pruner = method_at(method, own, bench.on_report, tokens, ratio)
            methods[method] = Arm.of(method, [bench.on_report.run(pruner)])
            score = score_of(methods[method].scores, compared.kinds)
            print(f"{method}: {score} at {methods[method].flops_ratio:.3f}")
        print(f"\n{arms_text(compared)}\n", flush=True)
        several.append(Answered(model, compared, methods))
    return several


def pooled(ratio: float, several: list[Answered]) -> dict[str, Any]:
    """Every arm over all models at one budget, and what the adaptive one gains."""
    kinds = [f"{one.model} {kind}" for one in several for kind in one.compared.kinds]

    def scores(name: str) -> np.ndarray:
        return np.concatenate([one.scores(name) for one in several])

    first = several[0].compared
    share = share_of_headroom(scores(ADAPTIVE), scores(FIXED), scores(oracle_of(first)), kinds)
    names = [*(arm.name for arm in first.arms), *METHODS]
    return {
        "budget": ratio,
        "flops_ratio": float(np.mean([one.compared.arm(ADAPTIVE).flops_ratio for one in several])),
        "gain_over_pdrop": _row(gain_of(scores(ADAPTIVE), scores("pdrop"), kinds)),
        "gain_over_fixed": _row(gain_of(scores(ADAPTIVE), scores(FIXED), kinds)),
        "share_of_headroom": None
        if share is None
        else [round(value, 3) for value in (share.value, share.low, share.high)],
        "kept": round(score_of(scores(ADAPTIVE), kinds).value / score_of(scores(UNPRUNED), kinds).value, 4),
        "scores": {name: _row(score_of(scores(name), kinds)) for name in names},
        "gains": {
            name: _row(gain_of(scores(ADAPTIVE), scores(name), kinds)) for name in names if name not in (ADAPTIVE,)
        },
    }


def markdown(budgets: list[dict[str, Any]], by_seed: dict[str, list[dict[str, Any]]]) -> str:
    """A row a budget and model, and one of all models together: scores in percent, gains in points."""
    some = budgets[0]["scores"]
    ceilings = [name for name in some if name.startswith(("oracle", "hindsight"))]
    columns = [UNPRUNED, ADAPTIVE, FIXED, *METHODS, *ceilings]
    gained = "gain over the best fixed curve", "over pdrop", "over shuffled numbers", "share of the headroom"
    rows = []
    for i, pooled_one in enumerate(budgets):
        for name, one in [*((name, several[i]) for name, several in by_seed.items()), ("all", pooled_one)]:
            share, ratio = one["share_of_headroom"], f"{one['flops_ratio']:.3f}"
            gains = [one["gains"][other] for other in (FIXED, "pdrop", SHUFFLED)]
            scores = [f"{one['scores'][column][0]:.1f}" for column in columns]
            told = "no headroom" if share is None else "{:.0%} [{:.0%}, {:.0%}]".format(*share)
            rows.append([ratio, name, *scores, *("{:+.1f} [{:.1f}, {:.1f}]".format(*gain) for gain in gains), told])
    return markdown_table(["FLOPs ratio", "model", *columns, *gained], rows)


def held(path: Path, setting: dict[str, Any], ratios: Sequence[float]) -> Result:
    """The budgets that the file holds beside `ratios`, over all models and by model: none where there is no file.

    Raises:
        SystemExit: the file is of other models or settings, whose budgets do not belong beside these.
    """
    if not path.is_file():
        return [], {}
    whole = json.loads(path.read_text())
    if whole["setting"] != setting:
        raise SystemExit(f"{path} holds {whole['setting']}, and this is {setting}: choose another --out")
    others = [i for i, budget in enumerate(whole["budgets"]) if budget["budget"] not in ratios]
    return [whole["budgets"][i] for i in others], {m: [rows[i] for i in others] for m, rows in whole["by_seed"].items()}


def _row(estimate: Estimate) -> list[float]:
    return [round(100 * value, 2) for value in (estimate.value, estimate.low, estimate.high)]


def main() -> None:
    """Run every model, pool, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="changes to the experiment")
    parser.add_argument("--models", nargs="+", default=SHIPPED)
    parser.add_argument(
        "--ratios", type=float, nargs="+", default=RATIOS, help="FLOPs ratios; the first of the file stands at its top"
    )
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--per-kind", type=int, default=20, help="tune samples a kind; twice as many report samples")
    parser.add_argument("--grid", type=int, default=8)
    parser.add_argument("--shuffles", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/adaptivity"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/adaptivity.json"))
    args = parser.parse_args()
    setting = {name: getattr(args, name) for name in ("models", "trials", "per_kind", "grid", "shuffles", "words")}
    budgets, by_seed = held(args.out, setting, args.ratios)
    by_model = {model: answered(model, args) for model in args.models}
    for ratio, several in zip(args.ratios, zip(*by_model.values(), strict=True), strict=True):
        budgets.append(pooled(ratio, list(several)))
        for model, one in zip(by_model, several, strict=True):
            by_seed.setdefault(model, []).append(pooled(ratio, [one]))
    kept = [budget for budget in budgets if budget["kept"] >= KEPT]
    tightest = min(kept, key=lambda budget: budget["flops_ratio"], default=None)
    first = {"seeds": args.models, **budgets[0]}
    whole = {**first, "tightest": tightest, "setting": setting, "budgets": budgets, "by_seed": by_seed}
    args.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(markdown(budgets, by_seed))


if __name__ == "__main__":
    main()
