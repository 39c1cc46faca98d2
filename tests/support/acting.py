"""A tiny random pi0, its prompts, and the naive second implementation of pruning it: see `Oracle`."""

from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from families import Sample
from mapping import AUDIO, IMAGE, PIXELS, drawn, tiny_config
from oracle import Oracle, eager
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from toys import tokenizer
from transformers import PreTrainedModel

from autoprune_lab.models.pi0_pictures import PI0ImageProcessor

N_PATCHES = 16  # visual tokens of a picture
STATE, CHUNK, ACTION = 4, 5, 3  # see EXCEPTIONS of `mapping`
SIZES = {"long": (3, 16), "short": (2, 8)}  # cameras, text tokens behind their pictures


class Acting:
    """The model type as the oracle and the sorting want it: a family that builds its model, samples and batches."""

    model_type, first_attentive, n_unattended = "pi0", 0, 0

    def build(self, attention: str | None = None) -> PreTrainedModel:
        """The model, tower and all; the same weights whatever the attention."""
        torch.manual_seed(0)
        config = tiny_config(self.model_type)
        return drawn(hf.AutoModelForImageTextToText.from_config(config, attn_implementation=attention).eval())

    @cached_property
    def model(self) -> PreTrainedModel:
        """Built once."""
        return self.build()

    def sample(self, size: str = "long", seed: int = 0, cameras: int | None = None) -> Sample:
        """Pictures, then text; a state of the robot, and the noise that becomes actions."""
        generator = torch.Generator().manual_seed(seed)
        n_cameras, n_text = SIZES[size]
        n_cameras = cameras or n_cameras
        text = torch.randint(3, AUDIO, (n_text,), generator=generator)
        given = {
            "pixel_values": torch.randn(n_cameras, 3, PIXELS, PIXELS, generator=generator),
            "state": torch.randn(STATE, generator=generator),
            "noise": torch.randn(CHUNK, ACTION, generator=generator),
        }
        return Sample(torch.cat([torch.full((n_cameras * N_PATCHES,), IMAGE), text]), given)

    def batch(self, samples: list[Sample], side: str = "right") -> dict[str, Tensor]:
        """Inputs of the model, padded as its processor does, with cameras that nobody sees too."""
        rows = [s.ids for s in samples], [torch.ones_like(s.ids) for s in samples]
        ids, mask = (pad_sequence(row, True, 0, side) for row in rows)
        pixels = [s.images["pixel_values"] for s in samples]
        given = {name: torch.stack([s.images[name] for s in samples]) for name in ("state", "noise")}
        seen = pad_sequence([torch.ones(len(one), dtype=torch.bool) for one in pixels], True)
        return given | {
            "input_ids": ids, "attention_mask": mask, "pixel_attention_mask": seen,
            "pixel_values": pad_sequence(pixels, True, 9.0),
        }  # fmt: skip

    def velocity(self, model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
        """One pass of the expert behind the prompt, (batch, chunk, dimensions)."""
        return model(**inputs, timestep=torch.full((len(inputs["state"]),), 0.7)).logits


class ActingOracle(Oracle):
    """After `actions`, see `Oracle`; in each pass every layer of the expert is told which tokens went."""

    def layers(self, model: PreTrainedModel) -> torch.nn.ModuleList:
        """See `Oracle`."""
        return model.model.vlm.language_model.layers

    @torch.no_grad()
    def actions(self, counts: np.ndarray) -> Tensor:
        """(chunk, dimensions); `counts` visual tokens enter each layer."""
        model = eager(self.family)
        with ExitStack() as undo:
            undo.enter_context(self.told(model, counts, len(self.sample.ids)))
            for number, layer in enumerate(model.model.dit.layers):
                hook = layer.register_forward_pre_hook(partial(self._act, number), with_kwargs=True)
                undo.callback(hook.remove)
            return model.sample_actions(**self.family.batch([self.sample]))[0]

    def _act(self, number: int, layer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        gone = torch.ones(len(self.visual), dtype=torch.bool)
        gone[self.kept[number]] = False
        mask = kwargs["attention_mask"].clone()
        mask[..., self.visual[gone]] = torch.finfo().min
        return args, kwargs | {"attention_mask": mask}


MEAN, STD = [0.5, -1.0], [0.25, 2.0]
"""Of the two numbers of an action, and of a state, in `checkpoint`'s data."""


class _Processor(hf.PI0Processor):
    """Takes pictures' processors of any class."""

    def check_argument_for_proper_class(self, name: str, part: Any) -> type:
        return type(part)


def checkpoint(folder: Path, **processor: Any) -> str:
    """The model and its processor, as transformers saves them; the folder."""
    Acting().build().save_pretrained(folder)
    side = {"height": PIXELS, "width": PIXELS}
    pictures = PI0ImageProcessor(
        size={f"max_{name}": n for name, n in side.items()}, pad_size=side, image_seq_length=N_PATCHES
    )
    numbers = {f"{what}_{name}": n for what in ("state", "actions") for name, n in (("mean", MEAN), ("std", STD))}
    given = numbers | {"max_state_dim": STATE, "chunk_size": CHUNK} | processor
    _Processor(pictures, tokenizer("llava"), **given).save_pretrained(folder)
    for file in folder.glob("*.json"):  # as the stock class writes it
        file.write_text(file.read_text().replace("_Processor", "PI0Processor"))
    return str(folder)
