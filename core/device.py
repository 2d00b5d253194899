"""Devices: choose one, and what precision means on it."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

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
        ...     torch.backends.cudnn.allow_tf32
        False
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
