"""Devices: choose one, and what precision means on it."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from core.errors import InputError

Setting = tuple[Callable[[], Any], Callable[[Any], object], str | bool]
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
    """Convolutions and matrix products of float32 numbers in float32, on all devices.

    By default NVIDIA GPUs round what convolutions read to TF32, with a mantissa of ten bits: good
    enough to train with, but a probe measures differences of that size. Also a decorator.

    Example:
        >>> with full_precision():
        ...     (torch.ones(1, 3) @ torch.ones(3, 1)).item()
        3.0
    """
    settings = _matmul_and_convolutions()
    before = [read() for read, _, _ in settings]
    for _, write, exact in settings:
        write(exact)
    try:
        yield
    finally:
        for (_, write, _), value in zip(settings, before, strict=True):
            write(value)


def _matmul_and_convolutions() -> list[Setting]:
    """How to read and write each setting, and its value in full precision.

    PyTorch has newer settings since 2.9, and refuses to read the older ones once those are used.
    """
    older: list[Setting] = [
        _attribute(torch.backends.cudnn, "allow_tf32", False),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    ]
    try:
        for read, _, _ in older:
            read()
    except RuntimeError:
        backends = torch.backends
        modules: list[Any] = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]  # type: ignore[attr-defined]
        modules += [backends.mkldnn.matmul, backends.mkldnn.conv]  # type: ignore[attr-defined]
        return [_attribute(module, "fp32_precision", "ieee") for module in modules]
    return older


def _attribute(module: Any, name: str, exact: str | bool) -> Setting:  # ruff: ignore[any-type]
    return lambda: getattr(module, name), lambda value: setattr(module, name, value), exact
