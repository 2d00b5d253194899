"""Tests for probes/redundancy/predictability.py."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold
from torch import Tensor

from core.errors import InputError
from probes.redundancy import unit_predictability


def correlated(num: int, width: int) -> Tensor:
    return torch.randn(num, 3) @ torch.randn(3, width) + torch.randn(num, width) + 2


def by_hand(x: np.ndarray, penalties: tuple[float, ...]) -> np.ndarray:
    """One scikit-learn regression per unit and fold, its penalty by scikit-learn's own rule."""
    found = []
    for j in range(x.shape[1]):
        errors = totals = 0.0
        for train, test in KFold(5, shuffle=True, random_state=0).split(x):
            mean, std = x[train].mean(0), x[train].std(0)
            z, held = (x[train] - mean) / std, (x[test] - mean) / std
            alphas = [penalty * len(train) for penalty in penalties]
            model = RidgeCV(alphas) if len(alphas) > 1 else Ridge(alphas[0])
            model.fit(np.delete(z, j, 1), z[:, j])
            residual = held[:, j] - np.asarray(model.predict(np.delete(held, j, 1)))
            errors += ((residual * std[j]) ** 2).sum()
            totals += ((held[:, j] * std[j]) ** 2).sum()
        found.append(1 - errors / totals)
    return np.array(found)


@pytest.mark.parametrize(("num", "width"), [(60, 8), (30, 40)])
@pytest.mark.parametrize("penalties", [(1e-3,), (0.5,), (1e-3, 1e-2, 0.1, 1.0)])
def test_equals_one_regression_per_unit(
    num: int, width: int, penalties: tuple[float, ...]
) -> None:
    x = correlated(num, width)
    found = unit_predictability(x, penalties=penalties)
    np.testing.assert_allclose(found.r2, by_hand(x.numpy(), penalties), rtol=1e-8, atol=1e-10)
    assert found.median["value"] == pytest.approx(np.median(found.r2))


def test_converges_to_the_population_value() -> None:
    """R2 of unit j in a Gaussian is 1 - 1 / (C_jj C^-1_jj)."""
    mixing = torch.randn(6, 6)
    covariance = mixing @ mixing.mT + torch.eye(6)
    expected = 1 - 1 / (covariance.diagonal() * torch.linalg.inv(covariance).diagonal())
    x = torch.randn(20_000, 6) @ torch.linalg.cholesky(covariance).mT
    found = unit_predictability(x)
    np.testing.assert_allclose(found.r2, expected, atol=4 * 2 / 20_000**0.5)
    weighted = float(covariance.diagonal() @ expected / covariance.trace())
    assert found.overall["value"] == pytest.approx(weighted, abs=4 * found.overall["stderr"])
    median = float(np.median(expected.numpy()))
    assert found.median["value"] == pytest.approx(median, abs=4 * found.median["stderr"])


def test_all_units_together_are_weighted_by_their_variance() -> None:
    x = correlated(60, 8) * torch.arange(1.0, 9)
    found = unit_predictability(x, folds=2)
    halves = list(KFold(2, shuffle=True, random_state=0).split(x))
    totals = sum((x[test] - x[train].mean(0)).square().sum(0) for train, test in halves)
    assert isinstance(totals, Tensor)
    expected = (totals.numpy() * found.r2).sum() / totals.numpy().sum()
    assert found.overall["value"] == pytest.approx(expected)


def test_independent_units_are_not_predictable() -> None:
    found = unit_predictability(torch.randn(500, 20))
    assert -0.1 < found.overall["value"] < 0.01
    assert -0.1 < found.median["value"] < 0.01
    assert found.r2.max() < 0.05


def test_a_repeated_unit_is_predicted_and_the_others_are_not() -> None:
    x = torch.randn(300, 6)
    found = unit_predictability(torch.cat([x, 3 - 2 * x[:, :1]], 1))
    np.testing.assert_allclose(found.r2[[0, 6]], 1, atol=1e-9)
    assert found.r2[1:6].max() < 0.05


def test_dead_units_are_left_out_and_counted() -> None:
    x = correlated(50, 6)
    dead = torch.full((50, 1), 0.1)
    found = unit_predictability(torch.cat([dead, x[:, :4], dead, x[:, 4:]], 1))
    assert found.num_dead == 2
    assert found.units.tolist() == [1, 2, 3, 4, 6, 7]
    np.testing.assert_allclose(found.r2, unit_predictability(x).r2)


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("num_moved", [1, 2])
def test_nearly_dead_units_change_nothing(num_moved: int, noise: float) -> None:
    """Such units, as predictors, once made every other one thousands of variances wrong."""
    x = correlated(100, 6)
    spikes = noise * torch.randn(100, 30).abs()
    for unit in range(30):
        spikes[torch.randperm(100)[:num_moved], unit] = 1 + torch.rand(num_moved)
    found = unit_predictability(torch.cat([spikes, x], 1))
    expected = unit_predictability(x)
    assert found.num_dead == 30
    assert found.overall == expected.overall
    assert found.median == expected.median


def test_sparse_units_are_alive() -> None:
    x = torch.cat([correlated(100, 4), (torch.arange(100)[:, None] % 25 == 0).double()], 1)
    found = unit_predictability(x)
    assert found.num_dead == 0
    assert np.isfinite(found.r2).all()
    assert found.r2[4] < 0.2


def test_shift_scale_and_sign_of_units_do_not_matter() -> None:
    x = correlated(60, 8)
    moved = x * (torch.randn(8) + 3) * torch.tensor([1.0, -1] * 4) + 10 * torch.randn(8)
    expected = unit_predictability(x)
    found = unit_predictability(moved)
    np.testing.assert_allclose(found.r2, expected.r2, rtol=1e-9)
    assert found.median["stderr"] == pytest.approx(expected.median["stderr"], rel=1e-8)
    scaled = unit_predictability(10 + 1e60 * x)
    assert scaled.overall["value"] == pytest.approx(expected.overall["value"], rel=1e-9)
    order = torch.randperm(8)
    np.testing.assert_allclose(unit_predictability(x[:, order]).r2, expected.r2[order])


def test_the_standard_error_is_that_of_repeated_samples() -> None:
    mixing = torch.randn(3, 5)
    found = [
        unit_predictability(torch.randn(300, 3) @ mixing + torch.randn(300, 5)) for _ in range(200)
    ]
    for rows in ([one.overall for one in found], [one.median for one in found]):
        spread = np.std([row["value"] for row in rows])
        # 200 samples know their spread to 5 %.
        assert np.mean([row["stderr"] for row in rows]) == pytest.approx(spread, rel=0.2)


def test_numpy_and_single_precision() -> None:
    x = correlated(60, 8)
    expected = unit_predictability(x.float().double()).r2
    np.testing.assert_array_equal(unit_predictability(x.float().numpy()).r2, expected)


def test_errors_say_what_was_found() -> None:
    x = correlated(30, 4)
    with pytest.raises(InputError, match="9 examples; at least 10 were expected"):
        unit_predictability(x[:9])
    with pytest.raises(InputError, match="1 of the units vary between at least 3 examples"):
        unit_predictability(torch.cat([x[:, :1], torch.ones(30, 3)], 1))
    with pytest.raises(InputError, match="0 of the units vary"):
        unit_predictability(torch.full((30, 3), 0.1))
    with pytest.raises(InputError, match="at least 2 folds and positive penalties"):
        unit_predictability(x, folds=1)
    with pytest.raises(InputError, match="positive penalties were expected"):
        unit_predictability(x, penalties=(0.0, 1.0))
