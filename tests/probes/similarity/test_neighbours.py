"""Tests for probes/similarity/neighbours.py."""

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import InputError
from probes.similarity import Neighbours, mutual_knn, permutation_null, shared_neighbours


def by_hand(x: Tensor, y: Tensor, k: int) -> float:
    shared = 0
    for i in range(len(x)):
        near = []
        for z in (x.numpy(), y.numpy()):
            cosines = [
                -np.inf if j == i else z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j])
                for j in range(len(z))
            ]
            near.append(set(np.argsort(cosines)[-k:].tolist()))
        shared += len(near[0] & near[1])
    return shared / (len(x) * k)


@pytest.mark.parametrize("k", [1, 4, 29])
def test_equals_a_loop(k: int) -> None:
    x = torch.randn(30, 4)
    y = torch.cat([x + 0.3 * torch.randn(30, 4), torch.randn(30, 2)], 1)
    assert mutual_knn(x, y, k) == pytest.approx(by_hand(x, y, k), abs=1e-15)


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(50, 5), torch.randn(50, 5)
    whole = mutual_knn(x, y, 5)
    monkeypatch.setattr("probes.similarity.neighbours.BLOCK_BYTES", 8 * 50 * 7)
    assert mutual_knn(x, y, 5) == whole


def test_unrelated_representations_share_by_chance() -> None:
    num, k = 600, 10
    found = mutual_knn(torch.randn(num, 20), torch.randn(num, 20), k)
    # N k neighbours, each shared with probability k / (N - 1), nearly independently.
    chance = k / (num - 1)
    assert found == pytest.approx(chance, abs=5 * (chance / (num * k)) ** 0.5)


def test_an_order_of_neighbours_is_that_of_the_examples() -> None:
    x, y = torch.randn(30, 5), torch.randn(30, 4)
    order = np.random.default_rng(0).permutation(30)
    found = shared_neighbours(Neighbours.of(x, 4), Neighbours.of(y, 4)[order])
    assert found == mutual_knn(x, y[order], 4)


def test_mean_under_permutations_has_a_closed_form() -> None:
    """Whatever the neighbours are, a permutation shares k / (N - 1) of them on average."""
    x = torch.randn(60, 3)
    y = x + 0.1 * torch.randn(60, 3)
    sides = Neighbours.of(x, 5), Neighbours.of(y, 5)
    null = permutation_null(shared_neighbours, *sides, num=2000).null
    assert null.mean() == pytest.approx(5 / 59, abs=4 * null.std() / 2000**0.5)


def test_symmetric_and_sees_a_translation() -> None:
    x, y = torch.randn(40, 6), torch.randn(40, 8)
    assert mutual_knn(x, y, 5) == mutual_knn(y, x, 5)
    assert mutual_knn(x, x + 3, 5) < 1


def test_all_others_are_neighbours_of_both() -> None:
    assert mutual_knn(torch.randn(12, 3), torch.randn(12, 3), 11) == 1


def test_errors_say_what_was_found() -> None:
    x = torch.randn(10, 3)
    with pytest.raises(InputError, match="x has 10 examples and y 9"):
        mutual_knn(x, x[:9])
    with pytest.raises(InputError, match="k is 10 and there are 10 examples; 1 to 9"):
        mutual_knn(x, x)
    with pytest.raises(InputError, match="x have 1 examples; at least 2"):
        mutual_knn(x[:1], x[:1], 1)
    with pytest.raises(InputError, match="2 of 10 rows of y are zero"):
        mutual_knn(x, x * (torch.arange(10)[:, None] > 1), 3)
