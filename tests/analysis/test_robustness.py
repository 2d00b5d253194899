"""Tests for analysis/robustness.py."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from numpy.testing import assert_allclose
from scipy.special import expit, logit

from analysis.robustness import brackets, choices, effective_robustness, winning_weights
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


def by_product(seed: int, ood_noise: float, gain: float = 0.0) -> tuple[pd.DataFrame, ...]:
    """Plain runs and a method of more i.i.d. accuracy; o.o.d. is 0.3 less, plus a gain."""
    generator = np.random.default_rng(seed)
    cells = dict(zip("abcdef", generator.uniform(-0.01, 0.01, 6), strict=True))
    found = []
    for ahead, more in ((0.0, 0.0), (0.02, gain)):
        frame = grid()
        true = 0.85 + ahead + frame["cell"].map(cells)
        iid, ood = generator.normal(size=(2, len(frame)))
        found.append(frame.assign(iid=true + 0.01 * iid, ood=true - 0.3 + more + ood_noise * ood))
    return tuple(found)


def test_runs_on_the_line_are_as_robust_as_expected() -> None:
    runs, baseline = on_the_line(seed=1, method="dropout"), on_the_line()
    assert_allclose([mean.value for mean in brackets(runs, baseline)], 0, atol=1e-12)


def test_what_lies_above_the_line_is_found() -> None:
    found = effective_robustness(on_the_line(seed=1, above=0.02, noise=1e-6), on_the_line())
    assert_allclose(found.value, 0.02, atol=1e-5)
    assert 0.0199 < found.interval()[0] < 0.02 < found.interval()[1] < 0.0201


def test_the_lines_are_those_of_statsmodels() -> None:
    baseline, runs = on_the_line(noise=0.01), on_the_line(seed=1, above=0.03, noise=0.01)
    x, y = logit(baseline["iid"]), logit(baseline["ood"])
    data = pd.DataFrame({"x": x, "y": y, "env": baseline["env"]})
    direct = smf.ols("y ~ x + C(env)", data).fit().params["x"]
    inverse = 1 / smf.ols("x ~ y + C(env)", data).fit().params["y"]
    means = data.groupby("env").mean().loc[runs["env"]]
    away = logit(runs["iid"].to_numpy()) - means["x"].to_numpy()
    found = brackets(runs, baseline)
    for mean, slope in zip(found, (direct, inverse), strict=True):
        line = expit(means["y"].to_numpy() + slope * away)
        assert_allclose(mean.value, (runs["ood"] - line).mean())
        assert mean.interval()[0] < mean.value < mean.interval()[1]
    assert effective_robustness(runs, baseline) in found


@pytest.mark.parametrize("ood_noise", [0.0, 0.005])
def test_a_by_product_of_iid_accuracy_is_no_robustness(ood_noise: float) -> None:
    studies = [by_product(seed, ood_noise) for seed in range(12)]
    above = lambda mean: mean.interval()[0] > 0
    # Noise of the i.i.d. accuracy flattens the line, above which they then lie.
    assert sum(above(brackets(runs, plain)[0]) for plain, runs in studies) >= 6
    assert sum(above(effective_robustness(runs, plain)) for plain, runs in studies) <= 1


def test_the_line_with_less_to_show_decides_and_disagreeing_ones_do_not() -> None:
    plain, runs = by_product(0, 0.005, gain=0.1)
    direct, inverse = brackets(runs, plain)
    assert 0 < inverse.value < direct.value
    assert effective_robustness(runs, plain) == inverse
    found = effective_robustness(*reversed(by_product(0, 0.005)))
    assert not found.has_error and found.reason.startswith("the lines disagree: ")


def test_iid_accuracies_that_do_not_overlap_decide_nothing() -> None:
    plain, runs = by_product(0, 0.005, gain=0.1)
    far = runs.assign(iid=runs["iid"].where(runs["env"] != "ink", 0.95))
    found = effective_robustness(far, plain)
    assert not found.has_error and found.reason.endswith("beyond those of the line in ink")


def test_a_line_that_falls_decides_nothing() -> None:
    plain, runs = by_product(0, 0.005)
    found = effective_robustness(runs, plain.assign(ood=1 - plain["ood"]))
    assert not found.has_error and "does not rise with the i.i.d. accuracy" in found.reason


@pytest.mark.slow
def test_its_interval_covers() -> None:
    held = []
    for seed in range(40):
        baseline = on_the_line(seed=seed, noise=0.01)
        runs = on_the_line(seed=seed + 1000, above=0.01, noise=0.01)
        found = brackets(runs, baseline)[0].estimate  # i.i.d. accuracies have no noise
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


def test_one_run_a_method_tells_no_probability() -> None:
    one = grid(envs=("ink",), cells=("a",), seeds=(0,), iid=0.9)
    found = choices({"erm": one.assign(ood=0.700), "dropout": one.assign(ood=0.701)})
    assert all(math.isnan(p) for choice in found.values() for p in choice.probability.values())


def test_methods_that_are_equal_share_the_probability() -> None:
    rows = on_the_line(noise=0.01)
    found = choices({"erm": rows, "twin": rows, "worse": rows.assign(iid=0.1, ood=0.1)})
    shares = [choice.probability[0.5] for choice in found.values()]
    assert shares[0] == shares[1] == (1 - shares[2]) / 2 and shares[2] < 0.01
