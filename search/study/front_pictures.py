"""Which patches a trial keeps that enters the front: an artifact of optuna's, for optuna-dashboard."""

import math
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from autoprune_lab.errors import one_line
from autoprune_lab.evaluation.kept_patches import ShownSamples, depths, of_each_kind, show
from autoprune_lab.pruner import Pruner
from autoprune_lab.trace.contact_sheet import contact_sheet
from search.study.front import from_study
from search.study.model_evaluator import ModelEvaluator
from search.study.outages import StorageError

ARTIFACTS = "artifacts"  # in the study's folder
NAME = "kept-patches.jpg"
SHARE, BESIDE = 0.02, 3.0  # of a study's time, and seconds beside it, that pictures may take
QUALITY = 90  # a PNG takes ten times as long


@dataclass
class FrontPictures:
    """Called by `search.study.objective.Objective`; reads the prompts of four samples once more for each picture.

    A study's results do not depend on its pictures: where one cannot be made, that is said once, and no other is tried.
    Trials that end sooner than pictures are made go without one now and then: `SHARE`.
    """

    folder: Path
    evaluator: ModelEvaluator
    _failed: bool = field(default=False, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _spent: float = field(default=0.0, init=False)  # seconds

    def __call__(self, trial: optuna.Trial, pruner: Pruner, cost: float, score: float) -> None:
        """Keep the trial's picture, if it enters the front as that stands."""
        now = time.monotonic()
        rests = self._spent > BESIDE + SHARE * (now - self._began)
        if self._failed or rests or not _enters(trial.study, cost, score):
            return
        try:
            self._keep(trial, pruner)
        except (StorageError, optuna.exceptions.UpdateFinishedTrialError):  # of which the study itself tells
            raise
        except Exception as error:  # of any family's processor, of a disk
            self._failed = True
            print(f"\nautoprune: no pictures of what trials keep: {one_line(error)}", file=sys.stderr)
        self._spent += time.monotonic() - now

    @cached_property
    def _shown(self) -> ShownSamples:
        return show(self.evaluator.vlm, of_each_kind(self.evaluator.prepared.samples))

    def _keep(self, trial: optuna.Trial, pruner: Pruner) -> None:
        shown = self._shown
        patches = depths(self.evaluator.vlm, shown, pruner).reshape(-1, *shown.grid)
        titles = [f"{sample.kind}: {sample.question}" for sample in shown.samples]
        sheet = contact_sheet(shown.pictures, patches, self.evaluator.geometries[0].n_layers, titles)
        (self.folder / ARTIFACTS).mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(self.folder / ARTIFACTS)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / NAME
            sheet.save(file, quality=QUALITY)
            upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=trial)


def _enters(study: optuna.Study, cost: float, score: float) -> bool:
    """Is it better than every trial of the front in one of the two?"""
    front = from_study(study)
    return math.isfinite(score) and all(
        cost < other or score > best for other, best in zip(front.costs, front.scores, strict=True)
    )
