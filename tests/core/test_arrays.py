"""Tests for core/arrays.py: what comes in as features and labels, and what does not."""

import numpy as np
import pytest
import torch

from core.arrays import labels_of, matrix, row_blocks
from core.errors import InputError


def test_memory_is_shared_and_half_precision_widened() -> None:
    array = np.ones((3, 2))
    assert matrix(array).data_ptr() == array.ctypes.data
    assert matrix(torch.ones(3, 2, dtype=torch.float16)).dtype == torch.float32
    assert matrix(torch.ones(3, 2, dtype=torch.int64)).dtype == torch.float32


def test_blocks_are_the_matrix_in_double_precision() -> None:
    x = torch.randn(7, 3, dtype=torch.float32)
    blocks = list(row_blocks(x))
    assert all(block.dtype == torch.float64 for block in blocks)
    torch.testing.assert_close(torch.cat(blocks), x.double(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones(3), r"shape \(3,\); a matrix"),
        (np.ones((3, 0)), r"shape \(3, 0\)"),
        (np.ones((1, 2)), "1 examples; at least 2"),
        (np.ones((3, 2), complex), "complex"),
        (np.array([[1.0, np.nan], [1, 2]]), "1 of 2 rows of z hold NaN"),
        (np.full((3, 2), 1e80), r"largest magnitude of z is 1.0e\+80.*rescale"),
        (np.full((3, 2), 1e-100), "largest magnitude of z is 1.0e-100"),
    ],
)
def test_wrong_features_are_refused_in_a_sentence(features: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        matrix(features, "z", least=2)


def test_zeros_are_features() -> None:
    assert not matrix(np.zeros((2, 2))).any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(2), r"shape \(2,\), the features 3"),
        (np.array([0.0, 1.0, 2.0]), "class indices .whole numbers"),
        (np.array([True, False, True]), "class indices"),
        (np.array([0, -1, 2]), "smallest label is -1"),
    ],
)
def test_wrong_labels_are_refused_in_a_sentence(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        labels_of(labels, 3)
