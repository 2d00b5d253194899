"""Tests for probes/feature_creation/cross_validated_ridge.py: scikit-learn's RidgeCV."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from core.errors import InputError
from probes.feature_creation.cross_validated_ridge import (
    RIDGES,
    Prediction,
    cross_validated,
    standardised,
)


@pytest.mark.parametrize(("num", "width"), [(60, 5), (30, 40)])
def test_predictions_are_those_of_scikit_learn(num: int, width: int) -> None:
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(num, width)), 5 + 3 * rng.normal(size=(num, 2))]
    y = blocks[0][:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(num, 4))
    (found,) = cross_validated(blocks, y, folds=3, seed=1)
    for train, held in KFold(3, shuffle=True, random_state=1).split(y):
        x, z = standardised(blocks, train, held)
        variance = np.square(np.linalg.svd(x, compute_uv=False))
        scale = variance[variance > 1e-10].mean()
        ridge = RidgeCV(alphas=np.array(RIDGES) * scale, scoring="neg_mean_squared_error")
        predicted = ridge.fit(x, y[train]).predict(z)
        np.testing.assert_allclose(found.errors[held], (y[held] - predicted) ** 2, rtol=1e-6)
        np.testing.assert_allclose(found.totals[held], (y[held] - y[train].mean(0)) ** 2)


def test_the_ridge_is_shared_and_has_the_least_leave_one_out_error() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    (chosen,) = cross_validated([x], y, folds=2, ridges=[1e-8, 1e4])
    (strong,) = cross_validated([x], y, folds=2, ridges=[1e4])
    np.testing.assert_allclose(chosen.errors, strong.errors)  # there is nothing to predict


def test_r2_is_a_ratio_of_sums_and_the_median_one_of_units() -> None:
    errors, totals = np.array([[1.0, 2.0, 0.0]]), np.array([[4.0, 4.0, 0.0]])
    found = Prediction(errors, totals)
    assert found.r2() == pytest.approx(1 - 3 / 8)
    assert found.median() == pytest.approx(
        (0.75 + 0.5) / 2
    )  # a unit that never varies is left out


def test_layers_have_the_same_total_variance_and_constants_are_zero() -> None:
    rng = np.random.default_rng(0)
    wide = np.concatenate([rng.normal(size=(20, 8)), np.full((20, 1), 3.0)], 1)
    rows = np.arange(20)
    found, again = standardised([wide, 100 * rng.normal(size=(20, 2))], rows, rows)
    np.testing.assert_array_equal(found, again)
    np.testing.assert_allclose(found[:, :9].var(0).sum(), 8 / 9)
    np.testing.assert_allclose(found[:, 9:].var(0).sum(), 1)
    np.testing.assert_array_equal(found[:, 8], 0)


def test_too_few_examples_are_refused_in_a_sentence() -> None:
    x = np.ones((5, 2))
    with pytest.raises(InputError, match="there are 5 examples for 3 folds"):
        cross_validated([x], x, folds=3)
    with pytest.raises(InputError, match="positive numbers were expected"):
        cross_validated([x], x, folds=2, ridges=[0.0])
