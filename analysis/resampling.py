"""Any statistic of weighted runs: the rescaled bootstrap over the clusters that vary.

The percentile bootstrap of a few clusters is too narrow; drawing n - 1 of n of them, each weighed
by n / (n - 1), has the variance of the statistic of n clusters, and Student's t makes an interval
of it. Means have the same interval in closed form (`analysis.bootstrap`).

Shapes: N rows, B resamples.

References:
    | Some Recent Work on Resampling Methods for Complex Surveys (Rao, Wu & Yue, 1992)
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from analysis.bootstrap import NUM_DRAWS, Mean, Rows
from analysis.clusters import Clusters

UNDEFINED = 0.01  # largest share of resamples on which a statistic may be undefined


def resample_weights(
    design: Clusters, *, seed: int = 0, num_draws: int = NUM_DRAWS
) -> Float[np.ndarray, "B N"]:
    """How often each resample holds each row, rescaled: n - 1 of n clusters of every stratum.

    Example:
        >>> import pandas as pd
        >>> from analysis.clusters import clusters
        >>> frame = pd.DataFrame({"cell": list("aabb"), "seed": [0, 1, 0, 1]})
        >>> design = clusters(frame.assign(dataset="d", env="x", split=0))
        >>> resample_weights(design, num_draws=50).max(0)
        array([2., 2., 2., 2.])
    """
    generator = np.random.default_rng(seed)
    counts = np.empty((num_draws, int(design.cluster.max()) + 1))
    for stratum in range(len(design.sizes)):
        members = np.unique(design.cluster[design.stratum == stratum])
        num = len(members)
        draws = generator.multinomial(num - 1, np.full(num, 1 / num), num_draws)
        counts[:, members] = draws * num / (num - 1)
    return counts[:, design.cluster]


def bootstrap_estimate(
    statistic: Callable[[Rows], float],
    design: Clusters,
    *,
    seed: int = 0,
    num_draws: int = 1000,
) -> Mean:
    """A statistic of weighted rows with its error by the rescaled bootstrap.

    The error is the spread over the resamples. There is none where nothing varies, or where the
    statistic is undefined on more than 1 % of the resamples.

    Args:
        statistic: From weights of the rows, all ones for the runs as they are, to a number.
        design: The clusters of the rows.
        seed: Seed of the draws.
        num_draws: How many.
    """
    num = len(design.cluster)
    found = Mean(
        value=float(statistic(np.ones(num))), num=num, varies=design.varies, reason=design.reason
    )
    if not design.varies:
        return found
    weights = resample_weights(design, seed=seed, num_draws=num_draws)
    drawn = np.array([statistic(row) for row in weights])
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < (1 - UNDEFINED) * num_draws:
        return replace(found, reason=f"undefined on {num_draws - len(defined)} resamples")
    degrees = float((design.sizes - 1).sum())
    return replace(found, stderr=float(np.std(defined, ddof=1)), degrees=degrees)
