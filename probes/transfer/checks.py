"""Features and labels that a transfer measure can work with, or a sentence that says why not.

Shapes: N examples, D features.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from core.arrays import Array, labels_of, matrix, row_blocks
from core.errors import InputError


class Labelled(NamedTuple):
    """Checked features on their own device, and their classes."""

    features: Float[Tensor, "N D"]
    labels: Int64[np.ndarray, " N"]

    def rows(self) -> Float[np.ndarray, "N D"]:
        """The features in float64 on the CPU."""
        return rows_of(self.features)


def labelled(features: Array, labels: Array, name: str = "features") -> Labelled:
    """Features with one class index each: two classes or more, and features that vary.

    Raises:
        InputError: If there are fewer than two examples or two classes, more class indices than
            examples, labels that do not fit the features, or features that are all constant.

    Example:
        >>> labelled(np.eye(3), np.array([0, 1, 1])).labels
        array([0, 1, 1])
    """
    x = matrix(features, name, least=2)
    y = labels_of(labels, len(x)).numpy()
    check_classes(y, name)
    if bool((x == x[:1]).all()):
        raise InputError(
            f"{name} are the same for all {len(x)} examples; features that vary were expected: "
            "look for a dead layer or a mask over everything"
        )
    return Labelled(x, y)


def check_classes(labels: Int64[np.ndarray, " N"], name: str) -> None:
    """Refuse labels of a single class, or with more class indices than examples.

    Raises:
        InputError: If that is so.
    """
    num, present = int(labels.max()) + 1, len(np.unique(labels))
    if present < 2:
        raise InputError(
            f"all {len(labels)} examples of {name} are of class {labels[0]}; at least two "
            "classes were expected: a class cannot be told from nothing"
        )
    if num > len(labels):
        raise InputError(
            f"the largest label {num - 1} means {num} classes, but {name} have {len(labels)} "
            "examples; at least one example per class was expected: number the classes from 0 "
            "or give more examples"
        )


def same_width(x: Float[Tensor, "N D"], num_features: int, name: str) -> None:
    """Refuse features of another width than those a probe was trained on.

    Raises:
        InputError: If the widths differ.
    """
    if x.shape[1] != num_features:
        raise InputError(
            f"{name} have {x.shape[1]} columns, the training features {num_features}; the same "
            "layer of the same network was expected"
        )


def rows_of(x: Float[Tensor, "N D"]) -> Float[np.ndarray, "N D"]:
    """A matrix in float64 on the CPU, for NumPy and scikit-learn."""
    return np.concatenate([block.cpu().numpy() for block in row_blocks(x)])
