"""How long things take, for the benchmarks."""

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
CPU = torch.device("cpu")


def timed(action: Callable[[], T], device: torch.device = CPU) -> tuple[T, float]:
    """What an action returns and its seconds, until a GPU has finished as well."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    result = action()
    wait()
    return result, time.perf_counter() - began


def seconds(action: Callable[[], object], device: torch.device = CPU) -> float:
    """How long an action takes."""
    return timed(action, device)[1]


def alternating(
    ours: Callable[[], object],
    other: Callable[[], object],
    repeats: int,
    device: torch.device = CPU,
) -> list[tuple[float, float]]:
    """Seconds of both, one after the other again and again, after a warm-up of each."""
    ours()
    other()
    return [(seconds(ours, device), seconds(other, device)) for _ in range(repeats)]


def ratio(ours: Callable[[], object], other: Callable[[], object], repeats: int) -> str:
    """Median and range of ours / other over alternating repetitions."""
    return described([a / b for a, b in alternating(ours, other, repeats)])


def described(values: list[float]) -> str:
    """Median and range.

    Example:
        >>> described([1.0, 4.0, 2.0])
        '2.00 (1.00 to 4.00)'
    """
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
