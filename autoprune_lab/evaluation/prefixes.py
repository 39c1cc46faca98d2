"""Prefixes of a prepared task's batches: pruning starts behind the probe layer, so trials share all before."""

import numpy as np

from autoprune_lab.decoder.prefix import Prefix, read_prefix
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.generation import greedily
from autoprune_lab.pruner import Pruner


class Prefixes:
    """Read at first use and kept, up to `most_bytes` for all of them; for one model and one prepared task."""

    def __init__(self, vlm: VLM, prepared: PreparedTask, most_bytes: int) -> None:
        self.vlm, self.prepared, self.most_bytes, self.room = vlm, prepared, most_bytes, most_bytes
        self.known: dict[tuple[tuple[int, ...], int], Prefix | None] = {}

    def of(self, batch: Batch, pruner: Pruner) -> Prefix | None:
        """The batch's prefix for the pruner; None where there is none, or no room for it."""
        if pruner.probe_layer < 0 or self._opens(batch, pruner):
            return None
        key = batch.places, pruner.probe_layer
        if key not in self.known:
            if self.room <= 0:
                return None
            with greedily(self.vlm.model):
                prefix = read_prefix(self.vlm.model, batch.arguments(), pruner.probe_layer)
            self.room -= prefix.nbytes if prefix is not None else 0
            self.known[key] = prefix
        return self.known[key]

    def _opens(self, batch: Batch, pruner: Pruner) -> bool:
        """Does the pruner cut before its probe?"""
        n_vision = np.array([self.prepared.geometries[i].n_vision for i in batch.places])
        opening = pruner.opens(n_vision)
        return opening is not None and bool((opening.tokens < n_vision).any())
