"""A small kernel in small tiles, for tests of kernels on disk."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Module

from probes.ntk import stored
from tests.probes.ntk.stored_kernels import NUM, network


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "LEAST_HEIGHT", 2)
    monkeypatch.setattr(stored, "SMALL", 0)


@pytest.fixture
def problem() -> tuple[Module, dict, Tensor]:
    model = network()
    return model, dict(model.named_parameters()), torch.randn(NUM, 2, 6, 6)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "K.npy"
