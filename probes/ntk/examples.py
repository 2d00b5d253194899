"""Examples that need not lie in memory, and what a kernel's values depend on.

Shapes: N examples.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Module

from core.errors import InputError


@runtime_checkable
class Examples(Protocol):
    """A tensor, or anything that has a length and gives a slice of itself as a tensor.

    The same slice has to give the same examples every time.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


def examples_digest(x: Examples, step: int) -> str:
    """SHA-256 over all examples, read `step` at a time.

    Raises:
        InputError: If a slice gives no tensor of as many examples.
    """
    return _digest(_part(x, slice(i, min(i + step, len(x)))) for i in range(0, len(x), step))


def _part(x: Examples, part: slice) -> Tensor:
    found, num = x[part], part.stop - part.start
    if not isinstance(found, Tensor) or found.ndim < 1 or len(found) != num:
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"examples {part.start} to {part.stop} of {type(x).__name__} are {what}; a tensor "
            f"of {num} examples was expected"
        )
    return found


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and values."""
    names = sorted(weights)
    return text_digest(names, _digest(weights[name] for name in names))


def model_digest(model: Module) -> str:
    """SHA-256 over what the model prints, without the addresses of functions."""
    return text_digest(type(model).__qualname__, re.sub(r" at 0x[0-9a-f]+", "", repr(model)))


def text_digest(*parts: object) -> str:
    """SHA-256 over things that print what they are; tensors by their values."""
    texts = [_digest([part]) if isinstance(part, Tensor) else repr(part) for part in parts]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape[1:])}".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(values.data)
    return digest.hexdigest()
