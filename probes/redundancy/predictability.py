r"""How well each unit is predicted by all the others: redundancy without labels.

Ridge regressions of every unit on the others follow from one inverse. Let X be standardised,
:math:`G = X^\top X + \lambda I` and :math:`P = G^{-1}`. Split off unit j: by block inversion

.. math::
    P_{-j,j} = -G_{-j,-j}^{-1} G_{-j,j}\, P_{jj},

and :math:`G_{-j,-j}^{-1} G_{-j,j} = (X_{-j}^\top X_{-j} + \lambda I)^{-1} X_{-j}^\top x_j` are the
coefficients of the ridge regression of unit j, hence its residuals are

.. math:: r_j = x_j - X_{-j} \beta_j = X P_{:,j} / P_{jj},

for training and held-out examples alike. The leverage of example i in regression j is
:math:`h_{ij} = x_i^\top P x_i - (XP)_{ij}^2 / P_{jj}` by the same split, to which centring adds
1/N, so that the penalty can be chosen by exact leave-one-out residuals
:math:`r_{ij} / (1 - h_{ij} - 1/N)` inside each training part.

A unit that one or two examples alone move cannot be cross-validated: in a training part without
them its scale is that of its noise, held-out values are thousands of such scales, and one of them
ruins the predictions of all other units as well. Such nearly dead units are left out.

Shapes: N examples, D units, M held-out examples.

References:
    | Image Theory for the Structure of Quantitative Variates (Guttman, 1953)
    | Graphical Models (Lauritzen, 1996), section 5.1.3
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from sklearn.model_selection import KFold
from torch import Tensor

from analysis.intervals import Row
from analysis.jackknife import Indices, jackknife, jackknife_groups
from core.arrays import Array, matrix
from core.errors import InputError
from core.records import Metric

PENALTIES = tuple(10.0**power for power in range(-6, 2))
LEAST_EXAMPLES = 3.0  # that carry the variance of a unit, in effect, below which it is nearly dead
GUTTMAN = "Guttman 1953, Psychometrika 18"
METRICS = {
    "unit_predictability": Metric(
        title="variance of the units that the others predict",
        symbol="R^2",
        high=1.0,
        reference=GUTTMAN,
    ),
    "unit_predictability_median": Metric(
        title="predictability of the median unit", symbol="R^2", high=1.0, reference=GUTTMAN
    ),
    "nearly_dead_units": Metric(
        title="units that fewer than 3 examples move, left out", direction="lower", low=0.0
    ),
}


@dataclass(frozen=True)
class Predictability:
    """Cross-validated R2 of every unit given the others.

    Attributes:
        overall: Share of the variance of all units together that is predicted, with its interval
            over examples.
        median: Of the units, with its interval over examples.
        r2: Of each unit; negative where the others do worse than the unit's mean.
        units: Which columns these are.
        num_dead: Columns that are constant or nearly so, which are left out.
    """

    overall: Row
    median: Row
    r2: Float[np.ndarray, " D"]
    units: Int64[np.ndarray, " D"]
    num_dead: int


def unit_predictability(
    features: Array, *, folds: int = 5, penalties: Sequence[float] = PENALTIES, seed: int = 0
) -> Predictability:
    r"""Cross-validated :math:`R^2` of predicting each unit from all others by ridge.

    .. math::
        R^2 = 1 - \frac{\sum_{ij} (x_{ij} - \hat x_{ij})^2}{\sum_{ij} (x_{ij} - \bar x_j)^2},
        \qquad
        R_j^2 = 1 - \frac{\sum_i (x_{ij} - \hat x_{ij})^2}{\sum_i (x_{ij} - \bar x_j)^2}

    with predictions and means from the folds that do not hold example i: of all units together, a
    mean of :math:`R_j^2` weighted by variance, and the median of the units. Intervals are normal,
    from the delete-group jackknife over examples, given the fitted regressions.

    A unit is nearly dead if fewer than `LEAST_EXAMPLES` carry its variance,
    :math:`(\sum_i d_{ij}^2)^2 / \sum_i d_{ij}^4` with the deviations d from its mean: k where k
    examples among many deviate equally, N / 3 for a Gaussian. It neither counts nor predicts.

    Args:
        features: One row per example.
        folds: Parts that are held out in turn.
        penalties: To choose from for each unit and fold, by leaving one training example out; in
            units of the mean eigenvalue of the training correlations times their examples.
        seed: Of the folds and of the jackknife's groups.

    Raises:
        InputError: If fewer than two units are alive, there are fewer than two examples per fold,
            or a penalty is not positive.

    Example:
        >>> x = torch.randn(50, 1)
        >>> unit_predictability(torch.cat([x, -2 * x, torch.ones(50, 1)], 1)).num_dead
        1
    """
    x = matrix(features, least=2 * folds).double()
    units = _alive(x).nonzero()[:, 0]
    _check(len(units), folds, penalties)
    live = x[:, units]
    errors, totals = torch.zeros_like(live), torch.zeros_like(live)
    for train, test in _folds(len(live), folds, seed):
        center, scale = _center_and_scale(live[train])
        z, held = (live[train] - center) / scale, (live[test] - center) / scale
        errors[test] = (_held_out_residuals(z, held, penalties) * scale).square()
        totals[test] = (held * scale).square()
    rows = _with_intervals(errors.cpu().numpy(), totals.cpu().numpy(), seed)
    return Predictability(
        overall=rows["overall"],
        median=rows["median"],
        r2=(1 - errors.sum(0) / totals.sum(0)).cpu().numpy(),
        units=units.cpu().numpy(),
        num_dead=x.shape[1] - len(units),
    )


def _alive(x: Float[Tensor, "N D"]) -> Bool[Tensor, " D"]:
    """Units whose variance enough examples carry.

    Each is scaled by its largest deviation, so that fourth powers neither overflow nor vanish.
    """
    constant = (x == x[:1]).all(0)  # exactly, which a mean with rounding would not show
    deviations = (x - x.mean(0)).abs()
    squares = (deviations / torch.where(constant, 1.0, deviations.amax(0))).square()
    carriers = squares.sum(0).square() / squares.square().sum(0).clamp(min=1.0)
    return ~constant & (carriers >= LEAST_EXAMPLES)


def _folds(num: int, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return KFold(folds, shuffle=True, random_state=seed).split(np.arange(num))


def _center_and_scale(x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Training statistics; a unit that happens to be constant in the part keeps its scale."""
    constant = (x == x[:1]).all(0)
    center = torch.where(constant, x[0], x.mean(0))
    return center, torch.where(constant, 1.0, x.std(0, correction=0))


