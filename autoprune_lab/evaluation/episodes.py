"""Closed loops: many episodes go on together, one batch of them a step; one record an episode."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autoprune_lab.progress import progress
from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Episode, Sample

WHOLE = ("n_vision", "n_text", "decoder_flops", "unpruned_flops", "scoring_flops", "macs", "unpruned_macs")
REAL = ("mean_tokens", "mean_tokens_leaving")
KNOWN = ("complexity", "confidence")  # or None, in all decisions

Played = tuple[str, list[Record]]
"""An episode's outcome, and a record of each decision, its `prediction` what was answered."""


def played_out(
    episodes: Sequence[Episode],
    decide: Callable[[Sequence[Episode], Sequence[Sample]], list[Record]],
    size: int,
    shown: bool = False,
) -> list[Played]:
    """Play every episode to its end; `decide` answers what at most `size` of them show at a time.

    Where one ends, the next begins, so that batches stay full. An episode that is over before it shows anything has no
    decisions.
    """
    decisions: list[list[Record]] = [[] for _ in episodes]
    waiting = list(range(len(episodes)))
    live: dict[int, Sample] = {}
    with progress(doing="playing", total=len(episodes), unit="episodes", shown=shown) as bar:
        while live or waiting:
            while waiting and len(live) < size:
                _go_on(episodes, waiting.pop(0), live)
            rows = decide([episodes[place] for place in live], list(live.values())) if live else []
            for place, row in zip(list(live), rows, strict=True):
                decisions[place].append(row)
                episodes[place].act(row.prediction)
                del live[place]
                _go_on(episodes, place, live)
            bar.update(len(episodes) - len(waiting) - len(live) - bar.n)
    return [(episode.outcome(), rows) for episode, rows in zip(episodes, decisions, strict=True)]


def one_row(sample: Sample, outcome: str, score: float, decisions: Sequence[Record]) -> Record:
    """The record of an episode, which began with the sample: every figure is the mean over its decisions.

    So FLOPs are those of a decision; whole numbers are rounded. Raises ValueError where no decision was made.
    """
    if not decisions:
        raise ValueError(f"episode {sample.id} was over before it began")
    means: dict[str, Any] = {name: round(_mean(decisions, name)) for name in WHOLE}
    means |= {name: _mean(decisions, name) for name in REAL}
    means |= {name: None if getattr(decisions[0], name) is None else _mean(decisions, name) for name in KNOWN}
    tokens = np.rint(np.mean([row.tokens for row in decisions], axis=0)).astype(int)
    return Record(
        id=sample.id,
        kind=sample.kind,
        prediction=outcome,
        answers=sample.answers,
        score=score,
        tokens=tuple(tokens.tolist()),
        **means,
    )


def _mean(decisions: Sequence[Record], name: str) -> float:
    return float(np.mean([getattr(row, name) for row in decisions]))


def _go_on(episodes: Sequence[Episode], place: int, live: dict[int, Sample]) -> None:
    """Show what the episode shows next; it is over where that is nothing."""
    sample = episodes[place].look()
    if sample is not None:
        live[place] = sample
