"""Tests for analysis/selection.py."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import t

from analysis.selection import selections
from core.errors import InputError
from tests.analysis.study_data import accuracies, grid

RATES = (0.0, 0.5, 0.9, 0.95)
# Cloud means of the paper's Figure 3, in percent: i.i.d. and o.o.d. at the four rates.
PAPER = {
    "VLCS": [(87.38, 78.73), (87.59, 79.57), (87.38, 80.00), (87.31, 79.86)],
    "OfficeHome": [(84.86, 70.81), (85.95, 72.90), (85.86, 73.44), (85.13, 72.87)],
    "PACS": [(97.52, 86.48), (97.69, 87.52), (97.81, 88.41), (97.87, 88.53)],
    "TerraIncognita": [(91.33, 51.31), (90.08, 53.12), (87.87, 53.64), (86.60, 52.30)],
}
CHOSEN = {"VLCS": 0.5, "OfficeHome": 0.5, "PACS": 0.95, "TerraIncognita": 0.0}
PRICES = {"VLCS": 0.43, "OfficeHome": 0.54, "PACS": 0.0, "TerraIncognita": 2.33}


@pytest.mark.parametrize("dataset", list(PAPER))
def test_iid_selection_of_the_rate_costs_what_the_papers_figure_says(dataset: str) -> None:
    numbers = np.array(PAPER[dataset]) / 100
    frame = pd.concat(
        [
            grid(envs=("all",), cells=("a",), seeds=(0,), drop_rate=rate, iid=iid, ood=ood)
            for rate, (iid, ood) in zip(RATES, numbers.tolist(), strict=True)
        ]
    )
    iid = next(found for found in selections(frame) if found.rule == "iid")
    assert iid.chosen == {"all": (CHOSEN[dataset],)}
    assert_allclose(100 * iid.price.value, PRICES[dataset], atol=1e-9)
    assert not iid.price.has_interval and iid.reason.startswith("chosen and priced on the same")


def study(noise: float, seed: int = 0) -> pd.DataFrame:
    """The best rate is 0.9 in three environments and 0 in `ink`; i.i.d. accuracy prefers 0.5."""
    parts = []
    for number, (rate, iid) in enumerate([(0.0, 0.90), (0.5, 0.92), (0.9, 0.91)]):
        frame = grid(drop_rate=rate)
        in_ink = (frame["env"] == "ink").to_numpy()
        ood = np.where(in_ink, 0.5 - rate / 10, 0.5 + rate / 10)
        parts.append(accuracies(frame, ood, iid, seed=seed + number, noise=noise))
    return pd.concat(parts)


def test_every_rule_chooses_as_it_should() -> None:
    by_rule = {found.rule: found for found in selections(study(0.0001), fixed=(0.9,))}
    for env, best in {"ink": 0.0, "photo": 0.9, "rotated": 0.9, "sketch": 0.9}.items():
        assert by_rule["oracle"].chosen[env] == (best,)
        assert by_rule["iid"].chosen[env] == (0.5,)
        assert by_rule["leave_one_domain_out"].chosen[env] == (0.9,)
        assert by_rule["fixed"].chosen[env] == (0.9,)
    prices = [by_rule[rule].price.value for rule in by_rule]
    assert_allclose(prices, [0, (0.05 + 3 * 0.04) / 4, 0.09 / 4, 0.09 / 4], atol=0.001)


def test_prices_of_real_differences_have_intervals_around_the_truth() -> None:
    oracle, iid, _ = selections(study(0.005))
    assert oracle.price.value == 0 and not oracle.price.has_interval and not oracle.reason
    assert 0 < iid.price.low < 0.17 / 4 < iid.price.high
    assert iid.reason == ""
    assert_allclose(oracle.ood - iid.ood, iid.price.value)


def alike(seed: int, *, cells: float = 0.0, seeds: float = 0.0, apart: int = 0) -> pd.DataFrame:
    """Three rates, none better: they differ by chance with every cell, seed and run.

    Environments have seeds of their own, `apart` from those of the one before.
    """
    generator = np.random.default_rng(seed)
    frame = pd.concat([grid(cells=("a", "b", "c", "d"), drop_rate=rate) for rate in RATES[:3]])
    frame = frame.reset_index(drop=True)
    for split in ("iid", "ood"):
        noise = 0.01 * generator.normal(size=len(frame))
        for spread, names in ((cells, ["cell"]), (seeds, ["env", "seed"])):
            group = frame.groupby([*names, "drop_rate"]).ngroup().to_numpy()
            noise += spread * generator.normal(size=group.max() + 1)[group]
        frame[split] = 0.7 + noise
    env = frame.groupby("env").ngroup()
    return frame.assign(seed=frame["seed"] + apart * env)


def errors(num: int, **spread: float) -> tuple[float, float]:
    """Shares of prices above 0, and not 0, where every price is 0; no bias."""
    found = [
        one.price
        for seed in range(num)
        for one in selections(alike(seed, apart=5, **spread), fixed=(0.5,))[1:]
    ]
    values = np.array([price.value for price in found])
    # Rules of one study go together: their mean is as uncertain as that of `num` at most.
    assert abs(values.mean()) < 3 * values.std() / num**0.5
    assert (values < 0).mean() > 0.2
    above = float(np.mean([price.low > 0 for price in found]))
    return above, above + float(np.mean([price.high < 0 for price in found]))


def test_where_no_candidate_is_better_no_rule_has_a_price() -> None:
    above, wrong = errors(16, cells=0.01, seeds=0.01)
    assert above <= 2 / 48 and wrong <= 4 / 48


@pytest.mark.slow
@pytest.mark.parametrize("spread", [{}, {"cells": 0.01}, {"seeds": 0.01}], ids=str)
def test_intervals_of_prices_of_nothing_err_less_often_than_they_say(
    spread: dict[str, float],
) -> None:
    above, wrong = errors(200, **spread)
    assert above < 0.04 and wrong < 0.05


def test_labels_of_seeds_do_not_matter() -> None:
    shared, own = (selections(alike(0, apart=apart), fixed=(0.5,)) for apart in (0, 5))
    assert [vars(one) for one in shared[1:]] == [vars(one) for one in own[1:]]


def by_rate(frame: pd.DataFrame, where: str, column: str = "ood") -> np.ndarray:
    """Means at every rate, in their order."""
    rows = frame.query(where)
    return rows.pivot_table(index="drop_rate", values=column)[column].to_numpy(np.float64)


def test_the_price_is_that_of_choices_on_runs_without_the_cell_and_seed_of_the_fold() -> None:
    frame = alike(1).query("not (env == 'ink' and cell == 'a' and seed == 0)")
    prices: dict[str, list[float]] = {}
    for env, cell, seed in frame.groupby(["env", "cell", "seed"]).groups:
        at = by_rate(frame, f"env == '{env}' and cell == '{cell}' and seed == {seed}")
        others = f"env == '{env}' and cell != '{cell}' and seed != {seed}"
        best, picked = (by_rate(frame, others, name).argmax() for name in ("ood", "iid"))
        prices.setdefault(env, []).append(at[best] - at[picked])
    iid = selections(frame)[1]
    assert_allclose(iid.price.value, np.mean([np.mean(p) for p in prices.values()]))


def test_intervals_widen_as_folds_share_the_runs_they_are_chosen_on() -> None:
    frame = alike(2).query("seed == 0")
    fixed = selections(frame, fixed=(0.5,))[-1]
    prices = np.zeros((4, 4))
    for i, cell in enumerate("abcd"):
        for j, env in enumerate(sorted(set(frame["env"]))):
            at = by_rate(frame, f"env == '{env}' and cell == '{cell}'")
            others = by_rate(frame, f"env == '{env}' and cell != '{cell}'")
            prices[i, j] = at[others.argmax()] - at[1]
    half = t.ppf(0.975, 3) * np.std(prices.mean(1), ddof=1) * (1 / 4 + 1 / 3) ** 0.5
    assert_allclose(fixed.price.high - fixed.price.value, half)
    assert fixed.reason == "over cells, for these seeds"


def test_the_rate_and_the_cell_are_chosen_together() -> None:
    found = selections(study(0.0001), by=("drop_rate", "cell"))
    oracle = found[0].chosen["photo"]
    assert oracle[0] == 0.9 and oracle[1] in set("abcdef")
    assert found[1].reason == "over seeds and splits, for these cells"


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(InputError, match="the runs hold 1 candidates by drop_rate"):
        selections(study(0.001).query("drop_rate == 0"))
    with pytest.raises(InputError, match=r"the fixed candidate \(0.3,\) is none of those"):
        selections(study(0.001), fixed=(0.3,))
