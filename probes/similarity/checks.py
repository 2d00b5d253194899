"""What every comparison of two representations asks of its input.

Shapes: N examples, D features.
"""

from collections.abc import Sized

from jaxtyping import Float
from torch import Tensor

from core.errors import InputError


def require_same_examples(x: Sized, y: Sized) -> None:
    """Refuse representations of different numbers of examples.

    Raises:
        InputError: If the lengths differ.
    """
    if len(x) != len(y):
        raise InputError(
            f"x has {len(x)} examples and y {len(y)}; the same examples in the same order were "
            "expected"
        )


def require_variation(x: Float[Tensor, "N D"], name: str) -> None:
    """Refuse features that say nothing about any example.

    Raises:
        InputError: If all rows are equal.
    """
    if bool((x == x[:1]).all()):
        raise InputError(
            f"{name} are the same for all {len(x)} examples; features that differ between "
            "examples were expected: leave this layer out"
        )
