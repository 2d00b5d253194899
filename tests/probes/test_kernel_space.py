"""Tests for probes/kernel_space.py: NumPy loops, closed forms and invariances."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose

from probes import kernel_space as ks

N, C = 12, 3


@pytest.fixture
def kernels() -> tuple[np.ndarray, np.ndarray]:
    """Two kernels of N examples."""
    a, b = default_rng(0).normal(size=(2, N, 7))
    return a @ a.T, b @ b.T


@pytest.fixture
def onehot() -> np.ndarray:
    """Classes of the examples, four of each."""
    return ks.one_hot(np.arange(N) % C, C)


def centring() -> np.ndarray:
    return np.eye(N) - np.ones((N, N)) / N


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Entry by entry."""
    pairs = list(zip(a.ravel(), b.ravel(), strict=True))
    inner = sum(x * y for x, y in pairs)
    return inner / (sum(x * x for x, _ in pairs) * sum(y * y for _, y in pairs)) ** 0.5


def rotation(size: int) -> np.ndarray:
    return np.linalg.qr(default_rng(1).normal(size=(size, size)))[0]


def test_centring_is_a_product_with_the_centring_matrix(kernels: tuple) -> None:
    assert_allclose(ks.centred(kernels[0]), centring() @ kernels[0] @ centring(), atol=1e-12)


def test_the_distance_is_one_minus_the_cosine(kernels: tuple) -> None:
    assert_allclose(ks.kernel_distance(*kernels), 1 - cosine(*kernels), rtol=1e-12)


def test_a_scaled_kernel_is_at_distance_zero_and_its_change_is_the_scale(kernels: tuple) -> None:
    kernel = kernels[0]
    assert ks.kernel_distance(kernel, 3.5 * kernel) < 1e-30
    assert_allclose(ks.kernel_change(kernel, 3.5 * kernel), 2.5)


def test_a_tiny_distance_keeps_its_digits() -> None:
    """At an angle t the distance is 1 - cos t, which float64 loses for t of 1e-9."""
    a, b = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    t = 1e-9
    assert_allclose(ks.kernel_distance(a, np.cos(t) * a + np.sin(t) * b), t**2 / 2, rtol=1e-6)


def test_orthogonal_kernels_are_at_distance_one() -> None:
    a, b = np.zeros((2, 4, 4))
    a[:2, :2], b[2:, 2:] = [[2, 1], [1, 2]], [[3, -1], [-1, 3]]
    assert_allclose(ks.kernel_distance(a, b), 1)


def test_everything_but_the_labels_is_invariant_to_a_common_rotation(kernels: tuple) -> None:
    q = rotation(N)
    a, b = (q @ kernel @ q.T for kernel in kernels)
    assert_allclose(ks.kernel_distance(a, b), ks.kernel_distance(*kernels))
    assert_allclose(ks.kernel_change(a, b), ks.kernel_change(*kernels))
    assert_allclose(ks.effective_rank(a), ks.effective_rank(kernels[0]))


def test_numbers_with_labels_do_not_depend_on_the_order(
    kernels: tuple, onehot: np.ndarray
) -> None:
    order = default_rng(2).permutation(N)
    kernel = kernels[0][np.ix_(order, order)]
    for function in (ks.label_alignment, lambda k, y: ks.label_energy(k, y, C)):
        assert_allclose(function(kernel, onehot[order]), function(kernels[0], onehot))


def test_a_zero_kernel_has_no_distance_and_no_rank(kernels: tuple, onehot: np.ndarray) -> None:
    zero = np.zeros((N, N))
    assert np.isnan(ks.kernel_distance(zero, kernels[0]))
    assert np.isnan(ks.kernel_change(zero, kernels[0]))
    assert np.isnan(ks.effective_rank(zero))
    assert np.isnan(ks.label_alignment(zero, onehot))


def test_a_single_class_has_no_alignment_and_no_energy(kernels: tuple) -> None:
    single = ks.one_hot(np.zeros(N, int), C)
    assert np.isnan(ks.label_alignment(kernels[0], single))
    assert np.isnan(ks.label_energy(kernels[0], single, C))


def test_the_alignment_is_the_cosine_of_centred_kernels(
    kernels: tuple, onehot: np.ndarray
) -> None:
    labels = ks.centred(onehot @ onehot.T)
    expected = cosine(ks.centred(kernels[0]), labels)
    assert_allclose(ks.label_alignment(kernels[0], onehot), expected, rtol=1e-12)


def test_the_kernel_of_the_labels_is_aligned_and_holds_all_energy(onehot: np.ndarray) -> None:
    kernel = 2 * onehot @ onehot.T + 5  # a constant is centred away
    assert_allclose(ks.label_alignment(kernel, onehot), 1)
    assert_allclose(ks.label_energy(kernel, onehot, C - 1), 1)


def test_the_energy_is_the_sum_of_squared_projections(kernels: tuple, onehot: np.ndarray) -> None:
    values, vectors = np.linalg.eig(centring() @ kernels[0] @ centring())
    y = centring() @ onehot
    leading = np.argsort(values.real)[::-1][:2]
    energy = sum((vectors[:, i].real @ y[:, c]) ** 2 for i in leading for c in range(C))
    assert_allclose(ks.label_energy(kernels[0], onehot, 2), energy / (y**2).sum(), rtol=1e-9)
    assert ks.label_energy(kernels[0], onehot, N - 2) < 1
    assert np.isnan(ks.label_energy(kernels[0], onehot, N - 1))  # would be 1 for any kernel


