"""Tests for analysis/association.py."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest

from analysis.association import Association, associations
from core.errors import InputError
from tests.analysis.study_data import accuracies, grid


def at_three_rates() -> pd.DataFrame:
    """Six cells at three rates, 18 settings, with two seeds in four environments."""
    return pd.concat([grid(drop_rate=rate) for rate in (0.0, 0.5, 0.9)], ignore_index=True)


def study(seed: int = 0) -> pd.DataFrame:
    """`good` goes with o.o.d. accuracy, `via` only through the i.i.d. one, `idle` not at all."""
    frame = accuracies(at_three_rates(), ood=0.5, iid=0.9, seed=seed, noise=0.01)
    generator = np.random.default_rng((seed, 1))
    frame["ood"] += frame["iid"] - 0.9
    noise = lambda: 0.005 * generator.normal(size=len(frame))
    frame["via"] = frame["iid"] + noise()
    return frame.assign(good=frame["ood"] + noise(), idle=noise())


def test_measures_that_predict_are_told_from_those_that_do_not() -> None:
    good, via, idle = associations(study(seed=1), ["good", "via", "idle"])
    assert good.plain.low > 0 and good.partial.low > 0 and good.adjusted_partial < 0.01
    assert via.plain.low > 0 and via.adjusted_plain < 0.01 and via.adjusted_partial > 0.05
    assert idle.adjusted_plain > 0.05 and idle.num_runs == 144


def test_p_values_are_adjusted_over_the_family() -> None:
    found = associations(study(), ["good", "via", "idle"])
    p = sorted(a.p_plain for a in found)
    holm = np.minimum(1, np.maximum.accumulate([3 * p[0], 2 * p[1], p[2]]))
    assert_allclose(sorted(a.adjusted_plain for a in found), holm)
    few = associations(study(), ["good", "via", "idle"], correction="fdr_bh")
    expected = [min(3 * p[0], 1.5 * p[1], p[2]), min(1.5 * p[1], p[2]), p[2]]
    assert_allclose(sorted(a.adjusted_plain for a in few), expected)
    assert "Benjamini-Hochberg over 3 measures" in str(few[0])


def in_settings(
    seed: int, *, shared: float, seeds: float = 0.0, slope: float = 0.0, num: int = 1
) -> pd.DataFrame:
    """The same runs, with seeds of its own in every environment.

    Every variable has effects of the setting, of which a share is the same in all environments,
    of the seed and of the run. Beyond `iid`, `ood` goes with `measure` by `slope` only, each
    `via` not at all, and each `idle` has nothing to do with either.
    """
    generator = np.random.default_rng(seed)
    frame = at_three_rates()
    frame["seed"] += 2 * frame.groupby("env").ngroup()
    parts = [(shared, ["cell", "drop_rate"]), (1 - shared, ["env", "cell", "drop_rate"])]
    parts += [(seeds, ["env", "seed"]), (0.25, ["env", "cell", "drop_rate", "seed"])]
    groups = [
        (variance**0.5, frame.groupby(names).ngroup().to_numpy()) for variance, names in parts
    ]

    def variable() -> np.ndarray:
        drawn = [s * generator.normal(size=g.max() + 1)[g] for s, g in groups]
        return np.sum(drawn, axis=0)

    iid, measure = variable(), variable()
    ood = iid + slope * measure + variable()
    more = {f"via{i}": iid + variable() for i in range(num)}
    more |= {f"idle{i}": variable() for i in range(num)}
    return frame.assign(iid=iid, ood=ood, measure=iid + measure, **more)


def of_nothing(studies: int, **of: float) -> tuple[list[Association], list[Association]]:
    """Ten measures a study that know the i.i.d. accuracy only, and ten that know nothing."""
    via, idle = [], []
    for number in range(studies):
        frame = in_settings(number, num=10, **of)
        names = [name for name in frame if name.startswith(("via", "idle"))]
        found = associations(frame, names, num_resamples=199)
        via, idle = [*via, *found[:10]], [*idle, *found[10:]]
    return via, idle


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_p_values_of_nothing_are_uniform(shared: float) -> None:
    via, idle = of_nothing(2, shared=shared)
    for p_values in ([a.p_partial for a in via], [a.p_plain for a in idle]):
        assert kstest(p_values, "uniform").pvalue > 0.01
        assert np.mean(np.array(p_values) <= 0.05) <= 0.15  # 20 coins of 5 %: 98 % of the time


@pytest.mark.slow
@pytest.mark.parametrize(
    "of", [{"shared": 0}, {"shared": 1}, {"shared": 0.5, "seeds": 1}], ids=str
)
def test_tests_and_intervals_of_nothing_err_as_often_as_they_say(of: dict[str, float]) -> None:
    via, idle = of_nothing(40, **of)
    partial = [(a.p_partial, a.partial) for a in via]
    plain = [(a.p_plain, a.plain) for a in idle]
    for results in (partial, plain):  # 400; ten of them share a study
        shares = [
            np.mean([p <= 0.05 for p, _ in results]),
            np.mean([not e.low < 0 < e.high for _, e in results]),
        ]
        assert min(shares) > 0.02 and max(shares) < 0.11


def test_what_goes_with_accuracy_over_settings_is_found() -> None:
    found = [
        associations(in_settings(seed, shared=1, slope=1.5), ["measure"], num_resamples=199)[0]
        for seed in range(4)
    ]
    assert np.mean([a.p_partial <= 0.05 for a in found]) > 0.8
    assert np.mean([a.partial.low > 0 for a in found]) > 0.8


def test_the_p_value_is_the_share_of_all_permutations_of_settings() -> None:
    frame = in_settings(0, shared=0.5, slope=0.5).query("drop_rate < 0.9 and cell < 'c'")
    (found,) = associations(frame, ["measure"])
    places = ["env", "seed"]
    ranks = frame.assign(ood=frame.groupby(places)["ood"].rank())
    wide = ranks.pivot_table(
        index=places, columns=["cell", "drop_rate"], values=["measure", "ood"]
    )
    x, y = (wide[name].rank(axis=1).to_numpy() - 2.5 for name in ("measure", "ood"))
    all_of_them = [(x[:, list(order)] * y).sum() for order in itertools.permutations(range(4))]
    share = np.mean(np.abs(all_of_them) >= abs((x * y).sum()) - 1e-9)
    assert_allclose([found.p_plain, found.smallest_p], [share, 1 / 24])
    assert found.num_settings == 4


def test_few_settings_give_no_p_value_and_no_place_in_the_family() -> None:
    frame = in_settings(0, shared=1, slope=1.0)
    frame["few"] = frame["measure"].where(frame["cell"] == "a")
    few, measure, idle = associations(frame, ["few", "measure", "idle0"])
    assert few.num_settings == 3 and few.plain.value > 0 and math.isnan(few.adjusted_plain)
    assert few.reason.startswith(
        "3 settings of cell and rate, of which no p-value can be below 0.17"
    )
    assert few.reason in str(few) and few.plain.has_interval
    assert measure.num_measures == idle.num_measures == 2
    (alone,) = associations(frame.query("cell == 'a'"), ["few"])
    assert math.isnan(alone.adjusted_partial) and alone.num_measures == 0


def test_a_setting_that_lacks_a_run_trades_places_with_none() -> None:
    frame = in_settings(0, shared=1).query("drop_rate < 0.9 and cell < 'c'")
    lacking = (frame["env"] == "ink") & (frame["cell"] == "a") & (frame["drop_rate"] == 0)
    (found,) = associations(frame[~lacking | (frame["seed"] > 0)], ["measure"])
    assert found.num_runs == 31 and found.num_settings == 4 and "below 0.17" in found.reason


def test_a_measure_that_iid_accuracy_determines_tells_nothing_beyond_it() -> None:
    frame = in_settings(0, shared=1).assign(same=lambda f: f["iid"] ** 3)
    (found,) = associations(frame, ["same"])
    assert found.plain.value > 0 and found.p_plain < 0.05
    assert math.isnan(found.partial.value) and found.p_partial == 1


def test_runs_without_the_measure_are_left_out() -> None:
    frame = study()
    frame.loc[frame["env"] == "ink", "good"] = np.nan
    frame.loc[frame["env"] == "photo", "good"] = np.where(np.arange(36) < 3, 1.0, np.nan)
    assert associations(frame, ["good"])[0].num_runs == 72  # two of a seed are too few


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="no column absent; columns of numbers"):
        associations(study(), ["good", "absent"])
    with pytest.raises(InputError, match="no column of a measure"):
        associations(study(), [])
    with pytest.raises(InputError, match="no environment and seed has 3 runs with good"):
        associations(study().iloc[:3], ["good"])
