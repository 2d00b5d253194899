r"""What is put between the penultimate features and the classifier while training.

Shapes: N examples, D features.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from core.errors import InputError

Noise = Callable[[Float[Tensor, "N D"]], Float[Tensor, "N D"]]


def dropout(rate: float) -> Noise:
    r"""Inverted dropout: a fresh mask per example and feature.

    .. math:: \tilde\Phi_j = m_j \Phi_j / (1 - \lambda), \qquad m_j \sim B(1 - \lambda)

    Raises:
        InputError: If the rate is not in [0, 1).

    Example:
        >>> dropout(0.0)(torch.ones(1, 3))
        tensor([[1., 1., 1.]])
    """
    check_drop_rate(rate)
    return lambda features: torch.nn.functional.dropout(features, p=rate)


def check_drop_rate(rate: float) -> None:
    """Refuse a rate outside [0, 1).

    Raises:
        InputError: At a rate of 1 nothing would reach the classifier.
    """
    if not 0 <= rate < 1:
        raise InputError(
            f"the dropout rate is {rate}; expected 0 <= rate < 1, since at 1 nothing reaches the "
            "classifier: choose for example --drop_rate 0.9"
        )
