r"""Equivalence: two one-sided tests (TOST) of a mean difference against a declared margin.

Two methods are equivalent where the difference is shown to lie within the margin:

.. math:: p = \max\bigl( P(\theta \le -m),\; P(\theta \ge m) \bigr) \le \alpha

which is the case exactly where the 1 - 2 alpha interval lies within (-m, m). That a difference
cannot be told from zero shows nothing.

References:
    | A Comparison of the Two One-Sided Tests Procedure and the Power Approach (Schuirmann, 1987)
    | https://doi.org/10.1007/BF01068419
"""

import math
from dataclasses import dataclass

from analysis.bootstrap import Mean
from analysis.estimates import Estimate
from core.errors import InputError

MARGIN = 0.005  # half a point of accuracy
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Whether a difference lies within a margin.

    Attributes:
        estimate: The difference with its 95 % interval.
        low: Lower end of the interval of level 1 - 2 alpha that decides equivalence.
        high: Upper end.
        margin: The margin.
        p_value: Of the two one-sided tests together; NaN where there is no interval.
        alpha: Level of the tests.
    """

    estimate: Estimate
    low: float
    high: float
    margin: float
    p_value: float
    alpha: float = ALPHA

    @property
    def equivalent(self) -> bool:
        """Whether the difference is shown to lie within the margin."""
        return self.p_value <= self.alpha

    @property
    def different(self) -> bool:
        """Whether the 95 % interval lies wholly outside the margin."""
        return self.estimate.low > self.margin or self.estimate.high < -self.margin

    @property
    def word(self) -> str:
        """`equivalent`, `different` or `inconclusive`."""
        if self.equivalent:
            return "equivalent"
        return "different" if self.different else "inconclusive"


def equivalence(difference: Mean, *, margin: float = MARGIN, alpha: float = ALPHA) -> Equivalence:
    """Two one-sided tests of a mean difference.

    Args:
        difference: The mean with its error, such as from `analysis.bootstrap.hierarchical_mean`.
        margin: Largest difference that counts as none, declared before the data.
        alpha: Level of either test.

    Raises:
        InputError: If the margin is not positive.

    Example:
        >>> difference = Mean(value=0.001, stderr=0.001, degrees=20, num=24)
        >>> equivalence(difference).word, equivalence(difference, margin=0.001).word
        ('equivalent', 'inconclusive')
    """
    if not 0 < margin < math.inf:
        raise InputError(
            f"the margin of equivalence is {margin:g}; a positive number was expected, such as "
            f"{MARGIN:g} for half a point of accuracy"
        )
    low, high = difference.interval(1 - 2 * alpha)
    return Equivalence(
        estimate=difference.estimate,
        low=low,
        high=high,
        margin=margin,
        p_value=max(difference.p_above(-margin), difference.p_below(margin)),
        alpha=alpha,
    )
