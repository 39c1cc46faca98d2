"""Tables and pictures of the needs, and of the arms over the budgets."""

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from autoprune_lab.fronts.plot import MARKERS
from autoprune_lab.fronts.styles import COLOURS
from autoprune_lab.statistics.adaptivity import ADAPTIVE, FIXED
from autoprune_lab.statistics.contrast import Estimate
from autoprune_lab.statistics.headroom import gain_of, score_of, share_of_headroom
from autoprune_lab.statistics.needs import Needs
from search.methods.adaptivity import UNPRUNED, Bench, Compared
from search.methods.ceiling import EQUAL, IN_MEAN, ORACLE
from search.results.text_table import table

NEEDS, ARMS = "needs", "arms"  # the files' names


def write_needs(bench: Bench, budgets: Sequence[float | None]) -> None:
    """needs.csv and needs.png in the bench's folder."""
    needs_frame(bench.needs).to_csv(bench.folder / f"{NEEDS}.csv", index=False)
    chosen = [budget for budget in budgets if budget is not None]
    draw_needs(bench.needs, chosen, bench.folder / f"{NEEDS}.png", f"{bench.title}, tune split: needs of the kinds")


def write_arms(bench: Bench, compared: Sequence[Compared]) -> None:
    """arms.csv and arms.png in the bench's folder, and the adaptive pruner of each budget: adaptive-BUDGET.yaml."""
    arms_frame(compared).to_csv(bench.folder / f"{ARMS}.csv", index=False)
    draw_arms(compared, bench.folder / f"{ARMS}.png", f"{bench.title}, report split, 95 % intervals")
    for one in compared:
        one.adaptive.save(bench.folder / f"adaptive-{one.bound.value:g}.yaml")


def needs_frame(needs: Needs) -> pd.DataFrame:
    """One row a kind, and its curve in tokens, layer by layer; then the mean and the envelope."""
    rows: list[dict[str, Any]] = [
        {
            "kind": need.kind,
            "layers": need.layers,
            "tokens": need.tokens,
            "mean_tokens": need.mean_tokens,
            "kept": need.kept,
            "met": need.met,
        }
        for need in needs.kinds
    ]
    low, high = needs.window
    rows += [{"kind": "mean need", "mean_tokens": low}, {"kind": "envelope", "mean_tokens": high}]
    curves = np.vstack([needs.curves, needs.mean, needs.envelope])
    return pd.DataFrame(rows).join(pd.DataFrame(curves, columns=[f"layer {i}" for i in range(curves.shape[1])]))


def needs_text(needs: Needs) -> str:
    """The table of the needs, and the window."""
    headers = ["kind", "layers", "tokens", "cheapest curve: mean tokens", "kept"]
    rows: list[tuple[str, int, str, str, str]] = [
        (n.kind, n.layers, f"{n.tokens:.1f}", f"{n.mean_tokens:.1f}", f"{n.kept:.3f}" + ("" if n.met else " (unmet)"))
        for n in needs.kinds
    ]
    return f"{table(headers, rows)}\n\n{window_text(needs)}"


def window_text(needs: Needs) -> str:
    """One sentence."""
    low, high = needs.window
    unmet = [need.kind for need in needs.kinds if not need.met]
    missed = f" No curve of the grid keeps {100 * needs.share:g} % of {', '.join(unmet)}." if unmet else ""
    if high - low < 1e-9:
        return (
            f"All kinds need the same curve, of {low:.1f} mean visual tokens: between kinds nothing can be won.{missed}"
        )
    said = (
        f"Window: mean need {low:.1f} to envelope {high:.1f} mean visual tokens; only between them can adaptivity pay."
    )
    return said + missed


def arms_frame(compared: Sequence[Compared]) -> pd.DataFrame:
    """One row an arm and a budget: cost, score, gain over the best fixed curve; the share of the headroom won."""
    return pd.DataFrame([row for one in compared for row in _rows(one)])


def arms_text(one: Compared) -> str:
    """The table of one budget, and what it says."""
    headers = ["arm", "mean tokens", "FLOPs ratio", "score [95 % interval]", f"gain over the {FIXED}"]
    rows = []
    for arm in one.arms:
        gain = "" if arm.name in (FIXED, UNPRUNED) else str(gain_of(arm.scores, one.arm(FIXED).scores, one.kinds))
        rows.append((arm.name, f"{arm.mean_tokens:.2f}", arm.flops_ratio, str(score_of(arm.scores, one.kinds)), gain))
    return f"At {one.bound}:\n\n{table(headers, rows)}\n\n{one.report.answer}\n{_share_line(one)}"


def oracle_of(one: Compared) -> str:
    """The oracle that spends as the adaptive policy does: alike on every sample, or in the mean."""
    return f"{ORACLE}, {IN_MEAN if one.in_mean else EQUAL}"


def share_of(one: Compared) -> Estimate | None:
    """(adaptive - fixed) / (oracle - fixed); None without headroom."""
    adaptive, fixed, oracle = (one.arm(name).scores for name in (ADAPTIVE, FIXED, oracle_of(one)))
    return share_of_headroom(adaptive, fixed, oracle, one.kinds)


def _share_line(one: Compared) -> str:
    room = gain_of(one.arm(oracle_of(one)).scores, one.arm(FIXED).scores, one.kinds)
    said = f"{oracle_of(one)} over the {FIXED}: {_points(room)}"
    share = share_of(one)
    if share is None:
        return f"No headroom: {said}, not clearly above 0."
    return f"Share of the headroom: {_percent(share)} ({said})."


