r"""Ridge regression of many targets on layers side by side, judged on held-out examples.

Columns are standardised by the training part of each fold, and each layer is divided by the root
of its width, so that all layers have the same total variance. The ridge is shared by all targets
and chosen by leave-one-out within the training part,

.. math::
    \rho = \arg\min_\rho \sum_{iu} \Big( \frac{r_{iu}(\rho)}{1 - h_i(\rho)} \Big)^2 , \qquad
    h_i = \frac1N + \sum_k \frac{s_k^2}{s_k^2 + \rho}\, U_{ik}^2 ,

with the singular values and left vectors of the training part, and 1/N for the intercept. They
come from the D x D side or the N x N side, whichever is smaller.

Shapes: N examples, M held-out examples, D features, U targets.

References:
    | The Elements of Statistical Learning (Hastie, Tibshirani & Friedman, 2009), 7.10 and 3.4.1
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.model_selection import KFold

from core.errors import InputError
from probes.transfer.solver import principal_components

RIDGES = tuple(float(ridge) for ridge in np.logspace(-8, 4, 13))  # of the mean eigenvalue
FOLDS = 5

Block = Float[np.ndarray, "N _"]
Matrix = Float[np.ndarray, "_ _"]
Rows = Int[np.ndarray, " _"]


class Prediction(NamedTuple):
    """Cross-validated squares of a multivariate regression, example by example and unit by unit.

    Attributes:
        errors: Squared errors on held-out examples.
        totals: Squared distances from the mean of the training part.
    """

    errors: Float[np.ndarray, "N U"]
    totals: Float[np.ndarray, "N U"]

    def r2(self, examples: slice | np.ndarray = slice(None)) -> float:
        """Over all units, as a ratio of sums."""
        return 1 - float(self.errors[examples].sum() / self.totals[examples].sum())

    def median(self, examples: slice | np.ndarray = slice(None)) -> float:
        """Of the R2 of single units, those left out that never vary."""
        errors, totals = self.errors[examples].sum(0), self.totals[examples].sum(0)
        return float(np.median(1 - errors[totals > 0] / totals[totals > 0]))


def cross_validated(
    blocks: Sequence[Block],
    targets: Float[np.ndarray, "N U"],
    *,
    folds: int = FOLDS,
    permutations: int = 0,
    ridges: Sequence[float] = RIDGES,
    seed: int = 0,
) -> list[Prediction]:
    """Ridge regressions of all targets on some layers side by side, on held-out examples.

    Args:
        blocks: Layers, one row per example each.
        targets: What is predicted.
        folds: Parts that are held out in turn.
        permutations: How many times the examples of the targets are permuted.
        ridges: To choose from, in units of the mean eigenvalue.
        seed: Of folds and permutations.

    Returns:
        The prediction of the targets as they are, and of every permutation.

    Raises:
        InputError: If there are fewer than two folds or two examples a fold, or a ridge is not
            positive.
    """
    _check(len(targets), folds, ridges)
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(targets)) for _ in range(permutations)]
    sets = [targets, *(targets[order] for order in orders)]
    found = [Prediction(np.empty_like(targets), np.empty_like(targets)) for _ in sets]
    for train, held in KFold(folds, shuffle=True, random_state=seed).split(targets):
        regression = _Regression(*standardised(blocks, train, held))
        for y, prediction in zip(sets, found, strict=True):
            mean = y[train].mean(0)
            predicted = regression.predict(y[train] - mean, ridges)
            prediction.errors[held] = np.square(y[held] - mean - predicted)
            prediction.totals[held] = np.square(y[held] - mean)
    return found


class _Regression:
    """Ridge regressions on one training part, in its principal axes."""

    def __init__(self, train: Float[np.ndarray, "N D"], held: Float[np.ndarray, "M D"]) -> None:
        components, axes = principal_components(train)
        self.scales = np.sqrt(np.square(components).sum(0))
        self.left, self.held = components / self.scales, held @ axes / self.scales

    def predict(
        self, targets: Float[np.ndarray, "N U"], ridges: Sequence[float]
    ) -> Float[np.ndarray, "M U"]:
        """Predictions at the ridge with the least leave-one-out error over all targets."""
        variance = np.square(self.scales)
        projected = self.left.T @ targets
        outside = targets - self.left @ projected
        errors, kept = {}, {}
        for ridge in ridges:
            kept[ridge] = variance / (variance + ridge * variance.mean())
            leverage = np.square(self.left) @ kept[ridge] + 1 / len(targets)
            residuals = outside + self.left @ ((1 - kept[ridge])[:, None] * projected)
            errors[ridge] = float(np.square(residuals / (1 - leverage)[:, None]).sum())
        best = min(errors, key=lambda ridge: errors[ridge])
        return self.held @ (kept[best][:, None] * projected)


def standardised(blocks: Sequence[Block], train: Rows, *others: Rows) -> list[Matrix]:
    """Layers side by side with the training part's statistics; its rows, then those of others.

    A column that is constant in the training part has no scale and is zero everywhere.
    """
    parts: list[list[Matrix]] = [[] for _ in range(1 + len(others))]
    for block in blocks:
        mean, spread = block[train].mean(0), block[train].std(0)
        constant = (block[train] == block[train[0]]).all(0)
        scale = np.where(constant, np.inf, spread) * block.shape[1] ** 0.5
        for part, rows in zip(parts, (train, *others), strict=True):
            part.append((block[rows] - mean) / scale)
    return [np.concatenate(part, 1) for part in parts]


def _check(num: int, folds: int, ridges: Sequence[float]) -> None:
    if folds < 2 or num < 2 * folds:
        raise InputError(
            f"there are {num} examples for {folds} folds; at least 2 folds, and 2 examples for "
            "each, were expected"
        )
    if not ridges or min(ridges) <= 0:
        raise InputError(f"the ridges are {list(ridges)}; positive numbers were expected")
