r"""Diffused redundancy: how few units, taken at random, do nearly as well as all of them.

.. math:: DR(\delta) = 1 - \min \{ f : E_S\, \mathrm{acc}(Z_S) \ge \delta\, \mathrm{acc}(Z) \}

over random subsets S of a fraction f of the units, with the probe fitted again on every subset.

Shapes: N training and M test examples, D units, F fractions, S subsets.

References:
    | Diffused Redundancy in Pre-trained Representations (Nanda et al., 2023)
    | https://arxiv.org/abs/2306.00183
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.intervals import NUM_RESAMPLES, Row
from core.arrays import Array
from core.errors import InputError
from core.records import Metric
from probes.redundancy.curves import curve_rows
from probes.redundancy.readout import Probe, Task, logistic_probe, name_of, scaled

NANDA = "Nanda et al. 2023, arXiv 2306.00183"
FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0)
CURVE: dict[str, Any] = {
    "direction": "higher",
    "low": 0.0,
    "high": 1.0,
    "coordinate": "fraction of units",
    "reference": NANDA,
}

METRICS = {
    "diffused_redundancy": Metric(
        title="diffused redundancy", symbol="D R", low=0.0, high=1.0, reference=NANDA
    ),
    "subset_accuracy": Metric(title="accuracy of a random subset of units", **CURVE),
    "subset_accuracy_area": Metric(
        title="mean accuracy over the logarithm of the fraction",
        direction="higher",
        low=0.0,
        high=1.0,
        reference=NANDA,
    ),
    "top_components_accuracy": Metric(title="accuracy of the top components", **CURVE),
    "bottom_components_accuracy": Metric(title="accuracy of the bottom components", **CURVE),
    "random_projection_accuracy": Metric(title="accuracy of a random projection", **CURVE),
}


@dataclass(frozen=True)
class Redundancy:
    """The curve of accuracy over the fraction of units, and what follows from it.

    Every row holds a value and its interval over test examples and subsets.

    Attributes:
        units: Numbers of units kept, ascending, all of them last.
        by_subset: Accuracy of every subset; all units have one subset, repeated.
        rows: One row a number, with its metric and, on curves, its fraction as `at`.
        chance: Share of the largest class among the test examples.
        probe: Name of the probe.
    """

    units: tuple[int, ...]
    by_subset: Float[np.ndarray, "F S"]
    rows: tuple[Row, ...]
    chance: float
    probe: str

    def row(self, metric: str) -> Row:
        """The row of a metric that is one number."""
        return next(row for row in self.rows if row["metric"] == metric)

    def curve(self, metric: str = "subset_accuracy") -> Float[np.ndarray, " F"]:
        """The values of a metric along the fractions."""
        return np.array([row["value"] for row in self.rows if row["metric"] == metric])


def diffused_redundancy(
    train_features: Array,
    train_labels: Array,
    test_features: Array,
    test_labels: Array,
    *,
    fractions: Sequence[float] = FRACTIONS,
    subsets: int = 5,
    delta: float = 0.9,
    probe: Probe = logistic_probe,
    controls: bool = True,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Redundancy:
    r"""Accuracy of probes on random subsets of units, and the redundancy it implies.

    Each subset is a beginning of one of S random orders of the units, so that subsets of one order
    are nested. Where :math:`\delta` times the accuracy of all units is below `chance`, a single
    unit may do, and DR says nothing.

    Args:
        train_features: One row per training example.
        train_labels: Class indices.
        test_features: The same units for other examples.
        test_labels: Class indices.
        fractions: Of the units; those that round to the same number are measured once. 1 is
            among them.
        subsets: Random subsets of each fraction.
        delta: Share of the accuracy of all units that the subsets must reach.
        probe: Fitted on each subset; chooses its own regularisation there.
        controls: Whether to measure, with as many dimensions, the top and bottom principal
            components and random projections, each standardised. With all dimensions they are
            the features.
        seed: Of subsets, projections and resamples.
        num_resamples: Of test examples and of subsets, for the intervals.

    Raises:
        InputError: If features, labels, fractions, subsets or delta are not as expected.
    """
    task = Task.of(train_features, train_labels, test_features, test_labels)
    units = _units(fractions, task.train_x.shape[1])
    if subsets < 2 or not 0 < delta <= 1:
        raise InputError(
            f"subsets is {subsets} and delta {delta}; at least 2 subsets and 0 < delta <= 1 were "
            "expected"
        )
    correct = _of_subsets(task, probe, units, subsets, seed)
    curves = {"subset_accuracy": correct}
    if controls:
        curves |= _of_controls(task, probe, units, subsets, seed, correct[-1])
    rows = curve_rows(curves, np.array(units) / units[-1], delta, seed, num_resamples)
    chance = int(task.test_y.bincount().max()) / len(task.test_y)
    return Redundancy(units, np.asarray(correct.mean(-1)), tuple(rows), chance, name_of(probe))


def _units(fractions: Sequence[float], num_units: int) -> tuple[int, ...]:
    if not fractions or not all(0 < f <= 1 for f in fractions) or max(fractions) != 1:
        raise InputError(
            f"the fractions are {list(fractions)}; numbers from 0 to 1 were expected, and 1 among "
            "them"
        )
    units = tuple(sorted({max(1, round(f * num_units)) for f in fractions}))
    if len(units) < 2:
        raise InputError(
            f"the fractions {list(fractions)} of {num_units} units all keep {num_units}; a "
            "curve needs two numbers of units: give more fractions or more units"
        )
    return units


def _of_subsets(
    task: Task, probe: Probe, units: tuple[int, ...], subsets: int, seed: int
) -> Bool[np.ndarray, "F S M"]:
    """Which test examples the probe on each subset gets right."""
    generator, width = np.random.default_rng(seed), units[-1]
    orders = [torch.from_numpy(generator.permutation(width)) for _ in range(subsets)]
    train, test = scaled(task.train_x, task.test_x)

    def correct(chosen: Tensor) -> Bool[np.ndarray, " M"]:
        rescale = (width / len(chosen)) ** 0.5
        return task.correct(probe, train[:, chosen] * rescale, test[:, chosen] * rescale)

    partial = [[correct(order[:num]) for order in orders] for num in units[:-1]]
    return np.array([*partial, [correct(torch.arange(width))] * subsets])


def _of_controls(
    task: Task,
    probe: Probe,
    units: tuple[int, ...],
    subsets: int,
    seed: int,
    full: Bool[np.ndarray, "S M"],
) -> dict[str, Bool[np.ndarray, "F S M"]]:
    """The same with as many directions in place of units."""
    components = _components(task.train_x)
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        torch.randn(units[-1], units[-1], generator=generator, dtype=torch.float64).to(components)
        for _ in range(subsets)
    ]

    def curve(directions: Callable[[int], list[Tensor]]) -> Bool[np.ndarray, "F S M"]:
        found = [[_projected(task, probe, d) for d in directions(num)] for num in units[:-1]]
        return np.array([*(row * (subsets // len(row)) for row in found), full])

    return {
        "top_components_accuracy": curve(lambda num: [components[:, :num]]),
        "bottom_components_accuracy": curve(lambda num: [components[:, -num:]]),
        "random_projection_accuracy": curve(lambda num: [d[:, :num] for d in drawn]),
    }


def _components(train_x: Float[Tensor, "N D"]) -> Float[Tensor, "D _"]:
    """Principal directions, largest first, without those of rounding alone."""
    _, s, vt = torch.linalg.svd(train_x - train_x.mean(0), full_matrices=False)
    rank = int((s > s[0] * max(train_x.shape) * torch.finfo(s.dtype).eps).sum())
    return vt[:rank].mT


def _projected(
    task: Task, probe: Probe, directions: Float[Tensor, "D _"]
) -> Bool[np.ndarray, " M"]:
    mean = task.train_x.mean(0)
    train, test = scaled((task.train_x - mean) @ directions, (task.test_x - mean) @ directions)
    return task.correct(probe, train, test)
