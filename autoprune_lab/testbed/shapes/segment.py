"""One question and its answer as tokens, and the rows of it that training looks at."""

from collections.abc import Mapping

import torch
from torch import Tensor

from autoprune_lab.testbed.build import ASSISTANT, EOS
from autoprune_lab.testbed.shapes.questions import Question
from autoprune_lab.testbed.training.reader import NONE

ROWS = ("noun", "second", "last", "digit1", "digit2")


def encoded(question: Question, words: Mapping[str, int], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """`tokens` (length,), 0 = padding; `targets`, the next token where an answer is learned, else NONE; `rows`.

    `rows` are the token indices of `ROWS`, 0 where there is none.
    """
    text = question.text.split()
    answer = list(question.answer) if question.answer.isdigit() else [question.answer]
    ids = [words[word] for word in (*text, ASSISTANT, *answer, EOS)]
    tokens = torch.zeros(length, dtype=torch.long)
    tokens[: len(ids)] = torch.tensor(ids)
    targets = torch.full((length,), NONE)
    last = len(text)
    targets[last : len(ids) - 1] = tokens[last + 1 : len(ids)]
    nouns = [noun.word for noun in question.nouns] + [0, 0]
    digits = (last + 1, last + 2) if question.kind == "read" else (0, 0)
    return tokens, targets, torch.tensor([*nouns[:2], last, *digits])
