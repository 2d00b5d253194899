"""A pair of networks that the tests of this folder share."""

import pytest
import torch
from torch import Tensor
from torch.nn import Module

from core.linearization import Weights
from core.models import create_model, float_state


@pytest.fixture
def pair() -> tuple[Module, Weights, Weights, Tensor, Tensor]:
    """A network, its weights before and after, images and labels."""
    model = create_model("glyphnet", 10).eval()
    weights0 = {n: w.clone() for n, w in float_state(model).items()}
    weights1 = {
        n: w + 0.05 * w.std(correction=0) * torch.randn_like(w) for n, w in weights0.items()
    }
    weights1 |= {n: w.abs() for n, w in weights1.items() if "running_var" in n}
    return model, weights0, weights1, torch.randn(6, 3, 32, 32), torch.arange(6)
