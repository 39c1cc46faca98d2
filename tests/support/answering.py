"""A narrow model that answers a part of the `shapes` questions: its layers are random, its head fitted to answers."""

import torch

from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.tasks.shapes import ShapesTask
from autoprune_lab.testbed.build import ASSISTANT, EOS, build_processor, build_untrained, prompt
from autoprune_lab.testbed.shapes.layout import layout

PER_KIND = 2  # of each split: what the head is fitted to
GAIN, RIDGE = 8.0, 0.01


def answering(n_layers: int, hidden: int = 16) -> VLM:
    """Scores above 0 and below 1 on `PER_KIND` samples a kind of either split, less where fewer visual tokens stay.

    Random weights GAIN times as large let the last token see much of the picture. One ridge regression from the last
    layer's output to the next token of the answers takes half a second, and gives the same on every run.
    """
    model, processor = build_untrained(layout(n_layers, hidden), 0).eval(), build_processor(layout())
    samples = [sample for split in ("tune", "report") for sample in ShapesTask(split, PER_KIND).samples()]
    texts = [f"{prompt(sample.question)} {sample.answers[0]} {EOS}" for sample in samples]
    inputs = processor(images=[sample.images[0] for sample in samples], text=texts, padding=True, return_tensors="pt")
    asked = inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids(ASSISTANT)
    told = (asked.cumsum(1) > 0)[:, :-1]  # from "ASSISTANT:" on, each token is followed by one of the answer
    with torch.no_grad():
        for weight in model.get_decoder().parameters():
            weight *= GAIN if weight.ndim == 2 else 1
        read = model.model(**inputs).last_hidden_state[:, :-1][told].double()
        spoken = torch.nn.functional.one_hot(inputs["input_ids"][:, 1:][told], model.lm_head.out_features).double()
        moments = read.T @ read + RIDGE * torch.eye(hidden)
        model.lm_head.weight.copy_(torch.linalg.solve(moments, read.T @ spoken).T)
    return VLM(model, processor, "answering")
