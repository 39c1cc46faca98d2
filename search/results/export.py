"""One trial of a finished study as the pruner that it tried."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.errors import one_line
from search.config.errors import ConfigError, add_packages, close
from search.results.text_table import interval

if TYPE_CHECKING:
    from autoprune_lab.pruner import Pruner
    from search.results.study_result import StudyResult

KNEE, BUDGET = "knee", "budget"


@dataclass(frozen=True)
class Pick:
    """Which trial: `knee`, `budget` (the best that costs at most `at`), or a number."""

    how: str
    at: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for another word, for a budget without a ratio, or a ratio without a budget."""
        if self.how not in (KNEE, BUDGET) and not self.how.isdecimal():
            words = f"{KNEE}, {BUDGET} or a trial's number"
            raise ConfigError(f"pick={self.how} is unknown{close(self.how, (KNEE, BUDGET))}; pick {words}")
        if (self.how == BUDGET) != (self.at is not None):
            raise ConfigError(
                f"pick={BUDGET} and at=RATIO go together: the most that may be spent, for example at=0.35"
            )

    def trial(self, result: "StudyResult") -> int:
        """The trial's number. ConfigError names what there is."""
        front = result.front
        if self.how.isdecimal():
            return int(self.how)
        if not front.costs:
            raise ConfigError(f"the front of {result.name} is empty: {front.left_out}; pick a trial by its number")
        index = front.knee() if self.at is None else front.index_at(self.at)
        if index is None:
            cheapest = f"the cheapest is trial {front.labels[0]} at {front.costs[0]:.4f}"
            raise ConfigError(f"nothing on the front of {result.name} costs at most {self.at}: {cheapest}")
        return int(front.labels[index])


def export(result: "StudyResult", pick: Pick, out: Path) -> str:
    """Write the picked trial's pruner to `out`, for `Pruner.load`; return in a line what it is.

    ConfigError, with nothing written, names the trials that can be exported.
    """
    from autoprune_lab.pruner_file import text

    number = _exportable(result, pick)
    said = about(result, number)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"# {said}\n{text(result.pruners[number])}", encoding="utf-8")
    return said


def export_all(result: "StudyResult", out: Path) -> list[str]:
    """Write the pruner of every trial of the front into the folder `out`, trial-NUMBER.yaml; one line about each.

    ConfigError, with nothing written, where the front is empty or one of them cannot be exported.
    """
    if not result.front.labels:
        raise ConfigError(f"the front of {result.name} is empty: {result.front.left_out}; there is nothing to export")
    picks = {label: Pick(label) for label in result.front.labels}
    for pick in picks.values():
        _exportable(result, pick)
    return [f"{out / f'trial-{n}.yaml'}  {export(result, pick, out / f'trial-{n}.yaml')}" for n, pick in picks.items()]


def pruner_of(result: "StudyResult", pick: Pick, packages: Collection[str]) -> "tuple[int, Pruner]":
    """The picked trial's number and its pruner, which may be made of code of `packages`. Raises ConfigError."""
    from autoprune_lab.plugins.parts import PackagesError, PartError, make
    from autoprune_lab.pruner import Pruner

    number = _exportable(result, pick)
    where = f"study {result.name}, trial {number}"
    try:
        pruner: Pruner = make(result.pruners[number], Pruner, packages, where)
    except PackagesError as error:
        raise ConfigError(f"{where} {error.needs}: {add_packages(error.missing)}") from error
    except PartError as error:
        raise ConfigError(one_line(error)) from error
    return number, pruner


def _exportable(result: "StudyResult", pick: Pick) -> int:
    """The trial's number. Raises ConfigError, naming the trials that there are, where it cannot be exported."""
    number = pick.trial(result)
    if number not in result.pruners:
        known = ", ".join(map(str, sorted(result.pruners))) or "none; run autoprune study again to have them written"
        raise ConfigError(f"{result.name} has no trial {number} within the bound; trials: {known}")
    _check(result.pruners[number], f"study {result.name}, trial {number}")
    return number


def _check(node: Any, where: str) -> None:
    """Raise ConfigError for what is no pruner; code of others is not looked at, `load_line` names it."""
    from autoprune_lab.plugins.parts import PackagesError, PartError, make
    from autoprune_lab.pruner import Pruner

    try:
        make(node, Pruner, at=where)
    except PackagesError:
        return
    except PartError as error:
        raise ConfigError(one_line(error)) from error


def load_line(result: "StudyResult", pick: Pick, out: Path) -> str:
    """The Python line that loads what `export` wrote."""
    from autoprune_lab.pruner_file import own_packages

    others = own_packages(result.pruners[pick.trial(result)])
    return f"pruner = Pruner.load({str(out)!r}{f', packages={others}' if others else ''})"


def about(result: "StudyResult", number: int) -> str:
    """Study, trial, and what it cost and scored on either split."""
    (row,) = result.trials[result.trials["trial"] == number].to_dict("records")
    said = f"study {result.name}, trial {number}: "
    said += f"FLOPs ratio {row['flops_ratio']:.4f}, score {row['score']:.4f} (tune split)"
    measured = result.report.reindex(columns=["trial", "flops_ratio", "score", "low", "high"]).dropna()
    for again in measured[measured["trial"] == number].to_dict("records"):
        shown = interval(again["low"], again["high"])
        said += f"; FLOPs ratio {again['flops_ratio']:.4f}, score {again['score']:.4f} {shown} (report split)"
    return said
