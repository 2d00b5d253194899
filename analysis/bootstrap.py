r"""Hierarchical bootstrap of runs: environments fixed, cells drawn, and seeds and splits.

With two to six cells, the plain percentile bootstrap is much too narrow: its variance is too small
by a factor (n - 1) / n for n clusters, and its quantiles are those of a normal distribution.
Studentising by resampling fails as well, as two clusters are one cluster drawn twice half of the
time. Both are mended here:

- The variance is that of the rescaled bootstrap, which draws n - 1 of n clusters and weighs each
  by n / (n - 1); it is unbiased. For a mean it is known in closed form,

  .. math:: \hat\sigma^2 = \sum_s v_s, \qquad
            v_s = \frac{n_s}{n_s - 1} \sum_{k \in s} (u_k - \bar u_s)^2, \qquad
            u_k = \sum_{i \in k} w_i (d_i - \bar d_i)

  with w the weights of the rows, and d-bar the mean of the row's fixed group. Where cells and
  seeds are crossed, s runs over the strata of both (`analysis.clusters`). What is left of a run
  without the effects of its cell and its seed is then counted twice: where it is all there is, the
  interval is too wide by up to the square root of two, and never too narrow for it.
- Intervals use Student's t. Cells of one data set are a stratum with n - 1 degrees of freedom; of
  several strata the noise may differ. There the degrees of the one way of drawing are those of
  Satterthwaite with an unbiased denominator,

  .. math:: \nu = \frac{\hat\sigma^4}{\sum_s v_s^2 / (n_s + 1)} - 2,

  between 1 and the sum of all n - 1. His own denominator takes :math:`v_s^2 / (n_s - 1)`, three
  times too much for two seeds, and the degrees come out far too few. Two ways have few strata,
  and his own denominator covers better: the sum of their variances squared, over the sum of
  :math:`\sigma_w^4 / \nu_w`.
- Functions of several means, such as which of them is largest, are evaluated on draws from the
  multivariate t with this covariance: of a single mean they have the same interval.

docs/coverage.md has what these intervals cover, beside the plain bootstrap.

Shapes: N rows, M columns of means, B draws, K clusters.

References:
    | An Approximate Distribution of Estimates of Variance Components (Satterthwaite, 1946)
    | Some Recent Work on Resampling Methods for Complex Surveys (Rao, Wu & Yue, 1992)
    | Bootstrap-Based Improvements for Inference with Clustered Errors (Cameron, Gelbach & Miller,
      2008), https://doi.org/10.1162/rest.90.3.414
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from analysis.clusters import Clusters, Level, Way, clusters
from analysis.estimates import Estimate
from analysis.intervals import LEVEL

NUM_DRAWS = 4000
ALIKE = 1e-7  # spread of rounding, of single precision as well, as a share of the values

Rows = Float[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean with its error, from which intervals and tests at any level follow.

    Attributes:
        value: The mean; environments count alike, and cells within environments.
        stderr: Its standard error; NaN where nothing varies.
        degrees: Degrees of freedom of the error; 0 where there is none.
        num: Rows.
        by_env: The mean of every environment.
        superiority: Share of rows above 0, ties a half, environments counting alike: of paired
            differences the probability that the first method is the better one.
        varies: What the error is taken over: `cells`, `seeds`, `cells and seeds`, or nothing.
        reason: What the interval does not cover, or why there is none.
    """

    value: float
    stderr: float = math.nan
    degrees: float = 0.0
    num: int
    by_env: Mapping[str, float] = field(default_factory=dict)
    superiority: float = math.nan
    varies: str = ""
    reason: str = ""

    @property
    def has_error(self) -> bool:
        """Whether there is an error to judge by; rows that are all alike show none."""
        return self.degrees > 0 and self.stderr > 0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The two-sided interval of a level; NaN where there is none."""
        if not self.has_error:
            return math.nan, math.nan
        half = float(student.ppf((1 + level) / 2, self.degrees)) * self.stderr
        return self.value - half, self.value + half

    @property
    def estimate(self) -> Estimate:
        """The value with its 95 % interval."""
        return Estimate(self.value, *self.interval())

    @property
    def same_sign(self) -> int:
        """Environments whose mean has the sign of the whole."""
        return sum(value * self.value > 0 for value in self.by_env.values())

    def p_above(self, boundary: float) -> float:
        """One-sided p-value of the hypothesis that the mean is at most `boundary`.

        NaN where there is no error.
        """
        if not self.has_error:
            return math.nan
        return float(student.sf((self.value - boundary) / self.stderr, self.degrees))

    def p_below(self, boundary: float) -> float:
        """One-sided p-value of the hypothesis that the mean is at least `boundary`."""
        return replace(self, value=-self.value).p_above(-boundary)

    def __str__(self) -> str:
        ending = f"; {self.reason}" if self.reason else ""
        return (
            f"{self.estimate}, better in {self.superiority:.0%} of {self.num} pairs, the same "
            f"sign in {self.same_sign} of {len(self.by_env)} environments{ending}"
        )


def hierarchical_mean(
    frame: pd.DataFrame,
    column: str = "difference",
    *,
    level: Level = "cells",
) -> Mean:
    """The mean of a column of pairs (or runs) with its hierarchical interval.

    Args:
        frame: Rows with the columns dataset, env, cell, seed and split.
        column: What the mean is of.
        level: `seeds` where the cells at hand are all that is asked about.

    Example:
        >>> rows = [{"env": e, "cell": c, "split": n} for e in "xy" for c in "abc" for n in (0, 1)]
        >>> frame = pd.DataFrame(rows).assign(dataset="digits", seed=range(12))
        >>> frame["difference"] = [0.1, 0.2, 0.1, 0.3, 0.2, 0.2, 0.2, 0.1, 0.1, 0.2, 0.1, 0.1]
        >>> print(hierarchical_mean(frame))
        0.158 [0.122, 0.194], better in 100% of 12 pairs, the same sign in 2 of 2 environments
    """
    design = clusters(frame, level=level)
    values = frame[column].to_numpy(np.float64)
    facts = {"num": len(frame), "by_env": _by_env(frame, values, design.weight)}
    facts |= {"superiority": float(design.weight @ ((values > 0) + (values == 0) / 2))}
    facts |= {"varies": design.varies, "reason": design.reason}
    value = float(design.weight @ values)
    if not design.varies:
        return Mean(value=value, **facts)
    stderr, degrees = mean_error(values, design)
    if stderr <= ALIKE * _scale(frame, column):
        facts["reason"] = "all of them are alike, which tells nothing of the error"
        return Mean(value=value, **facts)
    return Mean(value=value, stderr=stderr, degrees=degrees, **facts)


def mean_error(values: Rows, design: Clusters) -> tuple[float, float]:
    """Standard error of the weighted mean of rows, and its degrees of freedom.

    Args:
        values: The rows.
        design: Their clusters, in which something varies.
    """
    deviations = _cluster_deviations(values[:, None], design)
    variance = sum(float(np.square(of_way).sum()) for of_way in deviations)
    return math.sqrt(variance), _degrees(deviations, design)


def mean_draws(
    values: Float[np.ndarray, "N M"],
    design: Clusters,
    *,
    weights: Float[np.ndarray, "N M"] | None = None,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
) -> Float[np.ndarray, "B M"]:
    r"""Draws of several weighted means of the same rows, as uncertain as the clusters make them.

    .. math:: \theta_b = \theta + \sqrt{\nu / \chi^2_\nu} \sum_k z_k v_k, \qquad z_k \sim N(0, 1)

    with :math:`\sum_k v_k v_k^\top` the covariance at the head of this module: a multiplier
    bootstrap, Student's t in every direction.

    Args:
        values: Rows, one column a mean.
        design: The clusters of the rows.
        weights: Weights of every column's mean; those of the design where None.
        seed: Seed of the draws.
        num_draws: How many.

    Raises:
        ValueError: If nothing varies.
    """
    if not design.varies:
        raise ValueError(f"nothing can be drawn: {design.reason}")
    each = np.repeat(design.weight[:, None], values.shape[1], 1) if weights is None else weights
    of_ways = _cluster_deviations(values, design, each)
    deviations, degrees = np.concatenate(of_ways), _degrees(of_ways, design)
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal((num_draws, len(deviations)))
    scale = np.sqrt(degrees / generator.chisquare(degrees, num_draws))
    return (each * values).sum(0) + scale[:, None] * (normal @ deviations)


def _cluster_deviations(
    values: Float[np.ndarray, "N M"],
    design: Clusters,
    weights: Float[np.ndarray, "N M"] | None = None,
) -> list[Float[np.ndarray, "_ M"]]:
    """Rows v_k of every way, whose products sum to the covariance of the means."""
    each = np.repeat(design.weight[:, None], values.shape[1], 1) if weights is None else weights
    centred = each * (values - _group_means(values, each, design.level))
    return [_deviations(_sums(centred, way.cluster), way) for way in design.ways]


def _deviations(sums: Float[np.ndarray, "K M"], way: Way) -> Float[np.ndarray, "K M"]:
    stratum, sizes = way.stratum_of_clusters, way.sizes.astype(np.float64)
    means = _sums(sums, stratum) / sizes[:, None]
    factor = np.sqrt(sizes / (sizes - 1))
    return (sums - means[stratum]) * factor[stratum][:, None]


def _scale(frame: pd.DataFrame, column: str) -> float:
    """The largest of the values, and of those that they are differences of."""
    names = [name for name in (column, "a", "b") if name in frame]
    return float(frame[names].abs().to_numpy(np.float64).max())


def _degrees(of_ways: Sequence[Float[np.ndarray, "_ M"]], design: Clusters) -> float:
    """Satterthwaite's degrees of freedom; see the head of this module. All columns together."""
    variances = np.array([np.square(deviations).sum() for deviations in of_ways])
    degrees = [_within(d, way) for d, way in zip(of_ways, design.ways, strict=True)]
    if not variances.any():
        return min(degrees)
    return float(variances.sum() ** 2 / (variances**2 / degrees).sum())


