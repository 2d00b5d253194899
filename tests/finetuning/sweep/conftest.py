"""Runs are made in single precision, as the command makes them."""

import pytest
import torch


@pytest.fixture(autouse=True)
def single_precision() -> None:
    """The shared fixture puts back what it found."""
    torch.set_default_dtype(torch.float32)
