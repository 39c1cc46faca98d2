"""Fixtures of the live model's tests."""

import inspect

import jaxtyping
import pytest
import torch

from autoprune_lab.decoder.static import Step


@pytest.fixture
def untyped(monkeypatch):
    """Nothing checks types as it runs: that is no part of the package, and torch.compile cannot trace it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    for name, method in inspect.getmembers(Step, inspect.isfunction):
        monkeypatch.setattr(Step, name, inspect.unwrap(method))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    jaxtyping.config.update("jaxtyping_disable", False)
