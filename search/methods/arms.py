"""The arms of a comparison: every method of conf/method at the budgets that papers name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import BudgetError
from autoprune_lab.schedule.flops import chunk_flops, fixed_flops, layer_terms, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.tasks.downsampled import DownsampledTask
from search.config.catalogue import options_of
from search.config.compose import Settings
from search.config.errors import ConfigError, close
from search.config.experiment import Experiment
from search.config.paths import select

DOWNSAMPLE = "downsample"  # no pruner: `search.methods.downsample`
ALWAYS = ("random", "uniform", "window_uniform", "pooling", DOWNSAMPLE)
UNPRUNED = "none"
OF = 576  # visual tokens of LLaVA-1.5, which papers' budgets count from


@dataclass(frozen=True)
class Arm:
    """A method at a budget; `note` says why it cannot be had.

    It is a pruner, or nothing is pruned and smaller pictures are `shown`.
    """

    method: str
    tokens: float
    bound: float
    pruner: Pruner | None
    note: str = ""
    shown: DownsampledTask | None = None

    @property
    def name(self) -> str:
        """Unique in a table."""
        return f"{self.method} at {self.tokens:g}"


def check_methods(asked: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The asked methods (none: all), the baselines always among them, without the unpruned one."""
    known = sorted({*options_of("method", folders), DOWNSAMPLE})
    for name in asked:
        if name not in known:
            raise ConfigError(f"unknown method '{name}'{close(name, known)}; available: {', '.join(known)}")
    return [name for name in dict.fromkeys([*(asked or known), *ALWAYS]) if name != UNPRUNED]


def paper_ratio(tokens: float, geometry: Geometry) -> float:
    """The FLOPs ratio that a paper's "`tokens` of 576" stands for on another prompt.

    Papers mean the tokens *leaving* a layer; n_vision / n_layers more enter in the mean when the first layer keeps all.
    This is the cost of so many in every layer.
    """
    n = geometry.n_vision * paper_part(tokens, geometry) + geometry.n_text
    linear, quadratic = (float(terms.mean()) for terms in layer_terms(geometry))
    spent = geometry.n_layers * n * (linear + quadratic * n) + fixed_flops(geometry)
    return (spent + chunk_flops(geometry, np.full(geometry.n_layers, n))) / unpruned_flops(geometry)


def paper_part(tokens: float, geometry: Geometry) -> float:
    """The part of a prompt's visual tokens that enters every layer at that ratio, in (0, 1]."""
    return min(tokens / OF + 1 / geometry.n_layers, 1.0)


def sighted_of(geometries: Sequence[Geometry]) -> list[Geometry]:
    """The prompts with visual tokens by size. Raises ConfigError where there is none."""
    sighted = sorted((g for g in geometries if g.n_vision), key=lambda g: (g.n_vision, g.n_text))
    if not sighted:
        raise ConfigError("task: no prompt has visual tokens, there is nothing to prune")
    return sighted


def typical_of(geometries: Sequence[Geometry]) -> Geometry:
    """The prompt that budgets are told for. Raises ConfigError as `sighted_of` does."""
    sighted = sighted_of(geometries)
    return sighted[len(sighted) // 2]


def method_arms(
    settings: Settings, methods: Sequence[str], tokens: Sequence[float], geometries: Sequence[Geometry]
) -> list[Arm]:
    """Every method that prunes at every budget, those out of reach with the reason.

    Raises ConfigError for a wrong method.
    """
    typical, sighted = typical_of(geometries), sighted_of(geometries)
    pruning = [name for name in methods if name != DOWNSAMPLE]
    return [_arm(settings, name, count, typical, sighted) for name in pruning for count in tokens]


def floor_of(bound: float, error: BudgetError) -> str:
    """What a pruner that cannot reach a FLOPs ratio has for a note: the least that it costs."""
    return f"floor {bound + error.missing:.3f}"


def _arm(settings: Settings, method: str, tokens: float, typical: Geometry, geometries: Sequence[Geometry]) -> Arm:
    bound = paper_ratio(tokens, typical)
    words = [word for word in settings.overrides if not word.startswith(("method=", "budget"))]
    experiment = Experiment.compose([*words, f"method={method}"], settings.folders)
    bounds = {"pruner.budget.flops_ratio": bound, "pruner.budget.mean_tokens": tokens / OF * typical.n_vision}
    config = experiment.settings.config  # the unit in which the method's own budget counts is the one that is there
    try:
        pruner = experiment.pruner({path: value for path, value in bounds.items() if select(config, path) is not None})
        bits = np.zeros(len(geometries))
        pruner.calibrated(bits, geometries).plan(bits, geometries)
    except BudgetError as error:
        return Arm(method, tokens, bound, None, floor_of(bound, error))
    except ConfigError as error:
        raise ConfigError(f"method={method}: {error}") from error
    return Arm(method, tokens, bound, pruner)
