r"""Does a measure of richness or linearity go with o.o.d. accuracy, over the population of runs?

Spearman's rank correlation within environments and seeds: environments differ in difficulty, and
seeds in their hold-out and the start of their head, which would correlate whatever differs between
them. Ranks are taken among the runs of one environment, seed and split, centred there, and pooled,

.. math:: r = \frac{\sum_i \tilde x_i \tilde y_i}
                   {\sqrt{\sum_i \tilde x_i^2 \sum_i \tilde y_i^2}}

The partial correlation does the same with what is left of both ranks after a regression on the
ranks of the i.i.d. accuracy: what the measure knows beyond "better networks are better".

A measure may go with o.o.d. accuracy over settings, the pairs of a cell and a dropout rate. Runs
of one setting move together, and settings are the same in every environment: neither runs nor
environments are independent. Both intervals and p-values therefore take settings as a whole, with
all their seeds, and alike in all environments.

p-values
    The measure's ranks (for the partial correlation, what the regression leaves of them) change
    places between settings, in all environments and seeds at once. All permutations are taken
    where there are few. Of n settings the smallest p-value is 1 / n!, so that three can never
    reach 5 %: then there is no p-value, and no place in the family. A setting that lacks a run
    trades places only with those that lack the same.
Intervals
    The jackknife that leaves out one setting at a time gives the error of r, and Student's t the
    interval of Fisher's z, the inverse hyperbolic tangent of r, whose error is that of r over
    :math:`1 - r^2`. There is a degree of freedom a setting less one, and one less for the
    regression. The interval is about settings like these, in these environments.

Settings are taken for exchangeable: a measure that goes with o.o.d. accuracy because both follow
the dropout rate is associated with it. Where measure and accuracy have nothing in common, in
simulated studies of 18 settings with two seeds in four environments, the plain p-value is below
5 % in 5 % to 6 % of studies, whether settings act alike in all environments or not (single runs,
permuted within environments, have it in up to half of them). Where all they have in common is the
i.i.d. accuracy, the partial one is in 6 % to 7 %, and of 6 settings in 10 %: ranks do not tell how
far i.i.d. accuracies are apart, so that a little of what it explains is left in both. Intervals
miss 0 in 2 % to 6 %.

All measures together are a family of tests: p-values are adjusted over it by Holm (no false
discovery) or Benjamini and Hochberg (few of them).

Shapes: N runs, S settings, B permutations.

References:
    | The Proof and Measurement of Association between Two Things (Spearman, 1904)
    | A Simple Sequentially Rejective Multiple Test Procedure (Holm, 1979)
    | Controlling the False Discovery Rate (Benjamini & Hochberg, 1995)
    | The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), chapter 3
    | A Nonstochastic Interpretation of Reported Significance Levels (Freedman & Lane, 1983)
    | Permutation Inference for the General Linear Model (Winkler et al., 2014)
    | https://doi.org/10.1016/j.neuroimage.2014.01.060
    | Covariate-adjusted Spearman's Rank Correlation with Probability-scale Residuals (Liu et al.,
      2018), on what partial rank correlations leave
    | A Modified Bonferroni Method for Discrete Data (Tarone, 1990), on tests that cannot reach the
      level
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from statsmodels.stats.multitest import multipletests

from analysis.bootstrap import Mean
from analysis.clusters import PLACE, numbered
from analysis.estimates import Estimate
from analysis.intervals import LEVEL, NUM_RESAMPLES
from analysis.permutations import exchangeable, num_permutations, permutations
from analysis.rank_correlation import centred_ranks, correlation, residual
from core.errors import InputError

LEAST_RUNS = 3  # of one environment, seed and split
SETTING = ["dataset", "cell", "drop_rate"]  # what moves together
STRATUM = [*PLACE, "seed", "split"]  # what ranks are taken in
ALPHA = round(1 - LEVEL, 9)
PERFECT = 1 - 1e-9  # a correlation above shows no error
Correction = Literal["holm", "fdr_bh"]
CORRECTIONS = {"holm": "Holm", "fdr_bh": "Benjamini-Hochberg"}
Rows = Float[np.ndarray, " N"]
Labels = Int[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True)
class Association:
    """How a measure goes with the o.o.d. accuracy.

    Attributes:
        measure: Name of the measure.
        plain: Rank correlation within environments, with its 95 % interval over settings.
        partial: The same beyond the i.i.d. accuracy.
        p_plain: p-value of the plain correlation, two-sided, not adjusted; NaN where no p-value
            can reach 5 %.
        p_partial: That of the partial one.
        adjusted_plain: p-value adjusted over all measures that have one.
        adjusted_partial: That of the partial one.
        smallest_p: The smallest p-value that so few settings allow.
        num_runs: Runs that have the measure.
        num_settings: Settings of these runs.
        num_measures: Size of the family that the adjustment is over.
        correction: How p-values were adjusted.
        reason: Why there is no p-value; empty where there is one.
    """

    measure: str
    plain: Estimate
    partial: Estimate
    p_plain: float
    p_partial: float
    adjusted_plain: float = math.nan
    adjusted_partial: float = math.nan
    smallest_p: float
    num_runs: int
    num_settings: int
    num_measures: int = 1
    correction: str = ""
    reason: str = ""

    def __str__(self) -> str:
        found = f"{self.measure}: {self.plain}, beyond i.i.d. accuracy {self.partial}; "
        if self.reason:
            return found + self.reason
        return found + (
            f"p {self.adjusted_plain:.3f} and {self.adjusted_partial:.3f} ({self.correction} over "
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
        seed: Seed of the permutations.
        num_resamples: How many, at most.

    Raises:
        InputError: If there is no measure, a column is missing, or no environment and seed has
            enough runs with the measure.
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
    family = {
        "num_measures": sum(not a.reason for a in found),
        "correction": CORRECTIONS[correction],
    }
    return [
        replace(a, adjusted_plain=p, adjusted_partial=q, **family)
        for a, p, q in zip(found, plain, partial, strict=True)
    ]


def _association(runs: pd.DataFrame, name: str, seed: int, num: int) -> Association:
    rows = with_measure(runs, name)
    if rows.empty:
        raise InputError(
            f"no environment and seed has {LEAST_RUNS} runs with {name}; more were expected: "
            "measure the same seeds in more cells or at more rates, or leave the measure out"
        )
    stratum, setting = numbered(rows, STRATUM), numbered(rows, SETTING)
    x, y, z = (rows[n].to_numpy(np.float64) for n in (name, "ood", "iid"))
    plain, partial = _estimates((x, y, z), stratum, setting, numbered(rows, ["dataset"]))
    groups = exchangeable(setting, stratum)
    smallest = 1 / min(num_permutations(groups), num)
    p_plain = p_partial = math.nan
    if smallest <= ALPHA:
        p_plain, p_partial = _p_values(
            (x, y, z), stratum, permutations(groups, seed=seed, num=num)
        )
    num_settings = len(np.unique(setting))
    return Association(
        measure=name,
        plain=plain,
        partial=partial,
        p_plain=p_plain,
        p_partial=p_partial,
        smallest_p=smallest,
        num_runs=len(rows),
        num_settings=num_settings,
        reason="" if smallest <= ALPHA else _too_few(num_settings, smallest),
    )


def with_measure(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Runs that have a measure, of environments and seeds with enough of them to be ranked."""
    rows = runs.loc[np.isfinite(runs[name].to_numpy(np.float64, na_value=np.nan)), :]
    return rows[rows.groupby(STRATUM)["ood"].transform("size") >= LEAST_RUNS]


