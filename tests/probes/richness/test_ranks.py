"""Soft ranks: closed forms, NumPy's singular values, invariants and unbiasedness."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose

from core.errors import InputError
from probes.richness import (
    Moments,
    coding_rate,
    effective_rank,
    explained_variance_dims,
    nesum,
    participation_ratio,
    rankme,
    stable_rank,
    unbiased_traces,
)
from tests.probes.richness.features import POWER, power_law, rotation, with_singular_values

RANKS: dict[str, Callable[..., float]] = {
    "singular": effective_rank,
    "eigen": lambda z: effective_rank(z, "eigen"),
    "participation": participation_ratio,
    "stable": stable_rank,
    "dims": lambda z: explained_variance_dims(z, 1.0),
}
UNCENTRED: dict[str, Callable[..., float]] = {
    "singular": lambda z: effective_rank(z, centred=False),
    "eigen": lambda z: effective_rank(z, "eigen", centred=False),
    "participation": lambda z: participation_ratio(z, centred=False),
    "stable": lambda z: stable_rank(z, centred=False),
    "rankme": rankme,
    "unit coding rate": lambda z: coding_rate(z, unit_scale=True),
}


def entropy_rank(values: np.ndarray, eps: float = 0.0) -> float:
    p = values / values.sum() + eps
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def singular_values(z: np.ndarray, *, centred: bool) -> np.ndarray:
    return np.linalg.svd(z - z.mean(0) * centred, compute_uv=False)


@pytest.mark.parametrize("rank", RANKS.values(), ids=RANKS)
@pytest.mark.parametrize("num", [6, 9, 50])
def test_k_equal_singular_values_have_rank_k(rank: Callable[..., float], num: int) -> None:
    for k in (1, 3, 5):
        z = with_singular_values(np.repeat([2.0, 0.0], [k, 5 - k]), num)
        assert_allclose(rank(z), k, rtol=1e-10)


@pytest.mark.parametrize("shape", [(40, 9), (9, 40)])
@pytest.mark.parametrize("centred", [True, False])
def test_ranks_are_those_of_numpy_singular_values(shape: tuple, centred: bool) -> None:
    z = default_rng(0).normal(size=shape) * np.linspace(0.1, 2, shape[1]) + 1
    s = singular_values(z, centred=centred)
    assert_allclose(effective_rank(z, centred=centred), entropy_rank(s))
    assert_allclose(effective_rank(z, "eigen", centred=centred), entropy_rank(s**2))
    assert_allclose(participation_ratio(z, centred=centred), (s**2).sum() ** 2 / (s**4).sum())
    assert_allclose(stable_rank(z, centred=centred), (s**2).sum() / s[0] ** 2)


@pytest.mark.parametrize("shape", [(40, 9), (9, 40)])
def test_rankme_is_the_papers_formula(shape: tuple[int, int]) -> None:
    z = default_rng(0).normal(size=shape) + 1
    s = singular_values(z, centred=False)
    assert_allclose(rankme(z), entropy_rank(s, 1e-7))
    assert_allclose(rankme(z, eps=1e-5), entropy_rank(s, 1e-5))


def test_singular_values_and_eigenvalues_give_different_ranks() -> None:
    z = with_singular_values(POWER, 520)
    assert round(effective_rank(z), 1) == 409.6
    assert round(effective_rank(z, "eigen"), 1) == 117.2


def test_rank_one_in_many_dimensions_by_rankme() -> None:
    generator = default_rng(0)
    z = Moments.of(np.outer(generator.normal(size=2048), generator.normal(size=2048)))
    assert round(rankme(z), 4) == 1.0033
    assert round(rankme(z, eps=1e-5), 3) == 1.266
    assert_allclose(effective_rank(z, centred=False), 1)


def test_a_large_mean_hides_the_rest_from_rankme() -> None:
    found = [rankme(power_law(2048, shift=shift)) for shift in (0.0, 1.0, 5.0)]
    # The generator's seed moves these by about half of one.
    assert_allclose(found, [394, 94, 9.2], rtol=5e-3)
    centred = [effective_rank(power_law(2048, shift=shift)) for shift in (0.0, 5.0)]
    assert_allclose(centred[0], centred[1])


def test_ranks_grow_with_the_number_of_examples() -> None:
    """Quoted for one draw; another differs by the sampling error."""
    ranks = [effective_rank(power_law(num)) for num in (64, 256, 512, 1024, 4096)]
    assert_allclose(ranks, [56, 197, 328, 377, 402], rtol=0.02)
    assert_allclose(participation_ratio(power_law(64)), 19.2, rtol=0.1)
    assert_allclose(participation_ratio(power_law(4096)), 28.0, rtol=0.02)
    assert_allclose(stable_rank(power_law(4096)), 6.8, rtol=0.02)


def test_stable_rank_is_nesum() -> None:
    z = default_rng(0).normal(size=(30, 8)) @ np.diag(np.arange(1.0, 9)) + 4
    values = np.linalg.eigvalsh(np.cov(z, rowvar=False))
    assert_allclose(nesum(z), (values / values[-1]).sum())


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99, 1.0])
def test_explained_variance_is_that_of_scikit_learn(share: float) -> None:
    from sklearn.decomposition import PCA

    z = default_rng(0).normal(size=(60, 12)) * np.arange(1, 13) + 3
    ratios = PCA().fit(z).explained_variance_ratio_.cumsum()
    expected = 12 if share == 1 else int((ratios < share).sum()) + 1
    assert explained_variance_dims(z, share) == expected


def test_a_share_met_exactly_needs_no_further_component() -> None:
    assert explained_variance_dims(with_singular_values(np.ones(10), 30), 0.9) == 9


@pytest.mark.parametrize("shape", [(40, 9), (9, 40)])
@pytest.mark.parametrize("eps", [0.5, 0.1])
def test_coding_rate_is_the_log_determinant(shape: tuple[int, int], eps: float) -> None:
    (num, dim), z = shape, default_rng(0).normal(size=shape) + 1
    gram = z.T @ z * dim / (num * eps**2)
    assert_allclose(coding_rate(z, eps), np.linalg.slogdet(np.eye(dim) + gram)[1] / 2)
    unit = z / np.sqrt((z**2).sum() / num)
    assert_allclose(coding_rate(z, eps, unit_scale=True), coding_rate(unit, eps))


def brute_force_traces(z: np.ndarray) -> tuple[float, float]:
    """Averages over all ordered quadruples of distinct examples."""
    quadruples = np.array(list(permutations(range(len(z)), 4)))
    a, b, c, d = (z[column] for column in quadruples.T)
    first, second = ((a - b) ** 2).sum(1) / 2, ((c - d) ** 2).sum(1) / 2
    return (first * second).mean(), (((a - b) * (c - d)).sum(1) ** 2).mean() / 4


@pytest.mark.parametrize("shape", [(4, 3), (7, 3), (6, 11)])
def test_unbiased_traces_are_averages_over_distinct_examples(shape: tuple[int, int]) -> None:
    z = default_rng(0).exponential(size=shape) * 3 + 2
    assert_allclose(unbiased_traces(z), brute_force_traces(z))


def test_traces_are_unbiased_where_plain_ones_are_not() -> None:
    """Skewed features: nothing here relies on normality."""
    generator, deviations = default_rng(0), np.array([3.0, 2.0, 1.0, 1.0])
    truth = np.array([(deviations**2).sum() ** 2, (deviations**4).sum()])
    unbiased, plain = np.empty((1500, 2)), np.empty((1500, 2))
    for i in range(1500):
        moments = Moments.of(generator.exponential(size=(6, 4)) * deviations)
        unbiased[i] = unbiased_traces(moments)
        plain[i] = (moments.total() / 5) ** 2, moments.total_of_squares() / 25
    for estimates, agrees in ((unbiased, True), (plain, False)):
        errors = np.abs(estimates.mean(0) - truth) / (estimates.std(0) / 1500**0.5)
        assert (errors < 3).all() == agrees


def test_the_unbiased_ratio_meets_the_truth_where_the_plain_one_is_far_below() -> None:
    truth = (POWER**2).sum() ** 2 / (POWER**4).sum()
    samples = [Moments.of(power_law(64, seed=seed)) for seed in range(60)]
    for unbiased in (True, False):
        found = [participation_ratio(sample, unbiased=unbiased) for sample in samples]
        error = np.std(found, ddof=1) / 60**0.5
        # The ratio of unbiased parts keeps a bias of order 1/N, within the error here.
        assert (abs(np.mean(found) - truth) < 3 * error) == unbiased


def test_effective_rank_converges_to_that_of_the_population() -> None:
    deviations = np.array([4.0, 2.0, 1.0, 0.5])
    z = default_rng(0).normal(size=(40_000, 4)) * deviations
    errors = [
        abs(effective_rank(z[:num]) - entropy_rank(deviations)) for num in (40, 1000, 40_000)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01


@settings(derandomize=True, max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(25, 6), (6, 25)]), st.floats(0.01, 100))
def test_rotation_scale_and_order_leave_ranks_as_they_are(
    seed: int, shape: tuple[int, int], scale: float
) -> None:
    generator, (num, dim) = default_rng(seed), shape
    z = generator.normal(size=shape) + generator.normal(size=dim)
    others = [
        z @ rotation(dim, seed=seed),
        scale * z,
        z[generator.permutation(num)],
        z[:, generator.permutation(dim)],
    ]
    moved = z + generator.normal(size=dim)
    for rank in RANKS.values():
        assert_allclose([rank(other) for other in [*others, moved]], rank(z), rtol=1e-9)
    for rank in UNCENTRED.values():
        assert_allclose([rank(other) for other in others], rank(z), rtol=1e-9)


def test_arrays_tensors_and_moments_give_the_same() -> None:
    z = default_rng(0).normal(size=(20, 5))
    for rank in (*RANKS.values(), *UNCENTRED.values()):
        assert rank(z) == rank(torch.from_numpy(z)) == rank(Moments.of(z))


@pytest.mark.parametrize("rank", RANKS.values(), ids=RANKS)
def test_constant_features_have_no_rank(rank: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="all 3 examples are the same"):
        rank(np.full((3, 2), 0.1))


@pytest.mark.parametrize("rank", UNCENTRED.values(), ids=UNCENTRED)
def test_zero_features_have_no_rank(rank: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="all 3 examples are zero"):
        rank(np.zeros((3, 2)))


def test_options_that_make_no_sense_are_refused() -> None:
    z = default_rng(0).normal(size=(3, 2))
    with pytest.raises(InputError, match="there are 3 examples"):
        participation_ratio(z, unbiased=True)
    with pytest.raises(InputError, match="uncentred"):
        participation_ratio(z, unbiased=True, centred=False)
    for share in (0.0, 1.1):
        with pytest.raises(InputError, match="share of variance"):
            explained_variance_dims(z, share)


def test_an_unbiased_denominator_below_zero_is_refused() -> None:
    with pytest.raises(InputError, match="too few for the unbiased"):
        participation_ratio(np.eye(4), unbiased=True)
