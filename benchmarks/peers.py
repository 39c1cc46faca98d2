"""The same methods by this package and by AngelSlim, side by side: time, and which tokens stay.

    python -m benchmarks.peers --angelslim ~/AngelSlim               # a checkout; nothing is measured without
    python -m benchmarks.peers --angelslim ~/AngelSlim --dims small  # where the model is small, what is not it shows

LLaVA with random weights, its vision tower included, answers pictures of noise between 95 text tokens, one prompt at a
time, for AngelSlim takes no more. Timed are a whole prefill and one decoded token: seconds of the process on a CPU,
until the device is done on a GPU; all arms take turns in one process, figures are medians over the rounds. Ratios are
AngelSlim's time / this package's: above 1 this package is faster. Both keep equally many tokens, which is checked;
`same` says how many of them are the same ones, in percent. See `benchmarks/angelslim.py` for what runs.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import Cache, PreTrainedModel

from autoprune_lab.evaluation.timing import Seconds, interleaved, stopwatch
from autoprune_lab.pruner import Pruner
from benchmarks import options
from benchmarks.angelslim import AngelSlim, kept, strategies
from benchmarks.random_llava import IMAGE, Prompt, pixel_inputs
from benchmarks.timing import Context
from search.config.experiment import Experiment

Rows = list[dict[str, Any]]
Kept = Int[np.ndarray, "kept"]


@dataclass(frozen=True, eq=False)
class Answer:
    """A prompt that is answered with `steps` tokens after the first."""

    model: PreTrainedModel
    prompt: Prompt
    steps: int

    @torch.inference_mode()
    def prefill_seconds(self, context: Context) -> Seconds:
        """What the prefill takes inside `context()`; entering and leaving that is not counted."""
        inputs = pixel_inputs(self.model, [self.prompt])
        with context(), stopwatch(self.model.device) as spent:
            self._prefill(inputs)
        return spent

    @torch.inference_mode()
    def step_seconds(self, context: Context) -> Seconds:
        """What one token behind the prompt takes, as `generate` asks for it."""
        inputs = pixel_inputs(self.model, [self.prompt])
        mask, new = inputs["attention_mask"], inputs["input_ids"][:, -1:]
        with context():
            cache = self._prefill(inputs)
            with stopwatch(self.model.device) as spent:
                for _ in range(self.steps):
                    mask = torch.cat([mask, torch.ones_like(new)], dim=1)
                    place = torch.full_like(new, mask.shape[1] - 1)
                    self.model(
                        input_ids=new, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True
                    )
        return spent / self.steps

    @torch.inference_mode()
    def kept_by(self, pruner: Pruner) -> Kept:
        """Which visual tokens stay."""
        with pruner.attach(self.model, keep_indices=True) as trace:
            self._prefill(pixel_inputs(self.model, [self.prompt]))
        return np.asarray(trace.samples[0].kept[-1])

    @torch.inference_mode()
    def kept_in(self, context: Context) -> Kept:
        """The same, of AngelSlim."""
        inputs = pixel_inputs(self.model, [self.prompt])
        with context():
            return kept(self._prefill(inputs), inputs["input_ids"][0].cpu().numpy(), IMAGE)

    def _prefill(self, inputs: dict[str, Any]) -> Cache:
        cache: Cache = self.model(**inputs, use_cache=True, logits_to_keep=1).past_key_values
        return cache


@dataclass(frozen=True)
class Pair:
    """One method at one count, in this package and in AngelSlim."""

    method: str
    tokens: int
    pruner: Pruner
    peer: Context


def pairs(model: PreTrainedModel, peer: AngelSlim, methods: Sequence[str], keeps: Sequence[float]) -> list[Pair]:
    """Every method at every part that is kept of a picture's tokens."""
    vision = model.config.vision_config
    n_vision, known = (vision.image_size // vision.patch_size) ** 2, strategies(vision.num_hidden_layers)
    made = []
    for name, keep in product(methods, keeps):
        tokens = round(keep * n_vision)
        part = (tokens + 0.5) / n_vision  # both round
        pruner = Experiment.compose([f"method={name}", "budget=none", f"pruner.policy.keep={part}"]).pruner()
        made.append(Pair(name, tokens, pruner, partial(peer.pruning, model, known[name], tokens / n_vision)))
    return made


def compare(answer: Answer, pairs: Sequence[Pair], rounds: int) -> Rows:
    """One row a pair. Raises ValueError where the two keep unequally many tokens."""
    rows: Rows = [{"method": pair.method, "tokens": pair.tokens} for pair in pairs]
    for row, pair in zip(rows, pairs, strict=True):
        ours, theirs = answer.kept_by(pair.pruner), answer.kept_in(pair.peer)
        if not len(ours) == len(theirs) == pair.tokens:
            raise ValueError(f"{pair.method} keeps {len(ours)} tokens, AngelSlim {len(theirs)}: not {pair.tokens} both")
        row["same"] = 100 * len(np.intersect1d(ours, theirs)) / pair.tokens
    contexts: list[Context] = [nullcontext]
    for pair in pairs:
        contexts += [partial(pair.pruner.attach, answer.model), pair.peer]
    for phase, seconds in (("prefill", answer.prefill_seconds), ("step", answer.step_seconds)):
        for row, figures in zip(rows, _figures(seconds, contexts, rounds), strict=True):
            row |= {f"{phase}_{name}": value for name, value in figures.items()}
    return rows


def _figures(
    seconds: Callable[[Context], Seconds], contexts: Sequence[Context], rounds: int
) -> Iterator[dict[str, float]]:
    """For each pair behind the first, unpruned context: both in milliseconds, of the unpruned time, and their ratio."""
    spent = interleaved([partial(seconds, context) for context in contexts], rounds)
    counted, wall = spent[..., 0], spent[..., 1]
    for ours in range(1, len(contexts), 2):
        peer = ours + 1
        low, ratio, high = np.quantile(counted[:, peer] / counted[:, ours], (0.25, 0.5, 0.75)).tolist()
        yield {
            "ms": 1e3 * _median(counted[:, ours]),
            "peer_ms": 1e3 * _median(counted[:, peer]),
            "of_unpruned": _median(counted[:, ours] / counted[:, 0]),
            "peer_of_unpruned": _median(counted[:, peer] / counted[:, 0]),
            "ratio": ratio,
            "ratio_q1": low,
            "ratio_q3": high,
            "wall_ratio": _median(wall[:, peer] / wall[:, ours]),
        }


def _median(values: Float[np.ndarray, "rounds"]) -> float:
    return float(np.median(values))


def main() -> None:
    """Print the rows and write them, with the settings, as JSON."""
    given = _arguments()
    if given.angelslim is None:
        print("nothing to compare with: name a checkout of github.com/Tencent/AngelSlim by --angelslim")
        return
    try:
        peer = AngelSlim(given.angelslim)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    model = options.model_of(given, tower=True)
    vision = model.config.vision_config
    answer = Answer(model, Prompt((vision.image_size // vision.patch_size) ** 2), given.steps)
    given.angelslim = given.angelslim.name  # no path of this machine in the file
    rows = compare(answer, pairs(model, peer, given.methods, given.keep), given.rounds)
    options.write_tables(given, "peers", [("AngelSlim and this package", rows)])


def _arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--angelslim", type=Path, help="a checkout of its repository")
    parser.add_argument("--methods", nargs="+", choices=sorted(strategies(1)), default=sorted(strategies(1)))
    parser.add_argument("--keep", type=float, nargs="+", default=[1 / 9, 1 / 3], help="parts of the visual tokens")
    parser.add_argument("--steps", type=int, default=16, help="decoded tokens that are timed")
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


if __name__ == "__main__":
    main()
