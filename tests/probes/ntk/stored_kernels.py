"""A small network, and kernels of it on disk."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Module

NUM = 11


class Images:
    """Examples that are made when they are asked for."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.most = x, 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> Tensor:
        found = self.x[part].clone()
        self.most = max(self.most, len(found))
        return found


def network() -> Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.GELU(), nn.Conv2d(3, 4, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * 16, 3)).eval()


def flat(kernel: object) -> np.ndarray:
    """Fields or entries of a kernel behind each other."""
    if isinstance(kernel, dict):
        return np.stack([part.numpy() for part in kernel.values()])
    assert isinstance(kernel, np.ndarray | Tensor)
    names = getattr(kernel.dtype, "names", None)
    return np.stack([kernel[n] for n in names]) if names else np.asarray(kernel)


def assert_near(found: object, truth: object) -> None:
    a, b = flat(found), flat(truth)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())
