"""Features whose measures are known."""

import numpy as np
from numpy.random import default_rng

POWER = np.arange(1, 513) ** -0.5  # standard deviations whose variances fall as 1 / i


def with_singular_values(
    values: np.ndarray, num: int, *, centred: bool = True, seed: int = 0
) -> np.ndarray:
    """Random features with exactly these singular values, after centring or as they are."""
    generator, dim = default_rng(seed), len(values)
    left = generator.normal(size=(num, dim))
    left -= left.mean(0) if centred else 0
    left, right = np.linalg.qr(left)[0], np.linalg.qr(generator.normal(size=(dim, dim)))[0]
    return (left * values) @ right


def power_law(num: int, *, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    """Gaussian examples in 512 dimensions with variances 1 / i, all coordinates shifted."""
    return default_rng(seed).normal(size=(num, len(POWER))) * POWER + shift


def classes(
    num_classes: int = 4, per_class: int = 12, dim: int = 9, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes of unequal size around random means far from the origin."""
    generator = default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class + np.arange(num_classes))
    means = 2 * generator.normal(size=(num_classes, dim)) + 5
    return means[labels] + generator.normal(size=(len(labels), dim)), labels


def rotation(dim: int, *, seed: int = 1) -> np.ndarray:
    """A random orthogonal matrix."""
    return np.linalg.qr(default_rng(seed).normal(size=(dim, dim)))[0]