def _within(deviations: Float[np.ndarray, "K M"], way: Way) -> float:
    """Degrees of freedom of one way."""
    most = float((way.sizes - 1).sum())
    of_strata = _sums(np.square(deviations), way.stratum_of_clusters).sum(1)
    if not of_strata.any():
        return most
    fourth = float((of_strata**2 / (way.sizes + 1)).sum())
    return float(np.clip(of_strata.sum() ** 2 / fourth - 2, 1, most))


def _group_means(
    values: Float[np.ndarray, "N M"],
    weights: Float[np.ndarray, "N M"],
    group: np.ndarray,
) -> Float[np.ndarray, "N M"]:
    """Weighted mean of its group for every row; 0 in groups without weight."""
    total = _sums(weights, group)
    sums = _sums(weights * values, group)
    return np.divide(sums, total, out=np.zeros_like(sums), where=total != 0)[group]


def _sums(values: Float[np.ndarray, "_ M"], group: np.ndarray) -> Float[np.ndarray, "_ M"]:
    """Sums of the rows of each group."""
    sums = np.zeros((int(group.max()) + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return sums


def _by_env(frame: pd.DataFrame, values: Rows, weight: Rows) -> dict[str, float]:
    names = frame["env"].to_numpy(str)
    if len(set(frame["dataset"])) > 1:
        names = np.char.add(np.char.add(frame["dataset"].to_numpy(str), "/"), names)
    inside = {str(name): names == name for name in np.unique(names)}
    return {name: float(np.average(values[i], weights=weight[i])) for name, i in inside.items()}
