"""Tests for analysis/association.py."""

import math

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest, pearsonr, rankdata, spearmanr

from analysis.association import associations, partial_rank_correlation, rank_correlation
from core.errors import InputError
from tests.analysis.study_data import accuracies, grid


def three(num: int, seed: int = 0) -> np.ndarray:
    """Three variables that go together."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=num) + generator.normal(size=(3, num))


def test_in_one_stratum_it_is_spearmans() -> None:
    x, y, z = three(20)
    strata = np.zeros(20, np.int64)
    assert_allclose(rank_correlation(x, y, strata), spearmanr(x, y).statistic)
    rxy, rxz, ryz = (spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (rxy - rxz * ryz) / math.sqrt((1 - rxz**2) * (1 - ryz**2))
    assert_allclose(partial_rank_correlation(x, y, z, strata), expected)


def test_what_differs_between_strata_makes_no_correlation() -> None:
    x, y, _ = three(40)
    strata = np.repeat(np.arange(4), 10)
    ranked = [np.concatenate([rankdata(v[strata == s]) - 5.5 for s in range(4)]) for v in (x, y)]
    found = rank_correlation(x + 100 * strata, y - 50 * strata, strata)
    assert_allclose(found, pearsonr(*ranked).statistic)


def test_what_does_not_vary_has_no_correlation() -> None:
    assert math.isnan(rank_correlation(np.ones(8), np.arange(8.0), np.zeros(8, np.int64)))


def study(seed: int = 0) -> pd.DataFrame:
    """`good` goes with o.o.d. accuracy, `via` only through the i.i.d. one, `idle` not at all."""
    frame = accuracies(grid(), ood=0.5, iid=0.9, seed=seed, noise=0.01)
    generator = np.random.default_rng((seed, 1))
    frame["ood"] += frame["iid"] - 0.9
    noise = lambda: 0.005 * generator.normal(size=len(frame))
    frame["via"] = frame["iid"] + noise()
    return frame.assign(good=frame["ood"] + noise(), idle=noise())


def test_measures_that_predict_are_told_from_those_that_do_not() -> None:
    good, via, idle = associations(study(seed=1), ["good", "via", "idle"])
    assert good.plain.low > 0 and good.partial.low > 0 and good.adjusted_partial < 0.01
    assert via.plain.low > 0 and via.adjusted_plain < 0.01 and via.adjusted_partial > 0.05
    assert idle.adjusted_plain > 0.05 and idle.num_runs == 48


def test_p_values_are_adjusted_over_the_family() -> None:
    found = associations(study(), ["good", "via", "idle"])
    p = sorted(a.p_plain for a in found)
    holm = np.minimum(1, np.maximum.accumulate([3 * p[0], 2 * p[1], p[2]]))
    assert_allclose(sorted(a.adjusted_plain for a in found), holm)
    few = associations(study(), ["good", "via", "idle"], correction="fdr_bh")
    expected = [min(3 * p[0], 1.5 * p[1], p[2]), min(1.5 * p[1], p[2]), p[2]]
    assert_allclose(sorted(a.adjusted_plain for a in few), expected)
    assert "Benjamini-Hochberg over 3 measures" in str(few[0])


def test_p_values_of_nothing_are_uniform() -> None:
    generator = np.random.default_rng(0)
    idle = {f"idle{number}": generator.normal(size=48) for number in range(60)}
    found = associations(study().assign(**idle), list(idle), num_resamples=199)
    for p_values in ([a.p_plain for a in found], [a.p_partial for a in found]):
        assert kstest(p_values, "uniform").pvalue > 0.01


def test_runs_without_the_measure_are_left_out() -> None:
    frame = study()
    frame.loc[frame["env"] == "ink", "good"] = np.nan
    frame.loc[frame["env"] == "photo", "good"] = np.where(np.arange(12) < 3, 1.0, np.nan)
    assert associations(frame, ["good"])[0].num_runs == 24  # three runs are too few


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="no column absent; columns of numbers"):
        associations(study(), ["good", "absent"])
    with pytest.raises(InputError, match="no column of a measure"):
        associations(study(), [])
    with pytest.raises(InputError, match="no environment has 4 runs with good"):
        associations(study().iloc[:3], ["good"])
