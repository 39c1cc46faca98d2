"""What one decision of pi0 takes at its published sizes, part by part: shapes are run, nothing is computed.

    python -m benchmarks.acting                 # seconds; no weights
    python -m benchmarks.acting --cameras 2

torch's counter looks on while the stock model acts on torch's meta device. What a pruner leaves of the prompt's decoder
is its plan's; the expert loses the keys that its layers no longer attend to, 4 FLOPs a query's and a key's number.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PI0Config, PI0ForConditionalGeneration

from autoprune_lab.decoder.anatomy import geometry_of
from autoprune_lab.decoder.meter import flop_counter
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import prefill_flops
from policies.fixed import FixedPolicy
from search.results.text_table import markdown_table

N_TEXT = 16  # an instruction of a dozen words, with what the processor puts around it
RATIOS = (0.5, 0.35)
PARTS = {
    "vision tower": "SiglipVisionModel",
    "prompt's decoder": "PaliGemmaModel.language_model",
    "expert": "PI0ForConditionalGeneration.model.dit",
}
"""As torch's counter names them, each by the module that was called first."""


def stock(config: PI0Config, cameras: int, tokens: int) -> tuple[PI0ForConditionalGeneration, dict[str, int]]:
    """The model without weights, and FLOPs of each part in one decision; `tokens` a camera."""
    side = config.vlm_config.vision_config.image_size
    with torch.device("meta"):
        model = PI0ForConditionalGeneration(config).eval().to("meta")  # transformers may make tables elsewhere
        ids = torch.full((1, cameras * tokens + N_TEXT), 3)
        pixels, seen = torch.empty(1, cameras, 3, side, side), torch.ones(1, cameras, dtype=torch.bool)
        given = {
            "state": torch.empty(1, config.max_state_dim), "input_ids": ids, "attention_mask": torch.ones_like(ids),
            "pixel_values": pixels, "pixel_attention_mask": seen,
            "noise": torch.empty(1, config.chunk_size, config.max_action_dim),
        }  # fmt: skip
        with flop_counter() as counter:
            model.sample_actions(**given)
    return model, by_part(counter)


def by_part(counter: FlopCounterMode) -> dict[str, int]:
    """FLOPs of each part that the counter saw."""
    counts = counter.get_flop_counts()
    return {part: sum(counts[name].values()) for part, name in PARTS.items()}


def pruned(model: PI0ForConditionalGeneration, whole: dict[str, int], n_vision: int, ratio: float) -> dict[str, int]:
    """The same with one cut at layer 2, at this ratio of the prompt's decoder."""
    geometry, config = geometry_of(model).with_tokens(n_vision, N_TEXT), model.config
    plan = Pruner(FixedPolicy(2), Budget(flops_ratio=ratio)).plan(np.zeros(1), [geometry])
    expert = config.dit_config
    rows = config.num_inference_steps * (config.chunk_size + 1) * expert.num_attention_heads * expert.head_dim
    gone = int((n_vision - plan.tokens[0]).sum())
    left = {"prompt's decoder": prefill_flops(geometry, plan.tokens[0]), "expert": whole["expert"] - 4 * rows * gone}
    return whole | left


def table(arms: dict[str, dict[str, int]]) -> str:
    """TFLOPs a decision."""
    rows = [
        [name, *(f"{parts[part] / 1e12:.3f}" for part in PARTS), f"{sum(parts.values()) / 1e12:.3f}"]
        for name, parts in arms.items()
    ]
    return markdown_table(["TFLOPs a decision", *PARTS, "all"], rows)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=3)
    cameras, config = parser.parse_args(words).cameras, PI0Config()
    tokens = (config.vlm_config.vision_config.image_size // config.vlm_config.vision_config.patch_size) ** 2
    model, whole = stock(config, cameras, tokens)
    arms = {"unpruned": whole}
    arms |= {f"one cut, {ratio}": pruned(model, whole, cameras * tokens, ratio) for ratio in RATIOS}
    print(table(arms))


if __name__ == "__main__":
    main()
