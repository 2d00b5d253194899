"""Tests for analysis/linear_counterparts.py: pairs and words."""

import numpy as np
import pandas as pd
import pytest

from analysis.linear_counterparts import ON_KERNEL_IMAGES, contrasts
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


def test_every_difference_has_its_word() -> None:
    found = {(c.selection, c.split): c.test.word for c in contrasts(study(best=-0.03))}
    assert found.pop(("best", "ood")) == "different"
    assert set(found.values()) == {"equivalent"}
    noisy = contrasts(study(noise=0.05))
    assert {contrast.test.word for contrast in noisy} == {"inconclusive"}


def test_one_seed_has_no_interval_and_decides_nothing() -> None:
    runs = study(best=-0.3)
    for contrast in contrasts(runs.query("seed == 0").reset_index()):
        assert contrast.test.word == "inconclusive" and np.isnan(contrast.mean.estimate.low)
        assert "nothing varies" in contrast.mean.reason


def test_differences_are_means_of_pairs_of_equal_environment_and_seed() -> None:
    runs = study(noise=0.01)
    found = next(c for c in contrasts(runs) if (c.selection, c.split) == ("best", "ood"))
    of = runs.query("selection == 'best'").set_index(["env", "seed"])
    model, network = (of.query(f"method == '{name}'")["ood"] for name in ("linear", "erm"))
    differences = model - network
    assert found.mean.value == pytest.approx(differences.mean())
    assert found.mean.num == len(differences) == 4 * len(SEEDS)
    assert found.runs == tuple(sorted(runs.query("selection == 'best'").index))


def test_cells_count_as_their_mean_and_not_as_the_best_of_them() -> None:
    runs = study(noise=0.01)
    worse = runs.query("method == 'linear'").assign(cell="worse")
    worse[["iid", "ood"]] -= 0.1
    found = contrasts(check_runs(pd.concat([runs, worse])))
    for contrast, alone in zip(found, contrasts(runs), strict=True):
        assert contrast.mean.value == pytest.approx(alone.mean.value - 0.05)
        assert len(contrast.runs) == 3 * contrast.mean.num


def test_rates_are_compared_apart() -> None:
    plain = study()
    dropped = study(best=0.1).assign(drop_rate=0.9)
    dropped["method"] = dropped["method"].replace("erm", "dropout")
    found = contrasts(check_runs(pd.concat([plain, dropped])))
    words = {(c.drop_rate, c.split): c.test.word for c in found if c.selection == "best"}
    assert words[0.0, "ood"] == "equivalent" and words[0.9, "ood"] == "different"


def test_kernel_regression_is_paired_with_the_network_on_its_own_images() -> None:
    final = {"cells": ("a",), "seeds": SEEDS}
    everywhere = accuracies(grid(**final), 0.6, 0.8, seed=1)
    kernel = accuracies(grid(**final, method="kernel"), 0.3, 0.5, seed=2)
    there = accuracies(grid(**final, method=ON_KERNEL_IMAGES), 0.4, 0.5, seed=3)
    found = contrasts(check_runs(pd.concat([everywhere, kernel, there])))
    differences = {c.split: c.mean.value for c in found}
    assert differences == pytest.approx({"iid": 0.0, "ood": -0.1}, abs=0.01)


def test_a_counterpart_without_its_run_is_refused() -> None:
    runs = study()
    alone = check_runs(runs.loc[runs["method"] == "linear"])
    with pytest.raises(InputError, match=r"no run of model \(1\)"):
        contrasts(alone)
