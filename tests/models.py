"""Small networks with weights at no special place, and a displacement for each."""

from collections.abc import Callable
from typing import NamedTuple

import timm
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

import core.glyphnet  # ruff: ignore[unused-import] - registers glyphnet
from core.linearization import Weights
from core.models import float_state
from probes.sums import FEATURES, layers_of

# All of timm's networks for tests, with the smallest side that each of them takes.
FAMILIES = {
    "glyphnet": 32,
    "test_byobnet": 32,
    "test_coatnet": 160,
    "test_convnext": 32,
    "test_convnext2": 32,
    "test_convnext3": 32,
    "test_efficientnet": 32,
    "test_efficientnet_evos": 32,
    "test_efficientnet_gn": 32,
    "test_efficientnet_ln": 32,
    "test_mambaout": 32,
    "test_maxvit": 160,
    "test_nfnet": 32,
    "test_resnet": 32,
    "test_vit": 160,
    "test_vit2": 160,
    "test_vit3": 160,
    "test_vit4": 160,
    "test_vit_relpos": 160,
}


class Network(NamedTuple):
    """A network in evaluation mode with what its derivatives are taken of and along."""

    model: Module
    x: Tensor
    weights: Weights
    delta: Weights

    @property
    def outputs(self) -> Callable[[Weights], Tensor]:
        """Logits as a function of the weights."""
        return lambda weights: functional_call(self.model, weights, (self.x,))


def network(name: str, *, num_images: int = 2, num_classes: int = 3) -> Network:
    """A network of timm at random weights, running statistics and displacement included."""
    model = timm.create_model(name, num_classes=num_classes).eval()
    for parameter in model.parameters():  # away from layer scales and shifts of zero
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1, 0.1)
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    weights = {name: w.clone() for name, w in float_state(model).items()}
    delta = {name: 0.01 * torch.randn_like(w) for name, w in weights.items()}
    x = torch.randn(num_images, 3, FAMILIES[name], FAMILIES[name])
    return Network(model, x, weights, delta)


def features_of(model: Module, x: Tensor) -> Callable[[Weights], Tensor]:
    """Penultimate features as a function of the weights."""
    return lambda weights: layers_of(model, x)(weights)[FEATURES]
