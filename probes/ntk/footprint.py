"""How many bytes one example takes while its gradients are captured, measured on a few."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from probes.ntk.capture import Network, capture

@dataclass(frozen=True)
class Footprint:
    """Bytes.

    Attributes:
        weights: Of the network.
        passing: Of one example on its way through the network and back.
        stored: Of the factors kept of one example.
    """

    weights: int
    passing: int
    stored: int


def footprint(
    network: Network, x: Tensor, directions: Tensor | None, num_outputs: int
) -> Footprint:
    """Measured on one example: what autograd and the tape save, gradients, factors."""
    saved: dict[int, int] = {}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    one = x[:1]
    with saved_tensors_hooks(seen, lambda tensor: tensor):
        factors = capture(network, one, directions, seen=seen)
    weights = [*network.weights.values(), *network.others.values()]
    for weight in weights:
        saved.pop(weight.untyped_storage().data_ptr(), None)
    stored = sum(factor.nbytes for factor in factors.values())
    passing = sum(saved.values()) + one.nbytes + stored
    return Footprint(sum(w.nbytes for w in weights), max(1, passing), max(1, stored))