def _held_out_residuals(
    z: Float[Tensor, "N D"], held: Float[Tensor, "M D"], penalties: Sequence[float]
) -> Float[Tensor, "M D"]:
    """Residuals of every unit at the penalty that leave-one-out chooses for it."""
    eigenvalues, axes = torch.linalg.eigh(z.mT @ z)
    best, chosen = torch.full_like(z[0], torch.inf), torch.empty_like(held)
    for penalty in penalties:
        inverse = (axes / (eigenvalues.clamp(min=0) + penalty * len(z))) @ axes.mT
        score = _leave_one_out_error(z, inverse)
        residuals = held @ inverse / inverse.diagonal()
        chosen = torch.where(score < best, residuals, chosen)
        best = torch.minimum(score, best)
    return chosen


def _leave_one_out_error(
    z: Float[Tensor, "N D"], inverse: Float[Tensor, "D D"]
) -> Float[Tensor, " D"]:
    """Mean squared error of each unit's regression on the example that is left out."""
    product, diagonal = z @ inverse, inverse.diagonal()
    leverage = (product * z).sum(1, keepdim=True) - product.square() / diagonal + 1 / len(z)
    return (product / diagonal / (1 - leverage)).square().mean(0)


def _with_intervals(
    errors: Float[np.ndarray, "N D"], totals: Float[np.ndarray, "N D"], seed: int
) -> dict[str, Row]:
    """R2 of all units together and of the median unit, over held-out examples."""

    def values(kept: Indices) -> dict[str, float]:
        unexplained, variances = errors[kept].sum(0), totals[kept].sum(0)
        return {
            "overall": 1 - float(unexplained.sum() / variances.sum()),
            "median": 1 - float(np.median(unexplained / variances)),
        }

    return jackknife(values, jackknife_groups(np.zeros(len(errors), int), seed=seed))


def _check(num_live: int, folds: int, penalties: Sequence[float]) -> None:
    if num_live < 2:
        raise InputError(
            f"{num_live} of the units vary between at least {LEAST_EXAMPLES:g} examples; at least "
            "2 units were expected, one to predict and one to predict it from"
        )
    if folds < 2 or not penalties or min(penalties) <= 0:
        raise InputError(
            f"folds is {folds} and the penalties are {list(penalties)}; at least 2 folds and "
            "positive penalties were expected"
        )