@pytest.mark.parametrize("k", [1, 3, N])
def test_k_equal_eigenvalues_have_effective_rank_k(k: int) -> None:
    q = rotation(N)[:, :k]
    assert_allclose(ks.effective_rank(4 * q @ q.T), k)


def test_the_effective_rank_is_the_entropy_of_the_spectrum(kernels: tuple) -> None:
    values = np.linalg.svd(kernels[0], compute_uv=False)
    p = [v / values.sum() for v in values if v > 1e-12]
    assert_allclose(ks.effective_rank(kernels[0]), np.exp(-sum(q * np.log(q) for q in p)))


def test_permuted_alignments_are_those_of_labels_permuted_within_a_stratum() -> None:
    """Two examples in each of two strata: four outcomes, two of them with the true labels."""
    labels, strata = np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0])
    onehot = ks.one_hot(labels, 2)
    kernel = onehot @ onehot.T
    found = ks.permuted_alignments(kernel, onehot, strata, num=400, seed=0)
    assert_allclose(np.unique(found.round(12)), [0, 1], atol=1e-12)
    assert abs(found.mean() - 0.5) < 4 * 0.5 / 20  # four standard errors of 400 coin flips


def test_labels_that_are_constant_within_strata_stay_what_they_are(onehot: np.ndarray) -> None:
    strata = onehot.argmax(1)
    found = ks.permuted_alignments(onehot @ onehot.T, onehot, strata, num=5, seed=0)
    assert_allclose(found, 1)


def test_permuted_labels_are_drawn_by_the_seed(kernels: tuple, onehot: np.ndarray) -> None:
    strata = np.zeros(N, int)
    first, again, other = (
        ks.permuted_alignments(kernels[0], onehot, strata, num=3, seed=seed) for seed in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).any()


def test_the_groups_are_even_within_every_stratum() -> None:
    strata = np.repeat([0, 1, 2], [40, 20, 60])[default_rng(0).permutation(120)]
    groups = ks.jackknife_groups(strata, seed=0)
    assert (np.bincount(groups) == 6).all() and len(np.bincount(groups)) == 20
    for stratum, size in enumerate([2, 1, 3]):
        assert (np.bincount(groups[strata == stratum]) == size).all()
    assert (ks.jackknife_groups(strata, seed=1) != groups).any()
    few = ks.jackknife_groups(np.zeros(5, int), seed=0)
    assert sorted(few) == [0, 1, 2, 3, 4]


def test_the_jackknife_of_the_mean_is_the_textbook_standard_error() -> None:
    x = default_rng(0).normal(size=15)
    groups = ks.jackknife_groups(np.zeros(15, int), seed=0)
    row = ks.jackknife(lambda kept: {"mean": float(x[kept].mean())}, groups)["mean"]
    assert_allclose(row["stderr"], x.std(ddof=1) / 15**0.5)
    assert_allclose(row["value"], x.mean())
    assert_allclose(row["high"] - row["value"], 1.959963984540054 * row["stderr"])
    assert_allclose(row["value"] - row["low"], 1.959963984540054 * row["stderr"])
    assert row["num_examples"] == 15


def test_the_grouped_jackknife_of_the_mean_is_the_standard_error_of_group_means() -> None:
    x = default_rng(0).normal(size=60)
    groups = ks.jackknife_groups(np.zeros(60, int), seed=0)
    row = ks.jackknife(lambda kept: {"mean": float(x[kept].mean())}, groups)["mean"]
    means = [x[groups == g].mean() for g in range(20)]
    assert_allclose(row["stderr"], np.std(means, ddof=1) / 20**0.5)


def test_the_interval_of_an_alignment_covers_that_of_many_examples() -> None:
    """Of 60 samples, all but a few intervals hold the value of 3000 examples."""
    generator = default_rng(0)

    def sample(num: int) -> tuple[np.ndarray, np.ndarray]:
        y = generator.integers(C, size=num)
        x = np.eye(C)[y] + 0.7 * generator.normal(size=(num, C))
        return x @ x.T, ks.one_hot(y, C)

    truth, covered = ks.label_alignment(*sample(3000)), 0
    for _ in range(60):
        kernel, y = sample(80)
        row = ks.jackknife(
            lambda i, k=kernel, y=y: {"a": ks.label_alignment(k[np.ix_(i, i)], y[i])},
            ks.jackknife_groups(np.zeros(80, int), seed=0),
        )["a"]
        covered += row["low"] <= truth <= row["high"]
    assert covered >= 50  # 57 expected, standard deviation 1.7; t instead of normal tails


def test_there_is_no_interval_where_a_value_is_undefined() -> None:
    groups = np.array([0, 1, 2])
    rows = ks.jackknife(lambda kept: {"x": 1.0 if 0 in kept else float("nan")}, groups)
    assert rows["x"] == {"value": 1.0, "num_examples": 3}
    assert ks.jackknife(lambda _: {"x": 1.0}, groups[:1])["x"] == {"value": 1.0, "num_examples": 1}
