"""Devices: choose one, and what precision means on it."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from core.errors import InputError

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str) -> torch.device:
    """`auto` to the best device of this machine, any other name to that device.

    Raises:
        InputError: If PyTorch knows no such device or this machine has none.

    Example:
        >>> select_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        if name.startswith("meta"):
            raise RuntimeError("it holds no numbers")
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device '{name}' cannot be used ({str(error).splitlines()[0]}); expected auto, cpu "
            "or a GPU that this machine has, such as cuda:0"
        ) from error


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Mixed precision on the device; does nothing for `none`."""
    return nullcontext() if amp == "none" else torch.autocast(device.type, AMP_DTYPES[amp])


@contextmanager
def full_precision() -> Generator[None, None, None]:
    """Convolutions and matrix products of float32 numbers in float32, also on NVIDIA GPUs.

    By default these round what convolutions read to TF32, with a mantissa of ten bits: good enough
    to train with, but a probe measures differences of that size. Also a decorator.

    Example:
        >>> with full_precision():
        ...     (torch.ones(1, 3) @ torch.ones(3, 1)).item()
        3.0
    """
    before = [(module, name, getattr(module, name)) for module, name, _ in float32_settings()]
    for module, name, exact in float32_settings():
        setattr(module, name, exact)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def float32_settings() -> list[tuple[Any, str, str | bool]]:
    """Module, attribute and its value in full precision.

    PyTorch renamed them in 2.9, and refuses to read the old ones once the new ones are set.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(products, "fp32_precision"):
        return [(module, "fp32_precision", "ieee") for module in (cudnn.conv, cudnn.rnn, products)]  # type: ignore[attr-defined]
    return [(module, "allow_tf32", False) for module in (cudnn, products)]
