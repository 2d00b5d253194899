"""Tests for analysis/selection.py."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

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
    assert not iid.price.has_interval and "nothing varies" in iid.reason


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


def test_prices_have_intervals_over_cells() -> None:
    found = {s.rule: s.price for s in selections(study(0.001))}
    assert found["oracle"].low == found["oracle"].high == 0
    assert found["iid"].low < 0.17 / 4 < found["iid"].high


def test_the_rate_and_the_cell_are_chosen_together() -> None:
    found = selections(study(0.0001), by=("drop_rate", "cell"))
    oracle = found[0].chosen["photo"]
    assert oracle[0] == 0.9 and oracle[1] in set("abcdef")
    assert "one cell" in found[0].reason


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(InputError, match="the runs hold 1 candidates by drop_rate"):
        selections(study(0.001).query("drop_rate == 0"))
    with pytest.raises(InputError, match=r"the fixed candidate \(0.3,\) is none of those"):
        selections(study(0.001), fixed=(0.3,))
