"""Two processes that train one model together."""

import os
import socket

import torch
from torch import nn

from autoprune_lab.testbed.training.optim import Optimiser
from autoprune_lab.testbed.training.together import together


def _one_step(data: torch.Tensor) -> torch.Tensor:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, 0.5)
    nn.init.constant_(model.bias, 0.5)
    optimiser = Optimiser([(model, 1.0, True)], muon_lr=0.1, adam_lr=0.1, decay=0.0, steps=100)
    optimiser.step(model(data).square().mean())
    return torch.cat([model.weight.detach().flatten(), model.bias.detach()])


def _process(rank: int, port: int, folder: str) -> None:
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with together() as (mine, size):
        assert (mine, size) == (rank, 2)
        torch.save(_one_step(_data()[rank::2]), f"{folder}/{rank}.pt")


def _data() -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def test_half_the_lessons_each_make_the_same_step_as_all_of_them_alone(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_process, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, _one_step(_data()))


def test_a_process_alone_is_a_group_of_one():
    with together() as (rank, size):
        assert (rank, size) == (0, 1)
    assert not torch.distributed.is_initialized()
