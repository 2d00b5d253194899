"""Neural collapse: exact simplices, pseudo-inverses in D x D, SciPy's generalised eigenvalues."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose
from scipy.linalg import eigh
from sklearn.neighbors import NearestCentroid

from core.errors import InputError
from probes.richness import (
    Classifier,
    ClassStructure,
    cdnv,
    nc1,
    nc2_etf_error,
    nc2_norm_variation,
    nc3_duality_error,
    nc4_agreement,
    spectrum,
    trace_ratio,
)
from tests.probes.richness.features import classes, rotation

MEASURES: dict[str, Callable[[ClassStructure], float]] = {
    "nc1": nc1,
    "trace ratio": trace_ratio,
    "cdnv": cdnv,
    "norms": nc2_norm_variation,
    "etf": nc2_etf_error,
}
SIMPLEX = np.eye(4) - 1 / 4


def covariances(
    z: np.ndarray, y: np.ndarray, centre: str = "classes"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Within and between classes, D x D, and the centred means."""
    means = np.stack([z[y == k].mean(0) for k in np.unique(y)])
    middle = means.mean(0) if centre == "classes" else z.mean(0)
    apart, around = means - middle, z - means[np.searchsorted(np.unique(y), y)]
    return around.T @ around / len(z), apart.T @ apart / len(means), apart


@pytest.mark.parametrize("centre", ["classes", "samples"])
@pytest.mark.parametrize("dim", [3, 9, 200])
def test_nc1_is_that_of_the_pseudo_inverse(centre: str, dim: int) -> None:
    z, y = classes(dim=dim)
    within, between, _ = covariances(z, y, centre)
    rank = 3 if dim > 3 else dim
    cut = np.sort(np.linalg.eigvalsh(between))[-rank] / np.linalg.eigvalsh(between)[-1] / 2
    expected = np.trace(within @ np.linalg.pinv(between, rcond=cut, hermitian=True)) / 4
    assert_allclose(nc1(ClassStructure.of(z, y, centre=centre)), expected)


def test_nc1_is_the_sum_of_inverse_generalised_eigenvalues() -> None:
    z, y = classes(num_classes=4, dim=3)
    within, between, _ = covariances(z, y)
    values = eigh(between, within, eigvals_only=True)
    assert_allclose(nc1(ClassStructure.of(z, y)), (1 / values).sum() / 4)


def test_the_centre_matters_where_classes_differ_in_size() -> None:
    z, y = classes()
    by_class, by_sample = (ClassStructure.of(z, y, centre=c) for c in ("classes", "samples"))
    assert_allclose(by_sample.centre, z.mean(0))
    assert abs(nc1(by_class) / nc1(by_sample) - 1) > 1e-3
    even = np.concatenate([np.flatnonzero(y == k)[:12] for k in range(4)])
    found = [nc1(ClassStructure.of(z[even], y[even], centre=c)) for c in ("classes", "samples")]
    assert_allclose(found[0], found[1])


@pytest.mark.parametrize("centre", ["classes", "samples"])
def test_traces_and_distances(centre: str) -> None:
    z, y = classes()
    structure = ClassStructure.of(z, y, centre=centre)
    within, between, apart = covariances(z, y, centre)
    assert_allclose(trace_ratio(structure), np.trace(within) / np.trace(between))
    norms = np.linalg.norm(apart, axis=1)
    assert_allclose(nc2_norm_variation(structure), norms.std() / norms.mean())
    gram = apart @ apart.T
    simplex = SIMPLEX / np.linalg.norm(SIMPLEX)
    assert_allclose(
        nc2_etf_error(structure), np.linalg.norm(gram / np.linalg.norm(gram) - simplex)
    )


def test_cdnv_is_the_mean_over_ordered_pairs() -> None:
    z, y = classes()
    means = [z[y == k].mean(0) for k in range(4)]
    v = [((z[y == k] - means[k]) ** 2).sum(1).mean() for k in range(4)]
    pairs = [
        (v[a] + v[b]) / (2 * ((means[a] - means[b]) ** 2).sum())
        for a in range(4)
        for b in range(4)
        if a != b
    ]
    assert_allclose(cdnv(ClassStructure.of(z, y)), np.mean(pairs))


def test_a_simplex_is_fully_collapsed() -> None:
    z, y = np.repeat(SIMPLEX @ rotation(4) + 7, 5, axis=0), np.repeat(np.arange(4), 5)
    structure = ClassStructure.of(z, y)
    assert_allclose([measure(structure) for measure in MEASURES.values()], 0, atol=1e-13)
    weights = 3 * SIMPLEX @ rotation(4)
    assert nc3_duality_error(structure, Classifier(weights)) < 1e-25
    assert_allclose(nc3_duality_error(structure, Classifier(-weights)), 4)
    bias = -7 * weights.sum(1)  # the features lie around 7
    assert nc4_agreement(structure, Classifier(weights, bias)) == 1
    assert nc4_agreement(structure, Classifier(-weights, -bias)) == 0


def test_more_variation_within_classes_is_less_collapse() -> None:
    y = np.repeat(np.arange(4), 50)
    noise = default_rng(0).normal(size=(200, 4))
    for measure in (nc1, trace_ratio, cdnv):
        found = [measure(ClassStructure.of(SIMPLEX[y] + s * noise, y)) for s in (0.1, 0.2, 0.4)]
        assert found[0] < found[1] < found[2]


def test_nc1_of_isotropic_noise_around_a_simplex_is_known() -> None:
    """Within s^2 I and between of K - 1 equal eigenvalues 1/K: s^2 (K - 1) K / K."""
    y = np.repeat(np.arange(4), 20_000)
    z = SIMPLEX[y] + 0.1 * default_rng(0).normal(size=(len(y), 4))
    assert_allclose(nc1(ClassStructure.of(z, y)), 0.01 * 3, rtol=0.02)


