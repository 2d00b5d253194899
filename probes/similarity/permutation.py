"""What a similarity would be if the two representations had nothing to do with each other.

Permuting the examples of one representation keeps both, and breaks the pairing.

Shapes: N examples, P permutations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64

from core.errors import InputError

X = TypeVar("X")
Y = TypeVar("Y", bound="Examples")


@runtime_checkable
class Examples(Protocol):
    """Anything that holds examples, and gives them in another order."""

    def __len__(self) -> int: ...

    def __getitem__(self: Y, order: Int64[np.ndarray, " N"], /) -> Y: ...


@dataclass(frozen=True)
class NullComparison:
    """A similarity beside its permutation null.

    Attributes:
        value: Of the examples as paired.
        null: Of every permutation.
    """

    value: float
    null: Float[np.ndarray, " P"]

    @property
    def mean(self) -> float:
        """Mean of the null."""
        return float(self.null.mean())

    @property
    def z(self) -> float:
        """Standard deviations of the null between its mean and the value."""
        return (self.value - self.mean) / float(self.null.std(ddof=1))

    @property
    def excess(self) -> float:
        """Share of the way from chance to identity, (s - mean) / (1 - mean)."""
        return (self.value - self.mean) / (1 - self.mean)

    @property
    def p_value(self) -> float:
        """Probability of a value as high by chance (Phipson & Smyth, 2010); never zero."""
        return (1 + int((self.null >= self.value).sum())) / (1 + len(self.null))

    def quantile(self, probability: float) -> float:
        """Quantile of the null."""
        return float(np.quantile(self.null, probability))


def permutation_null(
    statistic: Callable[[X, Y], float], x: X, y: Y, num: int = 200, *, seed: int = 0
) -> NullComparison:
    """Compare a similarity with its values under permutations of the examples of `y`.

    Give both in the form that a similarity reduces them to, and permutations cost little:
    `Representation.of` for `linear_cka` (a cross-product each), `Neighbours.of` for
    `shared_neighbours` (a look-up), `unit_shape` for `shape_angle` and `principal_directions` for
    `mean_canonical_correlation` (a singular value decomposition each).

    Args:
        statistic: Similarity of x and y, one where they are identical. Of a distance `excess` and
            `p_value` have no meaning: take its cosine for these.
        x: First representation, in whatever form the statistic takes it.
        y: Second one, which can be indexed by an order of its examples.
        num: Permutations.
        seed: Of the permutations.

    Raises:
        InputError: If no permutation changes the statistic, or fewer than 2 are asked for.

    Example:
        >>> from probes.similarity import Representation, linear_cka
        >>> x = Representation.of(torch.randn(30, 4))
        >>> permutation_null(linear_cka, x, x, num=19).p_value
        0.05
    """
    if num < 2:
        raise InputError(f"{num} permutations have no spread; at least 2 were expected, say 200")
    value, generator = statistic(x, y), np.random.default_rng(seed)
    null = [statistic(x, y[generator.permutation(len(y))]) for _ in range(num)]
    if max(null) == min(null):
        raise InputError(
            f"all {num} permutations give {null[0]:.4g}; a statistic that depends on which "
            "example is which was expected"
        )
    return NullComparison(value, np.array(null))
