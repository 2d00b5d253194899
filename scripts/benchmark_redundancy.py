"""Seconds of a curve of diffused redundancy: probes on random subsets of units.

    python -m scripts.benchmark_redundancy

The features are rectified and correlated, with classes of middling difficulty, so that no fit ends
early. Every subset chooses its own regularisation among five strengths. Beside the seconds stands
the ratio to a single fit of scikit-learn's logistic regression on all units, at the middle
strength and its own tolerance; repetitions alternate, so that a drifting machine hits both.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from core.command_line import run
from probes.redundancy import Redundancy, diffused_redundancy
from probes.redundancy.readout import STRENGTHS, Task, scaled
from scripts.timing import timed


@dataclass(frozen=True, kw_only=True)
class RedundancyBenchConfig:
    """Options of the benchmark."""

    num_examples: int = 5000
    """Training and test examples together; a fifth of them tests."""
    num_units: int = 512
    """Width of the representation."""
    num_classes: int = 10
    """Classes."""
    subsets: int = 5
    """Random subsets of each of the nine fractions."""
    repeats: int = 3
    """Repetitions; the median is printed."""


def classes_in_units(config: RedundancyBenchConfig) -> Task:
    """Class means in rectified noise whose spectrum falls as a power of the index."""
    generator = np.random.default_rng(0)
    width = config.num_units
    labels = generator.permutation(np.arange(config.num_examples) % config.num_classes)
    axes = np.linalg.qr(generator.normal(size=(width, width)))[0]
    noise = 3 * np.arange(1, width + 1)[:, None] ** -0.5 * axes
    means = 0.06 * generator.normal(size=(config.num_classes, width))
    features = means[labels] + generator.normal(size=(config.num_examples, width)) @ noise
    features, tests = features.clip(min=0), config.num_examples // 5
    return Task.of(features[tests:], labels[tests:], features[:tests], labels[:tests])


def bench(config: RedundancyBenchConfig) -> None:
    """Time the curve alone and with its controls, and print it."""
    task = classes_in_units(config)
    curve(task, config.subsets, controls=False)
    for controls in (False, True):
        name = "with controls" if controls else "random subsets"
        report(name, task, lambda c=controls: curve(task, config.subsets, controls=c), config)


def curve(task: Task, subsets: int, *, controls: bool) -> Redundancy:
    """The nine fractions with the default probe."""
    examples = task.train_x, task.train_y, task.test_x, task.test_y
    return diffused_redundancy(*examples, subsets=subsets, controls=controls)


def report(
    name: str, task: Task, action: Callable[[], Redundancy], config: RedundancyBenchConfig
) -> None:
    """Print the median seconds, their range, and the ratio to a single fit."""
    pairs = [(timed(action), timed(lambda: single_fit(task))) for _ in range(config.repeats)]
    seconds = [took for (_, took), _ in pairs]
    ratios = [took / single for (_, took), (_, single) in pairs]
    found = pairs[0][0][0]
    accuracy = found.curve()
    print(
        f"{name}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), "
        f"{statistics.median(ratios):.0f} single fits; {len(found.units)} x {config.subsets} "
        f"probes ({found.probe}), accuracy {accuracy[0]:.2f} to {accuracy[-1]:.2f}",
        flush=True,
    )


def single_fit(task: Task) -> LogisticRegression:
    """Scikit-learn on all units, at one strength."""
    x, _ = scaled(task.train_x, task.test_x)
    model = LogisticRegression(C=STRENGTHS[len(STRENGTHS) // 2], max_iter=1000)
    return model.fit(x.numpy(), task.train_y.numpy())


if __name__ == "__main__":
    run(bench, RedundancyBenchConfig)
