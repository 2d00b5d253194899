"""Features and labels as tensors, from NumPy or PyTorch, checked once at the door.

Shapes: N examples, D features, K classes.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from core.errors import InputError

Array = np.ndarray | Tensor
LARGEST = 1e70
BLOCK_BYTES = 32 << 20  # of the float64 copy that one block of rows makes


def matrix(features: Array, name: str = "features", *, least: int = 1) -> Float[Tensor, "N D"]:
    """Features as a tensor on the device they lie on, sharing their memory.

    Half precision is widened to float32; nothing is ever narrowed.

    Args:
        features: Matrix of real numbers, one row per example.
        name: What messages call it.
        least: Fewest examples.

    Raises:
        InputError: If it is no matrix of finite numbers, has too few rows, or is so large or
            small that its fourth powers leave the range of float64.

    Example:
        >>> matrix(np.ones((3, 2), np.float32)).shape
        torch.Size([3, 2])
    """
    x = torch.as_tensor(features)
    if x.ndim != 2 or not x.shape[1]:
        raise InputError(
            f"{name} have shape {tuple(x.shape)}; a matrix with one row per example was "
            "expected: flatten or pool each example first"
        )
    if len(x) < least:
        raise InputError(f"{name} have {len(x)} examples; at least {least} were expected")
    if x.is_complex():
        raise InputError(f"{name} are complex; real numbers were expected")
    x = x if x.dtype in {torch.float32, torch.float64} else x.float()
    _check_finite(x, name)
    return x


def labels_of(labels: Array, num_examples: int) -> Int64[Tensor, " N"]:
    """Class indices as a tensor on the CPU.

    Raises:
        InputError: If they are no whole numbers from 0 on, or not one per example.

    Example:
        >>> labels_of(np.array([0, 2, 1]), 3).tolist()
        [0, 2, 1]
    """
    y = torch.as_tensor(labels).cpu()
    if y.shape != (num_examples,):
        raise InputError(
            f"labels have shape {tuple(y.shape)}, the features {num_examples} examples; one "
            "label per example was expected"
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputError(f"labels are {y.dtype}; class indices (whole numbers) were expected")
    if num_examples and int(y.min()) < 0:
        raise InputError(f"the smallest label is {int(y.min())}; class indices start at 0")
    return y.long()


def row_blocks(x: Float[Tensor, "N D"]) -> Iterator[Float[Tensor, "_ D"]]:
    """The matrix in blocks of rows, each widened to float64, so that no whole copy is made."""
    rows = max(1, BLOCK_BYTES // (8 * x.shape[1]))
    for block in x.split(rows):
        yield block.double()


def _check_finite(x: Float[Tensor, "N D"], name: str) -> None:
    bad, largest = 0, 0.0
    for block in x.split(max(1, BLOCK_BYTES // (8 * x.shape[1]))):
        bad += int((~torch.isfinite(block)).any(1).sum())
        largest = max(largest, float(block.abs().max()) if len(block) else 0.0)
    if bad:
        raise InputError(
            f"{bad} of {len(x)} rows of {name} hold NaN or infinity; finite numbers were "
            "expected: leave these examples out, or find out why the network gives them"
        )
    if largest > LARGEST or 0 < largest < 1 / LARGEST:
        raise InputError(
            f"the largest magnitude of {name} is {largest:.1e}; between {1 / LARGEST:.0e} and "
            f"{LARGEST:.0e} was expected, or fourth powers leave the range of float64: rescale "
            "them"
        )