def test_duality_is_the_distance_of_unit_matrices() -> None:
    z, y = classes()
    weights, (_, _, apart) = default_rng(1).normal(size=(4, 9)), covariances(z, y)
    expected = weights / np.linalg.norm(weights) - apart / np.linalg.norm(apart)
    found = nc3_duality_error(ClassStructure.of(z, y), Classifier(weights))
    assert_allclose(found, (expected**2).sum())


@pytest.mark.parametrize("dim", [2, 9])
def test_agreement_is_with_the_nearest_centroid(dim: int) -> None:
    z, y = classes(dim=dim)
    weights, bias = default_rng(1).normal(size=(4, dim)), default_rng(2).normal(size=4)
    nearest = NearestCentroid().fit(z, y).predict(z)
    expected = ((z @ weights.T + bias).argmax(1) == nearest).mean()
    assert 0 < expected < 1
    assert nc4_agreement(ClassStructure.of(z, y), Classifier(weights, bias)) == expected


def test_classes_that_do_not_occur_play_no_part() -> None:
    z, y = classes()
    weights, bias = default_rng(1).normal(size=(4, 9)), default_rng(2).normal(size=4)
    apart = np.array([1, 4, 5, 8])
    wide, wide_bias = np.full((9, 9), 100.0), np.full(9, 100.0)
    wide[apart], wide_bias[apart] = weights, bias
    plain, gaps = ClassStructure.of(z, y), ClassStructure.of(z, apart[y])
    for measure in MEASURES.values():
        assert measure(gaps) == measure(plain)
    for head in (nc3_duality_error, nc4_agreement):
        expected = head(plain, Classifier(weights, bias))
        assert_allclose(head(gaps, Classifier(wide, wide_bias)), expected)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.sampled_from([3, 9, 60]))
def test_rotation_scale_shift_and_order_leave_classes_as_they_are(
    seed: int, scale: float, dim: int
) -> None:
    generator, (z, y) = default_rng(seed), classes(dim=dim, seed=seed)
    order, renamed = generator.permutation(len(y)), generator.permutation(4)
    others = [
        (z @ rotation(dim, seed=seed), y),
        (scale * z, y),
        (z + generator.normal(size=dim), y),
        (z[order], y[order]),
        (z[:, generator.permutation(dim)], y),
        (z, renamed[y]),
    ]
    structure, changed = ClassStructure.of(z, y), [ClassStructure.of(*other) for other in others]
    for measure in MEASURES.values():
        assert_allclose([measure(s) for s in changed], measure(structure), rtol=1e-8)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = classes()
    classifier = Classifier(default_rng(1).normal(size=(4, 9)))
    whole = ClassStructure.of(z, y)
    agreement = nc4_agreement(whole, classifier)
    monkeypatch.setattr(spectrum, "BLOCK_BYTES", 8 * 9 * 7)
    parts = ClassStructure.of(z, y)
    for measure in MEASURES.values():
        assert_allclose(measure(parts), measure(whole))
    assert nc4_agreement(parts, classifier) == agreement


def test_arrays_and_tensors_in_single_precision() -> None:
    z, y = classes()
    single = torch.from_numpy(z).float()
    found = nc1(ClassStructure.of(single, torch.from_numpy(y).int()))
    assert_allclose(found, nc1(ClassStructure.of(single.double(), y)), rtol=1e-12)


def test_too_few_classes_or_examples_are_refused() -> None:
    z = default_rng(0).normal(size=(4, 3))
    with pytest.raises(InputError, match="all 4 examples are of one class"):
        ClassStructure.of(z, np.zeros(4, int))
    with pytest.raises(InputError, match="4 examples of 4 classes"):
        ClassStructure.of(z, np.arange(4))
    with pytest.raises(InputError, match="one label per example"):
        ClassStructure.of(z, np.zeros(3, int))


def test_means_that_coincide_are_refused() -> None:
    z = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [4, 4], [6, 6]])
    structure = ClassStructure.of(z, np.array([0, 0, 1, 1, 2, 2]))
    with pytest.raises(InputError, match="NC1 is infinite"):
        nc1(structure)
    with pytest.raises(InputError, match="CDNV is infinite"):
        cdnv(structure)
    same = ClassStructure.of(z[:4], np.array([0, 0, 1, 1]))
    for measure in (nc1, cdnv, trace_ratio, nc2_norm_variation, nc2_etf_error):
        with pytest.raises(InputError):
            measure(same)


def test_three_means_on_a_line_have_no_nc1() -> None:
    z = np.repeat([[0.0, 0, 1], [1, 1, 1], [3, 3, 1]], 4, axis=0)
    z += 0.1 * np.tile([[1.0, -1, 1], [-1, 1, -1]], (6, 1))
    with pytest.raises(InputError, match="fewer than 2"):
        nc1(ClassStructure.of(z, np.repeat([0, 1, 2], 4)))


def test_a_classifier_that_does_not_fit_is_refused() -> None:
    structure = ClassStructure.of(*classes())
    for weights in (np.ones((3, 9)), np.ones((4, 8))):
        with pytest.raises(InputError, match="the classifier is"):
            nc3_duality_error(structure, Classifier(weights))
    with pytest.raises(InputError, match="bias"):
        nc4_agreement(structure, Classifier(np.ones((4, 9)), np.ones(3)))
    with pytest.raises(InputError, match="all zero"):
        nc3_duality_error(structure, Classifier(np.zeros((4, 9))))
