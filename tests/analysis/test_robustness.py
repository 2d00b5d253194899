"""Tests for analysis/robustness.py."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from numpy.testing import assert_allclose
from scipy.special import expit, logit

from analysis.robustness import choices, effective_robustness, winning_weights
from core.errors import InputError
from tests.analysis.study_data import grid


def on_the_line(
    seed: int = 0, above: float = 0.0, noise: float = 0.0, **of_grid: tuple
) -> pd.DataFrame:
    """Runs whose o.o.d. logit is 0.7 times the i.i.d. one less an offset of the environment."""
    frame = grid(**of_grid)
    generator = np.random.default_rng(seed)
    iid = generator.uniform(0.8, 0.95, len(frame))
    offset = frame["env"].map({"ink": 0.5, "photo": 1.0, "rotated": 1.5, "sketch": 2.0})
    line = expit(0.7 * logit(iid) - offset) + above
    return frame.assign(iid=iid, ood=line + noise * generator.normal(size=len(frame)))


def test_runs_on_the_line_are_as_robust_as_expected() -> None:
    found = effective_robustness(on_the_line(seed=1, method="dropout"), on_the_line()).estimate
    assert_allclose([found.value, found.low, found.high], 0, atol=1e-12)


def test_what_lies_above_the_line_is_found() -> None:
    found = effective_robustness(on_the_line(seed=1, above=0.02), on_the_line()).estimate
    assert_allclose([found.value, found.low, found.high], 0.02, atol=1e-12)


def test_the_line_is_that_of_statsmodels() -> None:
    baseline, runs = on_the_line(noise=0.01), on_the_line(seed=1, above=0.03, noise=0.01)
    logits = pd.DataFrame(
        {
            "x": logit(baseline["iid"]),
            "y": logit(baseline["ood"]),
            "env": baseline["env"],
        }
    )
    fit = smf.ols("y ~ x + C(env)", logits).fit()
    line = fit.predict(pd.DataFrame({"x": logit(runs["iid"]), "env": runs["env"]}))
    found = effective_robustness(runs, baseline).estimate
    assert_allclose(found.value, (runs["ood"] - expit(line)).mean())
    assert found.low < found.value < found.high


@pytest.mark.slow
def test_its_interval_covers() -> None:
    held = []
    for seed in range(40):
        baseline = on_the_line(seed=seed, noise=0.01)
        runs = on_the_line(seed=seed + 1000, above=0.01, noise=0.01)
        found = effective_robustness(runs, baseline, seed=seed).estimate
        held.append(found.low <= 0.01 <= found.high)
    assert sum(held) >= 33  # fewer happens once in 1,000 to intervals that cover in 95 %


def test_without_a_line_it_is_refused() -> None:
    runs = on_the_line()
    with pytest.raises(InputError, match="8 baseline runs in 4 environments make no line"):
        effective_robustness(runs, on_the_line(cells=("a",)).assign(iid=0.9))
    with pytest.raises(InputError, match="the baseline has no runs in ink; runs in every"):
        effective_robustness(runs, runs[runs["env"] != "ink"])


def test_weights_at_which_a_method_wins_by_hand() -> None:
    means = np.array([[0.9, 0.5], [0.8, 0.6], [0.85, 0.53], [0.7, 0.55]])
    assert_allclose(winning_weights(means, 0), (0.5, 1.0))
    assert_allclose(winning_weights(means, 1), (0.0, 0.5))
    for loser in (2, 3):  # below the segment between the others, and dominated
        assert all(map(math.isnan, winning_weights(means, loser)))


def test_equal_methods_win_together() -> None:
    assert winning_weights(np.array([[0.9, 0.5], [0.9, 0.5]]), 0) == (0.0, 1.0)


def test_the_front_and_the_choice_of_methods() -> None:
    level = {"erm": (0.9, 0.5), "dropout": (0.8, 0.6), "idle": (0.7, 0.55)}
    generator = np.random.default_rng(0)
    rows = {
        name: grid().assign(
            iid=iid + generator.normal(0, 0.001, 48), ood=ood + generator.normal(0, 0.001, 48)
        )
        for name, (iid, ood) in level.items()
    }
    found = choices(rows)
    assert [c.on_front for c in found.values()] == [True, True, False]
    assert_allclose([found["dropout"].high, found["erm"].low], 0.5, atol=0.02)
    assert found["erm"].probability[1.0] == found["dropout"].probability[0.0] == 1
    assert math.isnan(found["idle"].low)
    with pytest.raises(InputError, match="no run is matched in all of erm, other"):
        choices({"erm": rows["erm"], "other": rows["erm"].assign(split=7)})
