"""Speed of the path of linear probes beside cold scikit-learn fits, at the same accuracy.

    python -m scripts.benchmark_transfer

45 values of C from 1e-6 to 1e5 on standardised features: `probes.transfer.c_path`, which
standardises and rotates by itself, against `LogisticRegression(C=C, max_iter=1000)` from zero for
every C, and against the same with `warm_start`. Repetitions alternate, so that a drifting machine
hits all of them. The features are a Gaussian mixture with a power-law spectrum, rotated and
rectified as pooled features of a convolutional network are; half of them to test on.

Accuracies are those at the C that a tenth of the training examples chooses by one standard error;
beside them stands how far any accuracy of the path is from scikit-learn's, up to C = 1 and beyond:
there scikit-learn's default tolerance stops far from the minimum where classes separate.
"""

import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from core.command_line import run
from probes.transfer import c_path
from probes.transfer.selection import DINOV2_GRID, one_standard_error, validation_split
from scripts.timing import timed


@dataclass(frozen=True, kw_only=True)
class TransferBenchConfig:
    """Options of the benchmark."""

    sizes: tuple[int, ...] = (2000, 5000)
    """Training examples."""
    features: int = 512
    """Columns."""
    classes: int = 7
    """Classes."""
    separation: float = 0.2
    """Spread of the class means relative to that within classes; 0.2 leaves errors, 0.5 none."""
    repeats: int = 3
    """Alternating repetitions; ratios are of medians."""
    seed: int = 0
    """Seed of the features."""


class Split(NamedTuple):
    """Examples to train on, to choose by and to test on."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def make_split(config: TransferBenchConfig, num_train: int) -> Split:
    """Features and labels; a tenth of the training examples comes on top, to choose by."""
    generator = np.random.default_rng(config.seed)
    spectrum = np.arange(1, config.features + 1) ** -0.5
    square = generator.standard_normal((config.features, config.features))
    means = config.separation * generator.standard_normal((config.classes, config.features))
    y = generator.integers(config.classes, size=2 * num_train + num_train // 10)
    noise = generator.standard_normal((len(y), config.features))
    x = np.maximum((means[y] + noise) * spectrum @ np.linalg.qr(square)[0], 0)
    fit, test = slice(0, len(y) - num_train), slice(len(y) - num_train, None)
    train, validation = validation_split(y[fit], share=1 / 11, seed=config.seed)
    return Split(*((x[rows], y[rows]) for rows in (train, validation, test)))


def path(split: Split) -> list[Callable]:
    """The project's path."""
    return [probe.predict for probe in c_path(*split.train, DINOV2_GRID)]


def fits(split: Split, *, warm: bool) -> list[Callable]:
    """One scikit-learn fit per C, each from zero or from the one before."""
    scaler = StandardScaler().fit(split.train[0])
    x, model, weights = scaler.transform(split.train[0]), LogisticRegression(max_iter=1000), []
    model.set_params(warm_start=warm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for C in DINOV2_GRID:
            model.set_params(C=C).fit(x, split.train[1])
            weights.append((np.array(model.coef_), np.array(model.intercept_)))
    return [
        lambda z, w=w, b=b: model.classes_[(scaler.transform(z) @ w.T + b).argmax(1)]
        for w, b in weights
    ]


METHODS: dict[str, Callable[[Split], list[Callable]]] = {
    "path": path,
    "cold": lambda split: fits(split, warm=False),
    "warm": lambda split: fits(split, warm=True),
}


def accuracies(predictors: list[Callable], examples: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """One per value of C."""
    x, y = examples
    return np.array([np.mean(predict(x) == y) for predict in predictors])


def bench(config: TransferBenchConfig) -> None:
    """Measure everything and print a row for each size."""
    for num_train in config.sizes:
        split = make_split(config, num_train)
        seconds: dict[str, list[float]] = {name: [] for name in METHODS}
        found: dict[str, list[Callable]] = {}
        for _ in range(config.repeats):
            for name, method in METHODS.items():
                found[name], took = timed(partial(method, split))
                seconds[name].append(took)
        print(_report(num_train, split, seconds, found), flush=True)


def _report(
    num_train: int,
    split: Split,
    seconds: dict[str, list[float]],
    found: dict[str, list[Callable]],
) -> str:
    median = {name: statistics.median(s) for name, s in seconds.items()}
    test = {name: accuracies(predictors, split.test) for name, predictors in found.items()}
    chosen = {
        name: one_standard_error(
            accuracies(predictors, split.validation), len(split.validation[1])
        )
        for name, predictors in found.items()
    }
    apart = np.abs(test["path"] - test["cold"])
    usual = DINOV2_GRID <= 1
    return (
        f"N = {num_train}: path {median['path']:.2f} s, "
        f"45 cold fits {median['cold'] / median['path']:.1f} x, "
        f"45 warm fits {median['warm'] / median['path']:.1f} x the time; "
        f"accuracy at the chosen C {test['path'][chosen['path']]:.4f} and "
        f"{test['cold'][chosen['cold']]:.4f} (cold); "
        f"farthest apart {apart[usual].max():.4f} up to C = 1, {apart.max():.4f} on the grid"
    )


if __name__ == "__main__":
    run(bench, TransferBenchConfig)
