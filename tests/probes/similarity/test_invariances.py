"""Every similarity is blind to what it declares, and to nothing else in the list."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probes.similarity import (
    INVARIANCES,
    METRICS,
    linear_cka,
    mutual_knn,
    procrustes_distance,
    svcca,
    top_component_sensitivity,
)

MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "cka": linear_cka,
    "cka_biased": partial(linear_cka, debiased=False),
    "cka_without_top": lambda x, y: float(top_component_sensitivity(x, y, (1,))[0]),
    "mutual_knn": partial(mutual_knn, k=3),
    "procrustes_distance": procrustes_distance,
    "svcca": svcca,
}


def orthogonal(x: Tensor) -> Tensor:
    return x @ torch.linalg.qr(torch.randn(x.shape[1], x.shape[1])).Q


MOVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "orthogonal": lambda x, amount: orthogonal(x),
    "isotropic scaling": lambda x, amount: amount * x,
    "translation": lambda x, amount: x + amount * torch.randn(x.shape[1]),
}
PAIRS = [(metric, move) for metric, moves in INVARIANCES.items() for move in moves]


def test_every_metric_declares_its_invariances_and_is_tested() -> None:
    assert INVARIANCES.keys() == METRICS.keys() == MEASURES.keys()


@pytest.mark.parametrize(("metric", "move"), PAIRS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num=st.integers(14, 40),
    widths=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    amount=st.floats(0.01, 100),
)
def test_the_number_stays(
    metric: str, move: str, seed: int, num: int, widths: tuple[int, int], amount: float
) -> None:
    torch.manual_seed(seed)
    x, y = (torch.randn(num, width) for width in widths)
    measure = MEASURES[metric]
    expected = measure(x, y)
    moved = MOVES[move](x, amount)
    assert measure(moved, y) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    assert measure(y, moved) == pytest.approx(measure(y, x), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("metric", ["cka", "cka_biased", "procrustes_distance", "mutual_knn"])
def test_stretching_one_direction_is_seen(metric: str) -> None:
    x = torch.randn(40, 5)
    stretched = x * torch.tensor([10.0, 1, 1, 1, 1])
    assert abs(MEASURES[metric](x, stretched) - MEASURES[metric](x, x)) > 0.05
