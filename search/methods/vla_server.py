"""A pruned model for vla-eval: `python -m search.methods.vla_server --args.path CHECKPOINT --args.pruner FILE`.

vla-eval's benchmarks connect to it as to any of its model servers; no other module imports this one.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from vla_eval.model_servers.base import SessionContext
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW, DimSpec

from autoprune_lab.evaluation.acting import acted
from autoprune_lab.evaluation.evaluate import generated
from autoprune_lab.evaluation.prompts import PreparedTask, at_once
from autoprune_lab.evidence.history import History
from autoprune_lab.metrics.actions import read_actions
from autoprune_lab.models.actor import answers_in_actions
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.shown import shown
from autoprune_lab.trace.sample import SampleTrace
from search.methods.asked import Asked, pruner_of

logger = logging.getLogger(__name__)

Decided = tuple[Sequence[np.ndarray], Sequence[SampleTrace]]
"""An action, or a chunk of them, for each session, and what happened to its tokens."""


@dataclass
class Session:
    """One episode under way: what its decisions looked at, what they cost, and how many could not be read."""

    history: History = ()
    flops_ratios: list[float] = field(default_factory=list)
    unreadable: int = 0


class PrunedModelServer(PredictModelServer):  # type: ignore[misc]
    """Answers observations greedily, pruned by a tuned pruner's file; without `pruner` unpruned.

    A model that says its actions in numbers: `action_dim` of them are one action, several such a chunk, whatever words
    stand between. An answer without a whole action is one of zeros, counted and told when the episode ends. Or a model
    whose expert makes chunks of actions (pi0) in the units of its processor's statistics, from noise that is drawn by
    the decision's number in its episode; it reads the observation's `states`, or `state`, and neither `action_dim` nor
    `max_new_tokens` concern it. Pictures are shown in the observation's order, before its task's description.
    `packages`: those that the pruner's file may name code of, joined by `+`. The rest is as in `load_model` and in
    vla-eval's `PredictModelServer`.
    """

    def __init__(
        self,
        path: str,
        pruner: str | None = None,
        packages: str = "",
        action_dim: int = 7,
        max_new_tokens: int = 64,
        dtype: str = "auto",
        device: str = "auto",
        attention: str = "sdpa",
        device_map: str | None = None,
        revision: str | None = None,
        chunk_size: int | None = None,
        max_batch_size: int = 1,
        max_wait_time: float = 0.01,
    ) -> None:
        super().__init__(chunk_size=chunk_size, max_batch_size=max_batch_size, max_wait_time=max_wait_time)
        if min(action_dim, max_new_tokens) < 1:
            raise ValueError(f"action_dim={action_dim}, max_new_tokens={max_new_tokens}: both must be at least 1")
        self.action_dim, self.max_new_tokens = action_dim, max_new_tokens
        self.pruner = pruner_of(pruner, packages, "--args.packages={}") if pruner else None
        self.vlm = load_model(path, dtype, device, attention, device_map, revision)
        self.acts = answers_in_actions(self.vlm.processor)
        self.sessions: dict[str, Session] = {}

    def get_action_spec(self) -> dict[str, DimSpec]:
        """Numbers, as the model says or makes them."""
        return {"actions": RAW}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """Pictures and words, and the robot's state for a model with an expert."""
        return {"image": IMAGE_RGB, "language": LANGUAGE} | ({"state": RAW} if self.acts else {})

    async def on_episode_start(self, config: dict[str, Any], ctx: SessionContext) -> None:
        """An episode begins without a history."""
        await super().on_episode_start(config, ctx)
        self.sessions[ctx.session_id] = Session()

    async def on_episode_end(self, result: dict[str, Any], ctx: SessionContext) -> None:
        """Say what it cost."""
        await super().on_episode_end(result, ctx)
        session = self.sessions.pop(ctx.session_id, Session())
        if session.flops_ratios:
            ratio, n = np.mean(session.flops_ratios), len(session.flops_ratios)
            words = "autoprune: %d decisions, FLOPs ratio %.4f, %d answers without an action"
            logger.info(words, n, ratio, session.unreadable)

    def predict_batch(self, obs_batch: list[dict[str, Any]], ctx_batch: list[SessionContext]) -> list[dict[str, Any]]:
        """An action, or a chunk of them, for each observation, of as many sessions."""
        samples = [_sample(obs, ctx) for obs, ctx in zip(obs_batch, ctx_batch, strict=True)]
        sessions = [self.sessions.setdefault(ctx.session_id, Session()) for ctx in ctx_batch]
        now = at_once(self.vlm, Asked(tuple(samples), self.max_new_tokens, "vla-eval"), samples)
        actions, traces = (self._acted if self.acts else self._said)(now, sessions)
        for session, trace in zip(sessions, traces, strict=True):
            session.history = trace.history
            session.flops_ratios.append(trace.flops_ratio)
        return [{"actions": action.astype(np.float32)} for action in actions]

    def _acted(self, now: PreparedTask, sessions: Sequence[Session]) -> Decided:
        numbers = [str(len(session.flops_ratios)) for session in sessions]
        chunks, traces = acted(self.vlm, now, now.batches[0], self.pruner, numbers)
        return list(chunks), traces

    def _said(self, now: PreparedTask, sessions: Sequence[Session]) -> Decided:
        histories = [session.history for session in sessions]
        new, traces = generated(self.vlm, now, now.batches[0], self.pruner, None, [], self.max_new_tokens, histories)
        answers = self.vlm.processor.batch_decode(new, skip_special_tokens=True)  # type: ignore[no-untyped-call]
        return [self._action(answer, one) for answer, one in zip(answers, sessions, strict=True)], traces

    def _action(self, answer: str, session: Session) -> np.ndarray:
        actions = read_actions(answer, self.action_dim)
        if actions is None:
            session.unreadable += 1
            logger.warning("no action of %d numbers in the answer %.80r", self.action_dim, answer)
            return np.zeros(self.action_dim)
        return actions[0] if len(actions) == 1 else actions


def _sample(observation: dict[str, Any], ctx: SessionContext) -> Sample:
    """What an observation shows. Raises ValueError for one without words, with what is no picture, or no state."""
    pictures, words = observation.get("images", {}), observation.get("task_description")
    if not isinstance(words, str):
        raise ValueError(f"session {ctx.session_id}: the observation has no task_description to ask the model with")
    found: Sequence[Any] = list(pictures.values()) if isinstance(pictures, dict) else [pictures]
    for picture in found:
        if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3):
            raise ValueError(f"session {ctx.session_id}: a picture must be a (height, width, 3) array of uint8")
    state = np.asarray(observation.get("states", observation.get("state", ())))
    if state.ndim != 1 or not (state.size == 0 or np.issubdtype(state.dtype, np.number)):
        raise ValueError(f"session {ctx.session_id}: a state must be a list of numbers")
    images = [shown(Image.fromarray(picture)) for picture in found]
    return Sample(ctx.session_id, images, words, (), "", state=tuple(map(float, state)))


if __name__ == "__main__":
    from vla_eval.model_servers.serve import run_server

    run_server(PrunedModelServer)
