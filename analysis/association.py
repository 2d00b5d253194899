r"""Does a measure of richness or linearity go with o.o.d. accuracy, over the population of runs?

Spearman's rank correlation within environments: environments differ in difficulty, which would
correlate whatever differs between them. Ranks are taken in every environment, centred there, and
pooled,

.. math:: r = \frac{\sum_i \tilde x_i \tilde y_i}
                   {\sqrt{\sum_i \tilde x_i^2 \sum_i \tilde y_i^2}}

The partial correlation does the same with what is left of both ranks after a regression on the
ranks of the i.i.d. accuracy: what the measure knows beyond "better networks are better".

Intervals are percentiles of a bootstrap over runs within environments; p-values permute the
measure within environments. Both take runs for exchangeable within an environment, which runs of
one cell are not quite. All measures together are a family of tests: p-values are adjusted over it
by Holm (no false discovery) or Benjamini and Hochberg (few of them).

Shapes: N runs, B resamples.

References:
    | The Proof and Measurement of Association between Two Things (Spearman, 1904)
    | A Simple Sequentially Rejective Multiple Test Procedure (Holm, 1979)
    | Controlling the False Discovery Rate (Benjamini & Hochberg, 1995)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from statsmodels.stats.multitest import multipletests

from analysis.clusters import PLACE, numbered
from analysis.estimates import Estimate
from analysis.intervals import LEVEL, NUM_RESAMPLES
from analysis.rank_correlation import (
    centred_ranks,
    correlation,
    partial_rank_correlation,
    rank_correlation,
    residual,
)
from core.errors import InputError

LEAST_RUNS = 4  # in an environment; three ranks are in order or not
Correction = Literal["holm", "fdr_bh"]
CORRECTIONS = {"holm": "Holm", "fdr_bh": "Benjamini-Hochberg"}


@dataclass(frozen=True, kw_only=True)
class Association:
    """How a measure goes with the o.o.d. accuracy.

    Attributes:
        measure: Name of the measure.
        plain: Rank correlation within environments, with its 95 % interval.
        partial: The same beyond the i.i.d. accuracy.
        p_plain: p-value of the plain correlation, two-sided, not adjusted.
        p_partial: That of the partial one.
        adjusted_plain: p-value adjusted over all measures.
        adjusted_partial: That of the partial one.
        num_runs: Runs that have the measure.
        num_measures: Size of the family that the adjustment is over.
        correction: How p-values were adjusted.
    """

    measure: str
    plain: Estimate
    partial: Estimate
    p_plain: float
    p_partial: float
    adjusted_plain: float = math.nan
    adjusted_partial: float = math.nan
    num_runs: int
    num_measures: int = 1
    correction: str = ""

    def __str__(self) -> str:
        return (
            f"{self.measure}: {self.plain}, beyond i.i.d. accuracy {self.partial}; p "
            f"{self.adjusted_plain:.3f} and {self.adjusted_partial:.3f} ({self.correction} over "
            f"{self.num_measures} measures)"
        )


def associations(
    runs: pd.DataFrame,
    measures: Sequence[str],
    *,
    correction: Correction = "holm",
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[Association]:
    """Every measure beside the o.o.d. accuracy, in the given order.

    Args:
        runs: Checked runs frame.
        measures: Columns of measures; rows without the measure are left out of it.
        correction: How p-values are adjusted.
        seed: Seed of resamples and permutations.
        num_resamples: How many of either.

    Raises:
        InputError: If there is no measure, a column is missing, or no environment has enough runs
            with the measure.
    """
    missing = [name for name in measures if name not in runs.columns]
    if missing or not measures:
        raise InputError(
            f"the runs have no column {', '.join(missing) or 'of a measure'}; columns of numbers "
            "beside those of every run were expected: join the measures onto the runs"
        )
    found = [_association(runs, name, seed, num_resamples) for name in measures]
    plain = _adjusted([a.p_plain for a in found], correction)
    partial = _adjusted([a.p_partial for a in found], correction)
    family = {"num_measures": len(found), "correction": CORRECTIONS[correction]}
    return [
        replace(a, adjusted_plain=p, adjusted_partial=q, **family)
        for a, p, q in zip(found, plain, partial, strict=True)
    ]


def _association(runs: pd.DataFrame, name: str, seed: int, num: int) -> Association:
    rows = runs.loc[np.isfinite(runs[name].to_numpy(np.float64, na_value=np.nan)), :]
    rows = rows[rows.groupby(PLACE)["ood"].transform("size") >= LEAST_RUNS]
    if rows.empty:
        raise InputError(
            f"no environment has {LEAST_RUNS} runs with {name}; more were expected: measure more "
            "runs, or leave the measure out"
        )
    order = np.argsort(numbered(rows, PLACE), kind="stable")
    rows = rows.iloc[order]
    strata = numbered(rows, PLACE)
    x, y, z = (rows[n].to_numpy(np.float64) for n in (name, "ood", "iid"))
    generator = np.random.default_rng(seed)
    drawn = _within(strata, generator, num, again=True)
    plain, partial = _both(x[drawn], y[drawn], z[drawn], strata)
    p_plain, p_partial = _p_values(x, y, z, strata, _within(strata, generator, num, again=False))
    return Association(
        measure=name,
        plain=_estimate(rank_correlation(x, y, strata), plain),
        partial=_estimate(partial_rank_correlation(x, y, z, strata), partial),
        p_plain=p_plain,
        p_partial=p_partial,
        num_runs=len(rows),
    )


def _within(
    strata: Int[np.ndarray, " N"], generator: np.random.Generator, num: int, *, again: bool
) -> Int[np.ndarray, "B N"]:
    """Positions drawn within strata, with replacement (`again`) or as permutations."""
    parts = []
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        if again:
            parts.append(generator.choice(members, (num, len(members))))
        else:
            parts.append(generator.permuted(np.tile(members, (num, 1)), axis=1))
    return np.concatenate(parts, axis=1)


def _both(
    x: Float[np.ndarray, "B N"],
    y: Float[np.ndarray, "B N"],
    z: Float[np.ndarray, "B N"],
    strata: Int[np.ndarray, " N"],
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    ranks = [centred_ranks(values, strata) for values in (x, y, z)]
    residuals = [residual(values, ranks[2]) for values in ranks[:2]]
    return correlation(*ranks[:2]), correlation(*residuals)


def _p_values(
    x: Float[np.ndarray, " N"],
    y: Float[np.ndarray, " N"],
    z: Float[np.ndarray, " N"],
    strata: Int[np.ndarray, " N"],
    permuted: Int[np.ndarray, "B N"],
) -> tuple[float, float]:
    """Two-sided, of permuted ranks, and of permuted residuals (Freedman and Lane)."""
    ranks = [centred_ranks(values[None], strata) for values in (x, y, z)]
    residuals = [residual(values, ranks[2]) for values in ranks[:2]]
    shuffled = residual(residuals[0][0][permuted], ranks[2])
    plain = correlation(ranks[0][0][permuted], ranks[1])
    partial = correlation(shuffled, residuals[1])
    return (
        _p_value(correlation(*ranks[:2])[0], plain),
        _p_value(correlation(*residuals)[0], partial),
    )


def _p_value(found: float, null: Float[np.ndarray, " B"]) -> float:
    """With the data themselves among the permutations; 1 where the correlation is undefined."""
    rounding = 1e-12
    return float((1 + np.sum(np.abs(null) >= abs(found) - rounding)) / (1 + len(null)))


def _estimate(value: float, drawn: Float[np.ndarray, " B"]) -> Estimate:
    defined = drawn[np.isfinite(drawn)]
    if math.isnan(value) or not len(defined):
        return Estimate(math.nan)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def _adjusted(p_values: Sequence[float], correction: Correction) -> list[float]:
    return np.asarray(multipletests(p_values, method=correction)[1]).tolist()