def _points(gain: Estimate) -> str:
    return f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _percent(share: Estimate) -> str:
    low, high = (f"{100 * end:.0f}" if math.isfinite(end) else f"{end}" for end in (share.low, share.high))
    return f"{100 * share.value:.0f} % [{low}, {high}]"


def _rows(one: Compared) -> list[dict[str, Any]]:
    rows = []
    for arm in one.arms:
        score = score_of(arm.scores, one.kinds)
        gain = gain_of(arm.scores, one.arm(FIXED).scores, one.kinds)
        row: dict[str, Any] = {
            "budget": one.bound.value,
            "unit": one.bound.unit,
            "arm": arm.name,
            "mean_tokens": arm.mean_tokens,
            "flops_ratio": arm.flops_ratio,
            **score.columns("score"),
            **gain.columns("gain"),
        }
        if arm.name == ADAPTIVE and (share := share_of(one)) is not None:
            row |= share.columns("share_of_headroom")
        rows.append(row)
    return rows


def draw_needs(needs: Needs, budgets: Sequence[float], path: Path, title: str) -> Figure:
    """The needs of the kinds as curves over the layers, their mean, their envelope, and the window between the two.

    Right beside the curves the same as costs, mean visual tokens: kinds as ticks, the window shaded, budgets as lines.
    """
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    curves, cost = figure.subplots(1, 2, width_ratios=(5, 2))
    layers = np.arange(len(needs.mean) + 1)

    def step(axes: Any, tokens: np.ndarray, **style: Any) -> None:
        axes.step(layers, np.append(tokens, tokens[-1]), where="post", **style)

    low, high = needs.window
    colours = [colour for colour, _ in zip(cycle(COLOURS[:-1]), needs.kinds, strict=False)]  # black is the mean's
    lines = [("-", "--", ":")[i // (len(COLOURS) - 1) % 3] for i in range(len(colours))]
    for need, tokens, colour, line in zip(needs.kinds, needs.curves, colours, lines, strict=True):
        step(curves, tokens, color=colour, linestyle=line, linewidth=1.4, label=f"{need.kind}: {need.mean_tokens:.1f}")
    step(curves, needs.mean, color="black", linewidth=2.4, label=f"mean need: {low:.1f}")
    step(curves, needs.envelope, color="0.45", linewidth=2.4, linestyle="-.", label=f"envelope: {high:.1f}")
    filled = [np.append(tokens, tokens[-1]) for tokens in (needs.mean, needs.envelope)]
    curves.fill_between(layers, *filled, step="post", color="0.5", alpha=0.15, linewidth=0)
    curves.set(xlabel="layer", ylabel="visual tokens entering", xlim=(0, layers[-1]), title="curves")
    curves.set_yscale("symlog", linthresh=1)
    curves.set_ylim(bottom=0)
    curves.yaxis.set_major_formatter("{x:g}")
    cost.axvspan(low, high, color="0.5", alpha=0.15, linewidth=0)
    for i, (need, colour) in enumerate(zip(needs.kinds, colours, strict=True)):
        cost.plot([need.mean_tokens], [i], "o" if need.met else "x", color=colour)
    for budget in budgets:
        cost.axvline(budget, color="0.35", linewidth=1, linestyle="--")
    cost.set(xlabel="mean visual tokens", title="window" + (" and budgets" if budgets else ""), ylim=(-0.6, None))
    cost.set_yticks(range(len(needs.kinds)), [need.kind for need in needs.kinds])
    cost.invert_yaxis()
    for axes in (curves, cost):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = curves.get_legend_handles_labels()
    cost.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, title="mean tokens")
    window = f"window: {low:.1f} to {high:.1f} mean visual tokens"
    figure.suptitle(f"{title}\n{window}", x=0.01, ha="left", fontsize="medium")
    figure.savefig(path, dpi=160)
    return figure


def draw_arms(compared: Sequence[Compared], path: Path, title: str) -> Figure:
    """Every arm's score over the budgets, with 95 % intervals; arms are set apart a little so that bars do not hide."""
    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(compared, key=lambda one: one.bound.value)
    budgets = np.array([one.bound.value for one in ordered])
    apart = 0.012 * (np.ptp(budgets) or budgets[0])
    names = [arm.name for arm in ordered[0].arms]
    for i, name in enumerate(names):
        scores = [score_of(one.arm(name).scores, one.kinds) for one in ordered]
        values = np.array([(score.value, score.low, score.high) for score in scores]).T
        errors = np.maximum([values[0] - values[1], values[2] - values[0]], 0)
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        ceiling = name.startswith((ORACLE, "hindsight"))
        line = ":" if name == UNPRUNED else "--" if ceiling else "-"
        x = budgets + apart * (i - len(names) / 2)
        width = 2.4 if name == ADAPTIVE else 1.2
        axes.errorbar(
            x, values[0], errors, label=name, linestyle=line, linewidth=width, capsize=2, markersize=5, **style
        )
    unit = ordered[0].bound.unit
    axes.set(ylabel="score", xlabel="budget: " + {"mean_tokens": "mean visual tokens"}.get(unit, "FLOPs ratio"))
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xticks(budgets)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.savefig(path, dpi=160)
    return figure
