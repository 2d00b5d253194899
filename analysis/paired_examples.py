r"""Differences of two proportions on the same examples, such as the accuracies of two networks.

Only the examples on which the two disagree count: with b of N that the first alone gets right and
c that the second alone gets right, the difference is :math:`(b - c) / N`. Agresti and Min add half
an example to each of the four cells, after which the normal interval keeps its level for small
N and where nothing disagrees, which a bootstrap would call certain.

Shapes: N examples.

References:
    | Simple improved confidence intervals for comparing matched proportions (Agresti & Min, 2005)
    | https://doi.org/10.1002/sim.1781
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from analysis.intervals import LEVEL, Row

ADDED = 0.5  # examples to each cell of the table of two outcomes by two


def paired_difference(first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]) -> Row:
    r"""The first proportion less the second, with the interval of Agresti and Min.

    .. math:: \frac{b^* - c^* \pm z \sqrt{b^* + c^* - (b^* - c^*)^2 / N^*}}{N^*}, \qquad
        b^* = b + \tfrac12,\; c^* = c + \tfrac12,\; N^* = N + 2

    Args:
        first: 1 for every success, else 0.
        second: The same of the other, on the same examples.

    Example:
        >>> row = paired_difference(np.ones(10), np.ones(10))
        >>> row["value"], row["low"] < 0 < row["high"]
        (0.0, True)
    """
    num = len(first)
    alone = (
        float(((first == 1) & (second == 0)).sum()),
        float(((first == 0) & (second == 1)).sum()),
    )
    b, c, total = alone[0] + ADDED, alone[1] + ADDED, num + 4 * ADDED
    centre = (b - c) / total
    stderr = float(np.sqrt(b + c - (b - c) ** 2 / total)) / total
    half = float(norm.ppf((1 + LEVEL) / 2)) * stderr
    return {
        "value": (alone[0] - alone[1]) / num,
        "stderr": stderr,
        "low": max(-1.0, centre - half),
        "high": min(1.0, centre + half),
        "num_examples": num,
    }
