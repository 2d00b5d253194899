"""Tests for probes/transfer/logistic.py and solver.py: scikit-learn at tight tolerance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from core.errors import InputError
from probes.transfer import c_path
from probes.transfer.logistic import MAX_ITER, TOLERANCE
from probes.transfer.solver import Problem, principal_components

VALUES = [1e-4, 1e-2, 1.0, 30.0]
TIGHT = {"tolerance": 1e-9, "max_iter": 20_000}


def clusters(
    n: int, d: int, k: int, seed: int = 0, apart: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of unequal size, columns of unequal scale and mean."""
    rng = default_rng(seed)
    y = np.minimum(rng.integers(k + 1, size=n), k - 1)
    y[:k] = np.arange(k)
    x = rng.normal(size=(n, d)) + apart * rng.normal(size=(k, d))[y]
    return x * np.geomspace(0.1, 10, d) + np.linspace(-3, 3, d), y


def objective(weights: np.ndarray, intercept: np.ndarray, z: np.ndarray, y: np.ndarray) -> float:
    """Mean cross-entropy by a loop over examples."""
    total = 0.0
    for row, label in zip(z, y, strict=True):
        logits = weights @ row + intercept
        total += np.log(np.exp(logits).sum()) - logits[label]
    return total / len(y)


@pytest.mark.parametrize(("n", "d", "k"), [(80, 5, 3), (30, 60, 4), (50, 8, 2), (12, 40, 2)])
def test_coefficients_are_those_of_scikit_learn(n: int, d: int, k: int) -> None:
    x, y = clusters(n, d, k)
    z = StandardScaler().fit_transform(x)

    for C, probe in zip(VALUES, c_path(x, y, VALUES, **TIGHT), strict=True):
        model = LogisticRegression(C=C, tol=1e-9, max_iter=20_000).fit(z, y)
        # L-BFGS comes to about 1e-6 of the coefficients, on either side.
        size = np.abs(model.coef_).max()
        if k == 2:
            assert_allclose(
                probe.coef[1] - probe.coef[0], model.coef_[0], atol=2e-5 * size, rtol=0
            )
            difference = probe.intercept[1] - probe.intercept[0]
            assert_allclose(difference, model.intercept_[0], atol=2e-5)
        else:
            assert_allclose(probe.coef, model.coef_, atol=2e-5 * size, rtol=0)
            centred = probe.intercept - probe.intercept.mean()
            assert_allclose(centred, model.intercept_ - model.intercept_.mean(), atol=2e-5)
        assert probe.C == C
        assert_array_equal(probe.predict(x), model.predict(z))


@pytest.mark.parametrize(("n", "d"), [(60, 6), (20, 50)])
def test_gradient_vanishes_at_the_solution(n: int, d: int) -> None:
    """Finite differences of a loop over examples, plus the penalty by hand."""
    (x, y), C = clusters(n, d, 3), 0.5
    probe = c_path(x, y, [C], **TIGHT)[0]
    z = (x - x.mean(0)) / x.std(0)
    rng = default_rng(1)
    for _ in range(4):
        direction, shift = rng.normal(size=probe.coef.shape), rng.normal(size=3)
        ends = [
            C * n * objective(probe.coef + t * direction, probe.intercept + t * shift, z, y)
            + ((probe.coef + t * direction) ** 2).sum() / 2
            for t in (-1e-4, 0, 1e-4)
        ]
        assert ends[0] > ends[1] < ends[2]
        assert_allclose((ends[2] - ends[0]) / 2e-4, 0, atol=1e-4)


@pytest.mark.parametrize("apart", [0.3, 0.6])
def test_default_tolerance_is_no_worse_than_scikit_learns(apart: float) -> None:
    """Near the minimum at every C, and nowhere 1e-4 nats above scikit-learn's fit."""
    x, y = clusters(200, 30, 4, apart=apart)
    z, values = (x - x.mean(0)) / x.std(0), np.logspace(-6, 5, 45)
    problem = Problem(z, y)
    ours = np.array([s.objective for s in problem.path(values, TOLERANCE, MAX_ITER)])
    least = np.array([s.objective for s in problem.path(values, 1e-7, 10_000)])
    assert (ours >= least - 1e-9).all()
    assert_allclose(ours, least, atol=3e-4, rtol=0)
    for C, value in zip(values[::4], ours[::4], strict=True):
        model = LogisticRegression(C=C, max_iter=1000).fit(z, y)
        penalty = (model.coef_**2).sum() / (2 * C * len(y))
        assert value <= objective(model.coef_, model.intercept_, z, y) + penalty + 1e-4


def test_order_and_repetition_of_c_do_not_matter() -> None:
    x, y = clusters(50, 6, 3)
    mixed = c_path(x, y, [10.0, 0.1, 10.0], **TIGHT)
    assert [probe.C for probe in mixed] == [10.0, 0.1, 10.0]
    increasing = c_path(x, y, [0.1, 10.0], **TIGHT)
    assert_array_equal(mixed[0].coef, increasing[1].coef)
    assert_array_equal(mixed[1].coef, increasing[0].coef)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), d=st.sampled_from([4, 30]))
