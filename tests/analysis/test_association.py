"""Tests for analysis/association.py."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest

from analysis.association import associations
from core.errors import InputError
from tests.analysis.study_data import accuracies, grid


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
