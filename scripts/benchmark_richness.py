"""Speed and memory of all measures of richness beside the linear algebra they cannot avoid.

    python -m scripts.benchmark_richness

The yardstick is one eigendecomposition of a D x D matrix and one Gram product of the features,
both in float64; the promise is 1.5 of it for all spectral and class measures. Repetitions
alternate, so that a drifting machine hits both sides. Memory is the peak of a process of its own
above what it held before the features existed, in copies of the features, themselves included.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from core.command_line import run
from probes.richness import Classifier, all_measures
from probes.richness.evaluate import FAMILIES, Family
from scripts.timing import ratio

PROMISED: tuple[Family, ...] = ("spectral", "class")
PEAK = "from scripts.benchmark_richness import peak_here; import sys; peak_here(*sys.argv[1:])"


@dataclass(frozen=True, kw_only=True)
class RichnessBenchConfig:
    """Options of the benchmark."""

    num_examples: int = 10_000
    """Examples N."""
    num_features: int = 2048
    """Features D."""
    num_classes: int = 7
    """Classes."""
    repeats: int = 5
    """Alternating repetitions; the median of the pairwise ratios is printed."""


def sample(num: int, dim: int, num_classes: int) -> tuple[Tensor, Tensor, Classifier]:
    """Rectified float32 features with a decaying spectrum, labels and a classifier."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(num, dim, generator=generator, dtype=torch.float32)
    features.mul_(torch.arange(1, dim + 1, dtype=torch.float32).rsqrt_()).relu_()
    weight = torch.randn(num_classes, dim, generator=generator, dtype=torch.float32)
    return features, torch.arange(num) % num_classes, Classifier(weight)


def yardstick(features: Tensor) -> None:
    """One Gram product and one eigendecomposition in float64."""
    wide = features.double()
    torch.linalg.eigh(wide.T @ wide)


def peak_here(num: str, dim: str, num_classes: str, *families: Family) -> None:
    """Print the peak in copies of the features, the features themselves included."""
    warm = sample(200, 20, 3)
    all_measures(*warm, families=families)  # libraries load what they need
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = sample(int(num), int(dim), int(num_classes))
    all_measures(*data, families=families)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(used * 1024 / data[0].nbytes)


def peak_copies(config: RichnessBenchConfig, families: Collection[Family]) -> float:
    """The same in a process of its own that hands freed blocks back to the system at once."""
    sizes = (config.num_examples, config.num_features, config.num_classes)
    command = [sys.executable, "-c", PEAK, *map(str, sizes), *families]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return float(done.stdout.split()[-1])


def bench(config: RichnessBenchConfig) -> None:
    """Measure everything and print it."""
    # Memory first: a process starts with the peak of the one that started it.
    for families in (PROMISED, FAMILIES):
        copies = peak_copies(config, families)
        print(f"{' + '.join(families)}: peak of {copies:.2f} copies of the features", flush=True)
    data = sample(config.num_examples, config.num_features, config.num_classes)
    for families in (PROMISED, FAMILIES):
        found = ratio(
            lambda chosen=families: all_measures(*data, families=chosen),
            lambda: yardstick(data[0]),
            config.repeats,
        )
        print(
            f"{' + '.join(families)}: {found} of an eigendecomposition and a Gram product",
            flush=True,
        )


if __name__ == "__main__":
    run(bench, RichnessBenchConfig)
