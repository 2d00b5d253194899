"""The decay of the spectrum: exact power laws, the weighted normal equations, and refusals."""

import math

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose

from core.errors import InputError
from probes.richness import alpha_req
from tests.probes.richness.features import power_law, with_singular_values


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_an_exact_power_law_is_found(alpha: float) -> None:
    fit = alpha_req(with_singular_values(np.arange(1, 121) ** (-alpha / 2), 150))
    assert_allclose([fit.alpha, fit.low, fit.high, fit.r2], [alpha, alpha, alpha, 1], rtol=1e-8)
    assert fit.num_points == 90 and fit.fit_range == (10, 100) and not fit.reason


def test_the_fit_is_that_of_the_weighted_normal_equations() -> None:
    values = np.sort(default_rng(0).exponential(size=30))[::-1]
    fit = alpha_req(with_singular_values(np.sqrt(values), 50), (5, 25))
    ranks = np.arange(5, 25)
    x, y, w = np.log(ranks), np.log(values[4:24]), np.diag(1 / ranks)
    design = np.column_stack([x, np.ones(20)])
    normal = np.linalg.inv(design.T @ w @ design)
    line = normal @ design.T @ w @ y
    left = y - design @ line
    stderr = np.sqrt(normal[0, 0] * (left @ w @ left) / 18)
    around = y - np.average(y, weights=1 / ranks)
    assert_allclose(fit.alpha, -line[0])
    assert_allclose(fit.stderr, stderr)
    assert_allclose(fit.r2, 1 - (left @ w @ left) / (around @ w @ around))
    assert_allclose(fit.high - fit.alpha, 2.1009220402410378 * stderr)  # Student, 18 degrees
    assert_allclose(fit.alpha - fit.low, fit.high - fit.alpha)


def test_more_examples_come_closer_to_the_exponent() -> None:
    errors = [abs(alpha_req(power_law(num)).alpha - 1) for num in (200, 1000, 8000)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05


def test_too_few_eigenvalues_are_a_reason_and_not_a_fit() -> None:
    fit = alpha_req(with_singular_values(np.ones(50), 80))
    assert math.isnan(fit.alpha) and math.isnan(fit.r2) and fit.num_points == 41
    assert fit.reason == (
        "only 50 eigenvalues are above rounding noise; the fit over ranks 10 to 99 needs 99"
    )
    assert not alpha_req(with_singular_values(np.ones(99), 120)).reason
    assert alpha_req(with_singular_values(np.ones(98), 120)).reason


def test_rounding_noise_is_never_fitted() -> None:
    values = np.where(np.arange(120) < 40, 1.0, 1e-12)
    assert "only 40 eigenvalues" in alpha_req(with_singular_values(values, 150)).reason


@pytest.mark.parametrize("fit_range", [(0, 10), (5, 7), (9, 5)])
def test_a_range_that_is_none_is_refused(fit_range: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="three ranks"):
        alpha_req(np.eye(20), fit_range)
