"""Tests for analysis/linear_counterparts.py: pairs, words and the verdict on claim C13."""

import numpy as np
import pandas as pd
import pytest

from analysis.linear_counterparts import contrasts, linear_model_verdicts
from analysis.runs import check_runs
from core.errors import InputError
from tests.analysis.study_data import accuracies, grid

SEEDS = tuple(range(6))


def study(*, best: float = 0.0, final_iid: float = 0.0, noise: float = 0.0005) -> pd.DataFrame:
    """Runs of the network and of model (1), whose accuracy differs by so much."""
    parts = []
    for selection in ("best", "final"):
        of = {"cells": ("a",), "seeds": SEEDS, "selection": selection}
        network = grid(**of)
        model = grid(**of | {"cells": ("another",)}, method="linear")
        gap = best if selection == "best" else 0.0
        iid = final_iid if selection == "final" else 0.0
        parts.append(accuracies(network, 0.6, 0.8, seed=1, noise=noise))
        parts.append(accuracies(model, 0.6 + gap, 0.8 + iid, seed=2, noise=noise))
    return check_runs(pd.concat(parts))


def word(runs: pd.DataFrame) -> str:
    (verdict,) = linear_model_verdicts(contrasts(runs))
    return verdict.word


def test_a_model_that_decides_as_well_everywhere_supports_the_claim() -> None:
    assert word(study()) == "supported"


@pytest.mark.parametrize("gap", [{"best": -0.03}, {"best": 0.03}, {"final_iid": -0.03}])
def test_one_difference_beyond_the_margin_contradicts_it(gap: dict[str, float]) -> None:
    assert word(study(**gap)) == "contradicted"


def test_noise_decides_nothing() -> None:
    assert word(study(noise=0.05)) == "inconclusive"


def test_one_seed_has_no_interval_and_decides_nothing() -> None:
    runs = study(best=-0.3)
    (verdict,) = linear_model_verdicts(contrasts(runs.loc[runs["seed"] == 0].reset_index()))
    assert verdict.word == "inconclusive" and np.isnan(verdict.low)
    assert "nothing varies" in verdict.sentence


def test_differences_are_means_of_pairs_of_equal_environment_and_seed() -> None:
    runs = study(noise=0.01)
    found = next(c for c in contrasts(runs) if (c.selection, c.split) == ("best", "ood"))
    of = runs.loc[runs["selection"] == "best", :].set_index(["env", "seed"])
    differences = (
        of.loc[of["method"] == "linear", "ood"] - of.loc[of["method"] == "erm", "ood"]
    )
    assert found.mean.value == pytest.approx(differences.mean())
    assert found.mean.num == len(differences) == 4 * len(SEEDS)
    assert found.runs == tuple(sorted(runs.index[runs["selection"] == "best"]))


def test_rates_are_compared_apart() -> None:
    plain = study()
    dropped = study(best=0.1).assign(drop_rate=0.9)
    dropped["method"] = dropped["method"].replace("erm", "dropout")
    verdicts = linear_model_verdicts(contrasts(check_runs(pd.concat([plain, dropped]))))
    assert [verdict.word for verdict in verdicts] == ["supported", "contradicted"]
    assert "dropout 0.9" in verdicts[1].run


def test_a_counterpart_without_its_run_is_refused() -> None:
    runs = study()
    alone = check_runs(runs.loc[runs["method"] == "linear"])
    with pytest.raises(InputError, match=r"no run of model \(1\)"):
        contrasts(alone)