def test_rotating_standardised_features_leaves_the_logits(seed: int, d: int) -> None:
    """The penalty and the solver know no directions; standardising does, so it is skipped."""
    rng = default_rng(seed)
    x, y = clusters(20, d, 3, seed)
    x = x - x.mean(0)
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]

    def logits(features: np.ndarray) -> np.ndarray:
        problem = Problem(features, y)
        (solution,) = problem.path([0.1], 1e-9, 10_000)
        return problem.inputs @ solution.weights.T

    assert_allclose(logits(x @ rotation), logits(x), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_examples_and_columns_and_units_do_not_matter(seed: int) -> None:
    rng = default_rng(seed)
    x, y = clusters(40, 5, 3, seed)
    probe = c_path(x, y, [1.0], **TIGHT)[0]
    rows, columns, units = rng.permutation(40), rng.permutation(5), rng.uniform(0.1, 10, 5)
    other = c_path((x * units)[rows][:, columns], y[rows], [1.0], **TIGHT)[0]
    assert_allclose(other.coef, probe.coef[:, columns], atol=1e-5)


def test_statistics_of_the_test_set_are_never_used() -> None:
    """A shift of all test features moves every logit by the weights of the shift."""
    (x, y), (test, _) = clusters(60, 5, 3), clusters(30, 5, 3, seed=1)
    probe = c_path(x, y, [1.0])[0]
    shift = np.linspace(-2, 2, 5)
    moved = probe.decision_function(test + shift) - probe.decision_function(test)
    assert_allclose(moved, np.tile(probe.coef @ (shift / x.std(0)), (30, 1)), atol=1e-10)
    assert_allclose(probe.decision_function(test)[:7], probe.decision_function(test[:7]))


def test_constant_columns_are_counted_and_have_no_weight() -> None:
    x, y = clusters(40, 4, 3)
    x = np.insert(x, 2, 0.1, axis=1)
    probe = c_path(x, y, [1.0], **TIGHT)[0]
    assert probe.num_constant == 1
    assert probe.scale[2] == 1
    assert_allclose(probe.coef[:, 2], 0, atol=1e-12)
    without = c_path(np.delete(x, 2, axis=1), y, [1.0], **TIGHT)[0]
    assert_allclose(np.delete(probe.coef, 2, axis=1), without.coef, atol=1e-6)


def test_classes_without_examples_are_left_out() -> None:
    x, y = clusters(40, 4, 2)
    probe = c_path(x, np.array([3, 7])[y], [1.0])[0]
    assert_array_equal(probe.classes, [3, 7])
    assert_array_equal(probe.predict(x), np.array([3, 7])[c_path(x, y, [1.0])[0].predict(x)])


def test_solver_that_stops_early_says_so() -> None:
    x, y = clusters(60, 5, 3)
    assert not c_path(x, y, [1.0], tolerance=1e-12, max_iter=1)[0].converged
    assert c_path(x, y, [1.0])[0].converged


def test_blocks_are_divided_by_the_root_of_their_widths() -> None:
    x, y = clusters(50, 6, 3)
    probe = c_path(x, y, [1.0], blocks=[2, 4])[0]
    assert_allclose(probe.scale / x.std(0), np.sqrt([2, 2, 4, 4, 4, 4]))


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_principal_components(shape: tuple[int, int]) -> None:
    x = default_rng(0).normal(size=shape) @ np.diag(np.geomspace(1, 1e-4, shape[1]))
    x -= x.mean(0)
    components, axes = principal_components(x)
    assert axes.shape == (shape[1], min(shape[1], shape[0] - 1))
    assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-13)
    assert_allclose(components @ axes.T, x, atol=1e-13)
    gram = components.T @ components
    assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-12)


def test_tensors_and_arrays_agree() -> None:
    x, y = clusters(40, 5, 3)
    ours = c_path(torch.from_numpy(x), torch.from_numpy(y), [1.0])[0]
    assert_array_equal(ours.coef, c_path(x, y, [1.0])[0].coef)
    assert_array_equal(ours.predict(torch.from_numpy(x)), ours.predict(x))


@pytest.mark.parametrize("values", [[], [0.0], [-1.0], [np.inf], [np.nan]])
def test_values_of_c_that_are_none(values: list[float]) -> None:
    with pytest.raises(InputError, match="positive finite numbers were expected"):
        c_path(*clusters(20, 3, 2), values)


def test_blocks_that_do_not_add_up() -> None:
    with pytest.raises(InputError, match="together 5; the features have 3 columns"):
        c_path(*clusters(20, 3, 2), [1.0], blocks=[2, 3])


def test_other_width_at_test_time() -> None:
    probe = c_path(*clusters(20, 3, 2), [1.0])[0]
    with pytest.raises(InputError, match="have 4 columns, the training features 3"):
        probe.predict(np.ones((2, 4)))
