r"""Bootstrap intervals over examples for ratios of sums.

Almost every measurement here is a function of :math:`\sum_i a_i / \sum_i b_i` over examples. A
resample draws, within each environment, as many examples as there are; it is stored as how often
each example was drawn, so that one matrix product evaluates every statistic on every resample,
and statistics of several runs on the same examples are paired.

Shapes: N examples, B resamples, F points of a curve, S draws.

References:
    | An Introduction to the Bootstrap (Efron & Tibshirani, 1993), chapters 8 and 13
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binomtest

LEVEL = 0.95
NUM_RESAMPLES = 1000

Counts = Float[np.ndarray, "B N"]
Row = dict[str, Any]


def bootstrap_counts(
    strata: Mapping[str, int], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Counts:
    """How often each resample draws each example, one stratum (environment) after the other.

    A stratum's draws depend on the seed, its name and its size only.

    Example:
        >>> counts = bootstrap_counts({"ink": 3, "photo": 2}, num_resamples=4)
        >>> counts.shape, bool((counts[:, :3].sum(1) == 3).all())
        ((4, 5), True)
    """
    return np.concatenate(
        [_stratum(name, size, seed, num_resamples) for name, size in strata.items()], axis=1
    )


def _stratum(name: str, size: int, seed: int, num_resamples: int) -> Counts:
    digest = hashlib.sha256(f"{seed}/{name}/{size}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8]))
    return generator.multinomial(size, np.full(size, 1 / size), num_resamples).astype(np.float64)


def interval(value: float, resampled: Float[np.ndarray, " B"], num_examples: int) -> Row:
    """Value, standard error and percentile interval.

    There is none for a single example, or where the statistic is undefined on some resample (a
    denominator of zero).
    """
    row: Row = {"value": float(value), "num_examples": num_examples}
    if num_examples < 2 or not np.isfinite(resampled).all():
        return row
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return row | {"stderr": float(np.std(resampled, ddof=1)), "low": low, "high": high}


def ratio_interval(
    numerator: Float[np.ndarray, " N"],
    denominator: Float[np.ndarray, " N"],
    counts: Counts,
    transform: Callable[[np.ndarray], np.ndarray] = lambda ratio: ratio,
) -> Row:
    r"""Interval of a function of :math:`\sum_i a_i / \sum_i b_i`."""
    value, resampled = ratio(numerator, denominator, counts)
    return interval(float(transform(value)), transform(resampled), len(numerator))


def ratio(
    numerator: Float[np.ndarray, " N"], denominator: Float[np.ndarray, " N"], counts: Counts
) -> tuple[np.ndarray, Float[np.ndarray, " B"]]:
    """The ratio of sums, on the examples and on every resample."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.asarray(numerator.sum() / denominator.sum())
        return value, (counts @ numerator) / (counts @ denominator)


def proportion_interval(successes: Float[np.ndarray, " N"]) -> Row:
    """Wilson's interval of a proportion, which is honest near 0 and 1 where a bootstrap is not.

    Example:
        >>> proportion_interval(np.ones(10))["low"] < 1
        True
    """
    num, total = len(successes), round(float(successes.sum()))
    wilson = binomtest(total, num).proportion_ci(LEVEL, method="wilson")
    value = total / num
    return {
        "value": value,
        "stderr": float(np.sqrt(value * (1 - value) / num)),
        "low": float(wilson.low),
        "high": float(wilson.high),
        "num_examples": num,
    }


def crossed_means(
    correct: Bool[np.ndarray, "F S N"], *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "B F"]]:
    """Means over S draws and N examples, also with both drawn again, independently.

    Draws and examples are two samples that cross; this is somewhat conservative.

    References:
        | The Pigeonhole Bootstrap (Owen, 2007), https://doi.org/10.1214/07-AOAS122
    """
    num_points, draws, num = correct.shape
    drawn = {"seed": seed, "num_resamples": num_resamples}
    of_examples = bootstrap_counts({"test examples": num}, **drawn) / num
    of_draws = bootstrap_counts({"subsets": draws}, **drawn) / draws
    means = of_examples @ correct.reshape(-1, num).T.astype(np.float64)
    means = means.reshape(-1, num_points, draws)
    return correct.mean((1, 2)), np.einsum("bfs,bs->bf", means, of_draws)


def curve_interval(
    curve: Sequence[tuple[np.ndarray, np.ndarray]],
    counts: Counts,
    statistic: Callable[[Float[np.ndarray, "... A"]], np.ndarray],
) -> Row:
    """Interval of a statistic of a whole curve of ratios, such as its largest value."""
    points = [ratio(numerator, denominator, counts) for numerator, denominator in curve]
    value = statistic(np.array([value for value, _ in points]))
    resampled = statistic(np.stack([resampled for _, resampled in points], axis=-1))
    return interval(float(value), resampled, len(curve[0][0]))