def _too_few(num_settings: int, smallest: float) -> str:
    named = f"{num_settings} setting{'s' * (num_settings > 1)}"
    return (
        f"{named} of cell and rate, of which no p-value can be below {smallest:.2g}: no verdict "
        f"at {ALPHA:.0%}"
    )


def _estimates(
    variables: tuple[Rows, Rows, Rows], stratum: Labels, setting: Labels, dataset: Labels
) -> list[Estimate]:
    """The plain and the partial correlation."""
    numbers = np.unique(setting)
    found = _both(variables, stratum, np.ones((1, len(stratum))))
    without = _both(variables, stratum, (setting != numbers[:, None]).astype(np.float64))
    of_setting = np.array([dataset[setting == number][0] for number in numbers])
    return [
        _estimate(float(whole[0]), left, of_setting, used)
        for whole, left, used in zip(found, without, (0, 1), strict=True)
    ]


def _both(
    variables: tuple[Rows, Rows, Rows], stratum: Labels, weights: Float[np.ndarray, "B N"]
) -> list[Float[np.ndarray, " B"]]:
    x, y, z = (centred_ranks(values, stratum, weights) for values in variables)
    left_x, left_y = (residual(ranks, z, weights) for ranks in (x, y))
    return [correlation(x, y, weights), correlation(left_x, left_y, weights)]


def _p_values(
    variables: tuple[Rows, Rows, Rows], stratum: Labels, permuted: Int[np.ndarray, "B N"]
) -> tuple[float, float]:
    """Two-sided, of permuted ranks, and of permuted residuals (Freedman and Lane)."""
    ones = np.ones((1, len(stratum)))
    x, y, z = (centred_ranks(values, stratum, ones) for values in variables)
    left_x, left_y = (residual(ranks, z, ones) for ranks in (x, y))
    shuffled = residual(left_x[0][permuted], z, ones)
    return (
        _p_value(correlation(x[0][permuted], y, ones)),
        _p_value(correlation(shuffled, left_y, ones)),
    )


def _p_value(null: Float[np.ndarray, " B"]) -> float:
    """The first is that of the data; 1 where it is undefined."""
    rounding = 1e-12
    if math.isnan(null[0]):
        return 1.0
    return float(np.mean(np.abs(null) >= abs(null[0]) - rounding))


def _estimate(
    value: float, without: Float[np.ndarray, " S"], dataset: Int[np.ndarray, " S"], used: int
) -> Estimate:
    """Student's t on the scale of Fisher's z; none of a perfect or an undefined correlation."""
    sizes = np.bincount(dataset)[dataset]
    centre = np.bincount(dataset, without)[dataset] / sizes
    variance = float(((sizes - 1) / sizes * (without - centre) ** 2).sum())
    degrees = len(dataset) - len(np.unique(dataset)) - used
    if math.isnan(value + variance) or degrees < 1 or abs(value) > PERFECT:
        return Estimate(value)
    stderr = math.sqrt(variance) / (1 - value**2)
    z = Mean(value=math.atanh(value), stderr=stderr, degrees=float(degrees), num=len(dataset))
    low, high = np.tanh(z.interval()).tolist()
    return Estimate(value, low, high)


def _adjusted(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Over those that are known."""
    adjusted = np.array(p_values)
    known = ~np.isnan(adjusted)
    if known.any():
        adjusted[known] = multipletests(adjusted[known], method=correction)[1]
    return adjusted.tolist()
