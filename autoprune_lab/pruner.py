"""Pruner: one arm of an experiment."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from autoprune_lab.evidence.complexity import mutual_information
from autoprune_lab.evidence.evidence import Estimator, Scorer
from autoprune_lab.evidence.history import History
from autoprune_lab.html_table import html_table
from autoprune_lab.pruner_file import read, write
from autoprune_lab.schedule.budget import OwnCurve
from autoprune_lab.schedule.cuts import check_max_cuts
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.opening import Opening, check_room
from autoprune_lab.schedule.plan import Plan
from autoprune_lab.schedule.policy import Policy, Signal, check_shape
from autoprune_lab.schedule.sizing import Sizing
from autoprune_lab.selection.recovery import Recovery, drop, merges, splits_of
from autoprune_lab.selection.scorers import last_token_attention
from autoprune_lab.trace.trace import Trace

Positions = Literal["original", "compact"]
MOST_SIZES = 4096
"""So many prompt sizes have their plans remembered."""


@dataclass(frozen=True)
class Pruner:
    """Shape (policy), size (budget), choice (scorer), remains (recovery) of pruning, and what it looks at.

    `probe_layer`: its text-to-visual attention gives the complexity; pruning is free from the next layer on.
    -1: tokens may go before layer 0, and of the text only its embeddings can be read. `positions`: kept tokens keep
    their rotary position (`original`), or are renumbered without gaps after each cut (`compact`, as AutoPrune and
    SparseVLM do).
    Without a budget the policy's shape is the curve itself. `max_cuts`: at most so many layers of a sample cut;
    None cuts wherever the plan falls. `opening_scorer` chooses at the cut that a budget makes before the probe
    (`Sizing.opens`), if it makes one; None: `scorer` does.
    """

    policy: Policy
    budget: Sizing | None = None
    scorer: Scorer = last_token_attention
    complexity: Estimator = mutual_information
    recovery: Recovery = drop
    probe_layer: int = 1
    positions: Positions = "original"
    max_cuts: int | None = None
    opening_scorer: Scorer | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a probe layer below -1, unknown positions, less than one cut, no room for an opening.

        Also for a complexity that was calibrated at another layer than the probe's, and for a recovery that merges
        nothing under a budget that merges.
        """
        if self.probe_layer < -1:
            raise ValueError(f"probe_layer={self.probe_layer} must be at least -1")
        if self.positions not in get_args(Positions):
            raise ValueError(f"positions={self.positions!r} must be one of {', '.join(get_args(Positions))}")
        check_max_cuts(self.max_cuts)
        if (layer := getattr(self.complexity, "layer", None)) not in (None, self.probe_layer):
            raise ValueError(
                f"complexity was calibrated at layer {layer}, probe_layer is {self.probe_layer}: "
                f"set probe_layer={layer}, or calibrate it anew"
            )
        if self.budget is not None and self.budget.merges and not merges(self.recovery):
            raise ValueError(
                f"{type(self.budget).__name__} plans tokens merged of those that it drops, and recovery "
                f"{getattr(self.recovery, '__name__', self.recovery)} makes none at some cut: take one that merges, as "
                "ClusterMerge does (recovery=cluster_merge), or another budget"
            )
        if self.opening is not None:
            check_room(self.probe_layer + 1, self.max_cuts)

    def plan(self, complexities: Float[np.ndarray, "batch"], geometries: Sequence[Geometry]) -> Plan:
        """Visual tokens entering each layer of each sample; arithmetic only. Complexities are in bits.

        A sample without visual tokens gets zeros. Raises BudgetError where the budget cannot be met.
        """
        kept, merged = np.zeros((2, len(geometries), geometries[0].n_layers), dtype=np.int64)
        sighted = np.flatnonzero([geometry.n_vision for geometry in geometries])
        if sighted.size:
            prompts = [geometries[int(i)] for i in sighted]
            plan = self._plan(complexities[sighted], prompts) if self.policy.adaptive else self._plan_by_size(prompts)
            kept[sighted], merged[sighted] = plan
        return Plan(kept, merged)

    @property
    def ready(self) -> bool:
        """Can it plan? If not, `calibrated` gives one that can."""
        return self.budget is None or self.budget.ready

    def calibrated(self, complexities: Float[np.ndarray, "samples"], geometries: Sequence[Geometry]) -> "Pruner":
        """The pruner whose budget has seen a calibration set, where it must and has not (`MeanBudget`); else the same.

        Raises BudgetError where the budget cannot be met on the set.
        """
        sighted = np.flatnonzero([geometry.n_vision for geometry in geometries])
        if self.budget is None or self.ready or not sighted.size:
            return self
        prompts = [geometries[int(i)] for i in sighted]
        shapes = self._shapes(complexities[sighted], prompts[0].n_layers + self.budget.extra_layers)
        return replace(self, budget=self.budget.calibrated(shapes, prompts, self.probe_layer + 1))

    @property
    def opening(self) -> int | float | None:
        """The budget's cut before layer 0, in tokens or as a part of a sample's own; None: it makes none."""
        return None if self.budget is None else self.budget.opening

    def opens(self, n_vision: Int[np.ndarray, "batch"]) -> Opening | None:
        """The cut that the budget makes before the probe of samples of so many visual tokens, if it makes one."""
        return self.budget.opens(n_vision) if self.budget else None

    def attach(
        self,
        model: nn.Module,
        keep_indices: bool = False,
        n_prompt: int | Sequence[int] | None = None,
        history: Sequence[History] | None = None,
    ) -> AbstractContextManager[Trace]:
        """Prune inside `forward` and `generate` of `model` while the with-block lasts; yields the `Trace`.

        A prompt is pruned when its cache is empty; what comes later (a second turn) is kept whole. Prompts
        may be padded on either side, `attention_mask` says where. A later block may continue on the pruned
        cache. `n_prompt`, for `forward(prompt + answer)`: how many tokens, padding left out, are the prompt, of every
        sample or one number a sample; the rest is kept whole and steers nothing. `generate` knows its own prompt,
        however it decodes. `history`, for decisions of episodes, one a prompt: what was decided before, () at the
        beginning; `SampleTrace.history` is what the next decision is given. `model` may be wrapped by PEFT or
        torch.compile; inside the block it runs uncompiled.
        Raises ValueError for a model or a call that cannot be pruned faithfully, and for a second thread at the same
        time. `UnprunedWarning` where a block ends in which nothing was pruned.
        """
        from autoprune_lab.decoder.attach import attached  # here: plans and files need no transformers

        return attached(self, model, keep_indices, n_prompt, history=history)

    def _repr_html_(self) -> str:
        """Its parts, in a notebook."""
        return html_table("Pruner", ["part", "value"], [(one.name, getattr(self, one.name)) for one in fields(self)])

    def save(self, path: str | Path) -> None:
        """Write the pruner as one YAML file, readable by `load`; ValueError for parts that no file can name."""
        write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, packages: Sequence[str] = ()) -> "Pruner":
        """Read a saved pruner. Nothing that the file names is run but the dataclasses of a pruner's parts.

        Their code must be in autoprune_lab, policies or the given top-level `packages`, whose modules are imported:
        name only those that you trust. Raises PackagesError where the file needs others, PartError for what is wrong.
        """
        pruner: Pruner = read(Path(path), cls, packages)
        return pruner

    def _plan(self, complexities: Float[np.ndarray, "batch"], prompts: Sequence[Geometry]) -> Plan:
        """`plan` of prompts with visual tokens."""
        sizing = self.budget or OwnCurve()
        shapes = self._shapes(complexities, prompts[0].n_layers + sizing.extra_layers)
        return sizing.plan(shapes, prompts, self.probe_layer + 1, self.max_cuts, splits_of(self.recovery))

    def _plan_by_size(self, prompts: Sequence[Geometry]) -> Plan:
        """`_plan` where nothing else of a sample is read: of each size once, however often it comes."""
        known, unknown = self._by_size, list(dict.fromkeys(size for size in prompts if size not in self._by_size))
        if len(known) + len(unknown) > MOST_SIZES:
            known.clear()
            unknown = list(dict.fromkeys(prompts))
        if unknown:
            known |= zip(unknown, zip(*self._plan(np.zeros(len(unknown)), unknown), strict=True), strict=True)
        kept, merged = zip(*map(known.__getitem__, prompts), strict=True)
        return Plan(np.stack(kept), np.stack(merged))

    @cached_property
    def _by_size(self) -> dict[Geometry, tuple[Int[np.ndarray, "layers"], Int[np.ndarray, "layers"]]]:
        """What is kept and what is merged of the prompts planned so far."""
        return {}

    def _shapes(self, complexities: Float[np.ndarray, "batch"], n_layers: int) -> Float[np.ndarray, "batch layers"]:
        """One checked shape per sample; a policy that is not adaptive is asked once."""
        asked = complexities if self.policy.adaptive else complexities[:1] * 0.0
        signals = [Signal(n_layers, float(bits)) for bits in asked]
        shapes = [self.policy.shape(signal) for signal in signals]
        for shape, signal in zip(shapes, signals, strict=True):
            check_shape(shape, signal, self.policy)
        return np.broadcast_to(shapes, (len(complexities), n_layers))
