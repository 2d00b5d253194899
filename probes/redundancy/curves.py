"""Accuracy over the fraction of units: means, intervals and the numbers that sum them up.

Subsets and test examples are two samples that cross, so that both are drawn again, independently;
this is somewhat conservative. All units have no subsets, and only test examples are drawn.

Shapes: M test examples, F fractions, S subsets, B bootstrap resamples.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from scipy.integrate import trapezoid

from analysis.intervals import Row, crossed_means, interval


def curve_rows(
    curves: Mapping[str, Bool[np.ndarray, "F S M"]],
    fractions: Float[np.ndarray, " F"],
    delta: float,
    seed: int,
    num_resamples: int,
) -> list[Row]:
    """Every curve as rows with intervals, then the numbers that sum up the first.

    Args:
        curves: By metric, which test examples the probe on each subset gets right;
            `subset_accuracy` is among them.
        fractions: Of the units, ascending, 1 last.
        delta: Share of the accuracy of all units that the subsets must reach.
        seed: Of the resamples, which all curves share.
        num_resamples: Of test examples and of subsets.
    """
    rows, num = [], curves["subset_accuracy"].shape[-1]
    drawn: dict[str, int] = {"seed": seed, "num_resamples": num_resamples}
    for metric, correct in curves.items():
        value, resampled = crossed_means(correct, **drawn)
        points = zip(fractions.tolist(), value.tolist(), resampled.T, strict=True)
        rows += [{"metric": metric, "at": f, **interval(v, r, num)} for f, v, r in points]
    value, resampled = crossed_means(curves["subset_accuracy"], **drawn)
    for metric, summary in {
        "diffused_redundancy": lambda curve: redundancy(curve, fractions, delta),
        "subset_accuracy_area": lambda curve: area(curve, fractions),
    }.items():
        row = interval(float(summary(value)), summary(resampled), num)
        rows.append({"metric": metric, **row})
    return rows


def redundancy(
    curve: Float[np.ndarray, "*B F"], fractions: Float[np.ndarray, " F"], delta: float
) -> Float[np.ndarray, "*B"]:
    """One less the smallest fraction whose accuracy reaches delta times that of all units.

    Example:
        >>> float(redundancy(np.array([0.5, 0.8, 0.85]), np.array([0.1, 0.25, 1]), delta=0.9))
        0.75
    """
    enough = curve >= delta * curve[..., -1:]  # true of all units at least
    return np.asarray(1 - fractions[enough.argmax(-1)])


def area(
    curve: Float[np.ndarray, "*B F"], fractions: Float[np.ndarray, " F"]
) -> Float[np.ndarray, "*B"]:
    """Area under the curve on a logarithmic axis, over the length of the axis.

    Example:
        >>> float(area(np.array([0.2, 0.4, 0.6]), np.array([0.01, 0.1, 1])))
        0.4
    """
    at = np.log(fractions)
    return np.asarray(trapezoid(curve, at) / (at[-1] - at[0]))
