r"""The decay of the eigenspectrum as a power law.

Shapes: N examples, D features, P fitted eigenvalues.

References:
    | alpha-ReQ (Agrawal et al., 2022), https://openreview.net/forum?id=ii9X4vtZGTZ
    | High-dimensional geometry of population responses in visual cortex (Stringer et al., 2019)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from analysis.intervals import LEVEL
from core.errors import InputError
from probes.richness.spectrum import Source, moments_of

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class AlphaReQ:
    """A fitted exponent, or the reason why there is none.

    Attributes:
        alpha: The exponent; NaN where `reason` is given.
        stderr: Standard error of the regression. Eigenvalues of one sample are not independent,
            so it is too small: take a jackknife over examples for an interval.
        low: Lower end of the regression's 95 % interval.
        high: Upper end.
        r2: Weighted share of explained variance of the logarithms.
        fit_range: First rank, and the one after the last.
        num_points: Number P of eigenvalues in the range that are not rounding noise.
        reason: Why there is no fit; empty where there is one.
    """

    alpha: float = NAN
    stderr: float = NAN
    low: float = NAN
    high: float = NAN
    r2: float = NAN
    fit_range: tuple[int, int]
    num_points: int
    reason: str = ""


def alpha_req(features: Source, fit_range: tuple[int, int] = (10, 100)) -> AlphaReQ:
    r"""Exponent :math:`\alpha` of :math:`\lambda_i \propto i^{-\alpha}` for the covariance.

    Least squares of :math:`\ln \lambda_i` on :math:`\ln i` with weights :math:`1 / i` over the
    ranks in [first, last), counted from one. (Published code counts from zero: the same numbers
    there are one rank further down.) Sensitive to N and to the range. Its authors find
    values near one good, so neither larger nor smaller is better.

    Args:
        features: N x D, or their moments.
        fit_range: First rank, and the one after the last; three ranks at least.

    Raises:
        InputError: If the range is empty or too short.

    References:
        | alpha-ReQ (Agrawal et al., 2022), https://openreview.net/forum?id=ii9X4vtZGTZ
        | High-dimensional geometry of population responses in visual cortex (Stringer et al.,
          2019)

    Example:
        >>> alpha_req(torch.eye(3)).reason
        'only 2 eigenvalues are above rounding noise; the fit over ranks 10 to 99 needs 99'
    """
    first, stop = fit_range
    if first < 1 or stop - first < 3:
        raise InputError(
            f"the fit range is [{first}, {stop}); at least three ranks from 1 on were expected"
        )
    values = moments_of(features).eigenvalues()
    num_found = int(np.count_nonzero(values))
    num_points = max(0, min(num_found, stop - 1) - first + 1)
    if num_found < stop - 1:
        reason = (
            f"only {num_found} eigenvalues are above rounding noise; the fit over ranks {first} "
            f"to {stop - 1} needs {stop - 1}"
        )
        return AlphaReQ(fit_range=fit_range, num_points=num_points, reason=reason)
    return _fit(values[first - 1 : stop - 1], fit_range)


def _fit(values: Float[np.ndarray, " P"], fit_range: tuple[int, int]) -> AlphaReQ:
    ranks = np.arange(*fit_range)
    x, y, weights = np.log(ranks), np.log(values), 1 / ranks
    # polyfit weighs residuals, not their squares.
    line, covariance = np.polyfit(x, y, 1, w=np.sqrt(weights), cov=True)
    spread = weights @ (y - np.average(y, weights=weights)) ** 2
    left = weights @ (y - np.polyval(line, x)) ** 2
    stderr = float(np.sqrt(covariance[0, 0]))
    half = float(t.ppf((1 + LEVEL) / 2, len(ranks) - 2)) * stderr
    alpha = -float(line[0])
    return AlphaReQ(
        alpha=alpha,
        stderr=stderr,
        low=alpha - half,
        high=alpha + half,
        # A flat spectrum is a perfect fit with nothing to explain.
        r2=float(1 - left / spread) if spread > 0 else 1.0,
        fit_range=fit_range,
        num_points=len(ranks),
    )
