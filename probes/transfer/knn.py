r"""Nearest neighbours by cosine similarity, weighted as in DINO.

.. math:: \hat y = \arg\max_c \sum_{i \in \mathrm{kNN}(x)} e^{\cos(x, x_i) / T}\, [y_i = c]

There is nothing to train, hence nothing to regularise: what this classifies, the geometry of the
features holds without any reweighting of directions. Features are used as they are, not centred.

Shapes: N test examples, M training examples, D features, K classes.

References:
    | Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021)
    | https://arxiv.org/abs/2104.14294
    | DINOv2 (Oquab et al., 2023), https://arxiv.org/abs/2304.07193
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from core.arrays import BLOCK_BYTES, Array, labels_of, matrix
from core.errors import InputError
from probes.transfer.checks import check_classes, same_width

NEIGHBOURS = (10, 20, 100, 200)
TEMPERATURE = 0.07


def knn_predictions(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    *,
    neighbours: Sequence[int] = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> dict[int, Int64[np.ndarray, " N"]]:
    """Predicted classes for every number of neighbours.

    The similarities are computed for a block of test rows at a time, on the device of the
    training features, in float64.

    Args:
        train_x: Features that vote.
        train_y: Their class indices.
        test_x: Features to classify.
        neighbours: How many vote; by default the four values of DINOv2.
        temperature: Of the votes.

    Raises:
        InputError: If more neighbours are asked for than there are training examples, the
            temperature is not positive, or a row of features is zero and has no direction.

    Example:
        >>> x, y = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), np.array([0, 0, 1])
        >>> knn_predictions(x, y, np.array([[5.0, 1.0], [0.1, 3.0]]), neighbours=[1, 3])
        {1: array([0, 1]), 3: array([0, 1])}
    """
    train = matrix(train_x, "training features", least=2)
    test = matrix(test_x, "test features").to(train.device)
    y = labels_of(train_y, len(train))
    check_classes(y.numpy(), "training features")
    same_width(test, train.shape[1], "test features")
    _check_options(neighbours, temperature, len(train))
    onehot = torch.eye(int(y.max()) + 1, dtype=torch.float64)[y].to(train.device)
    directions = _directions(train, "training features")
    rows = max(1, BLOCK_BYTES // (8 * len(train)))
    parts = [
        _predict(_directions(block, "test features"), directions, onehot, neighbours, temperature)
        for block in test.split(rows)
    ]
    return {k: np.concatenate([part[k] for part in parts]) for k in neighbours}


def _predict(
    block: Float[Tensor, "N D"],
    directions: Float[Tensor, "M D"],
    onehot: Float[Tensor, "M K"],
    neighbours: Sequence[int],
    temperature: float,
) -> dict[int, Int64[np.ndarray, " N"]]:
    similarity, nearest = (block @ directions.T).topk(max(neighbours), dim=1)
    # Relative to the nearest, which changes no decision and cannot overflow.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = {
        k: torch.einsum("nk,nkc->nc", weights[:, :k], onehot[nearest[:, :k]]) for k in neighbours
    }
    return {k: vote.argmax(1).cpu().numpy() for k, vote in votes.items()}


def _directions(x: Float[Tensor, "N D"], name: str) -> Float[Tensor, "N D"]:
    x = x.double()
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    zeros = int((norms == 0).sum())
    if zeros:
        raise InputError(
            f"{zeros} of {len(x)} rows of {name} are zero; a direction was expected, since "
            "neighbours are found by cosine: leave these examples out or look for dead units"
        )
    return x / norms


def _check_options(neighbours: Sequence[int], temperature: float, num_train: int) -> None:
    if not neighbours or min(neighbours) < 1 or max(neighbours) > num_train:
        raise InputError(
            f"neighbours are {list(neighbours)}; numbers from 1 to the {num_train} training "
            "examples were expected: ask for fewer or give more examples"
        )
    if not temperature > 0:
        raise InputError(f"the temperature is {temperature}; a positive number was expected")
