"""Tests for probes/similarity/cka.py."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import InputError
from probes.similarity import (
    METRICS,
    Representation,
    cka_map,
    linear_cka,
    top_component_sensitivity,
)
from probes.similarity.representation import _cross_product

BOTH = pytest.mark.parametrize("debiased", [True, False])
WIDE_AND_NARROW = pytest.mark.parametrize(
    ("width_x", "width_y"), [(5, 7), (80, 90), (5, 80), (80, 5)]
)


def related(num: int, width_x: int, width_y: int) -> tuple[Tensor, Tensor]:
    """Two representations that share three directions."""
    shared = torch.randn(num, 3)

    def representation(width: int) -> Tensor:
        return shared @ torch.randn(3, width) + torch.randn(num, width) + 4

    return representation(width_x), representation(width_y)


def biased_hsic(k: np.ndarray, l: np.ndarray) -> float:
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ l @ h))


def song_hsic(k: np.ndarray, l: np.ndarray) -> float:
    """Equation 5 of Song et al. (2012), term by term."""
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    terms = (
        np.trace(k @ l)
        + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ l @ one)
    )
    return terms / (n * (n - 3))


def u_centred_hsic(k: np.ndarray, l: np.ndarray) -> float:
    """Inner product of U-centred kernels (Szekely & Rizzo, 2014)."""

    def centred(a: np.ndarray) -> np.ndarray:
        n, a = len(a), a - np.diag(np.diag(a))
        sums = a.sum(0)
        u = a - sums[:, None] / (n - 2) - sums / (n - 2) + a.sum() / ((n - 1) * (n - 2))
        return u - np.diag(np.diag(u))

    return float((centred(k) * centred(l)).sum()) / (len(k) * (len(k) - 3))


def from_kernels(hsic: Callable[..., float], x: Tensor, y: Tensor) -> float:
    k, l = (x @ x.mT).numpy(), (y @ y.mT).numpy()
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


@WIDE_AND_NARROW
@pytest.mark.parametrize(
    ("hsic", "debiased"), [(biased_hsic, False), (song_hsic, True), (u_centred_hsic, True)]
)
def test_equals_the_definition_on_explicit_kernels(
    hsic: Callable[..., float], debiased: bool, width_x: int, width_y: int
) -> None:
    x, y = related(40, width_x, width_y)
    expected = from_kernels(hsic, x, y)
    assert linear_cka(x, y, debiased) == pytest.approx(expected, rel=1e-11)


@BOTH
def test_both_sides_agree(debiased: bool) -> None:
    x, y = related(30, 8, 9)
    padded = [torch.cat([z, torch.zeros(30, 40)], 1) for z in (x, y)]
    assert Representation.of(x).gram is None
    assert Representation.of(padded[0]).gram is not None
    assert linear_cka(padded[0], padded[1], debiased) == pytest.approx(
        linear_cka(x, y, debiased), rel=1e-13
    )


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (Representation.of(z) for z in related(50, 4, 6))
    whole = _cross_product(x, y)
    monkeypatch.setattr("probes.similarity.representation.BLOCK_BYTES", 8 * 10 * 7)
    torch.testing.assert_close(_cross_product(x, y), whole)
    wide = related(20, 50, 60)
    blocked = linear_cka(*wide)
    monkeypatch.undo()
    assert blocked == pytest.approx(linear_cka(*wide), rel=1e-13)


@pytest.mark.parametrize(("num", "biased"), [(100, 0.953), (500, 0.805), (2000, 0.506)])
def test_independent_gaussians(num: int, biased: float) -> None:
    x, y = torch.randn(num, 2048), torch.randn(num, 2048)
    assert linear_cka(x, y, debiased=False) == pytest.approx(biased, abs=2e-3)
    # The mean of about N^2 / 2 products of unrelated inner products.
    assert linear_cka(x, y) == pytest.approx(0, abs=3 * 2**0.5 / num)


@pytest.mark.slow
def test_debiased_is_zero_on_average_and_biased_is_not() -> None:
    draws = [(torch.randn(20, 30), torch.randn(20, 30)) for _ in range(2000)]
    debiased = np.array([linear_cka(x, y) for x, y in draws])
    assert abs(debiased.mean()) < 4 * debiased.std() / len(draws) ** 0.5
    assert np.mean([linear_cka(x, y, debiased=False) for x, y in draws]) > 0.5


@BOTH
def test_symmetric_and_one_for_itself(debiased: bool) -> None:
    x, y = related(30, 6, 50)
    assert linear_cka(x, y, debiased) == pytest.approx(linear_cka(y, x, debiased), rel=1e-13)
    assert linear_cka(x, x, debiased) == pytest.approx(1, abs=1e-13)


def test_far_from_the_origin_in_single_precision() -> None:
    x, y = (z.float() + 1000 for z in related(60, 5, 7))
    exact = linear_cka(x.double() - 1000, y.double() - 1000)
    assert linear_cka(x.numpy(), y) == pytest.approx(exact, rel=1e-10)


def test_within_the_declared_bounds() -> None:
    low, high = METRICS["cka"].low, METRICS["cka"].high
    assert low is not None and high is not None
    found = [linear_cka(torch.randn(5, 3), torch.randn(5, 3)) for _ in range(50)]
    assert min(found) < 0
    assert low - 1e-12 <= min(found) <= max(found) <= high + 1e-12


@BOTH
def test_a_map_holds_every_pair(debiased: bool) -> None:
    xs, ys = zip(*[related(30, a, b) for a, b in [(4, 50), (40, 3), (6, 6)]], strict=True)
    found = cka_map(xs, ys[:2], debiased)
    assert found.shape == (3, 2)
    expected = [[linear_cka(x, y, debiased) for y in ys[:2]] for x in xs]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_map_reduces_every_layer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reduced = []
    of = Representation.of
    monkeypatch.setattr(Representation, "of", lambda x, *rest: reduced.append(1) or of(x, *rest))
    cka_map([torch.randn(8, 3)] * 4, [torch.randn(8, 30)] * 5)
    assert len(reduced) == 9


@pytest.mark.parametrize("width", [4, 50])
def test_another_order_of_the_examples(width: int) -> None:
    x, y = related(30, 5, width)
    order = np.random.default_rng(0).permutation(30)
    permuted = linear_cka(Representation.of(x), Representation.of(y)[order])
    assert permuted == pytest.approx(linear_cka(x, y[order]), rel=1e-12)


def test_removing_components_equals_removing_them_by_hand() -> None:
    x, y = related(40, 6, 9)

    def without(z: Tensor, m: int) -> Tensor:
        u, s, vt = np.linalg.svd((z - z.mean(0)).numpy(), full_matrices=False)
        return torch.from_numpy((u[:, m:] * s[m:]) @ vt[m:])

    found = top_component_sensitivity(x, y, (0, 1, 3))
    expected = [linear_cka(without(x, m), without(y, m)) for m in (0, 1, 3)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[0] == pytest.approx(linear_cka(x, y), rel=1e-12)


def test_one_shared_outlying_component_is_all_that_two_layers_share() -> None:
    shared = 30 * torch.randn(200, 1)
    x, y = (torch.cat([shared, torch.randn(200, 20)], 1) for _ in range(2))
    with_it, without = top_component_sensitivity(x, y, (0, 1))
    assert with_it > 0.99
    assert abs(without) < 0.05


def test_errors_say_what_was_found() -> None:
    x = torch.randn(10, 3)
    with pytest.raises(InputError, match="x has 10 examples and y 9"):
        linear_cka(x, x[:9])
    with pytest.raises(InputError, match="x have 3 examples; at least 4 were expected"):
        linear_cka(x[:3], x[:3])
    with pytest.raises(InputError, match="y are the same for all 10 examples"):
        linear_cka(x, torch.full((10, 3), 0.1))
    with pytest.raises(InputError, match="all pairs of the 10 examples are equally alike in x"):
        linear_cka(torch.eye(10), x)
    with pytest.raises(InputError, match="1 of 10 rows of y hold NaN"):
        linear_cka(x, torch.where(torch.arange(10)[:, None] == 2, torch.nan, x))
    with pytest.raises(InputError, match="numbers from 0 to 2 were expected"):
        top_component_sensitivity(x, x, (0, 3))


def test_equally_alike_examples_still_have_a_biased_value() -> None:
    assert linear_cka(torch.eye(10), torch.eye(10), debiased=False) == pytest.approx(1)
