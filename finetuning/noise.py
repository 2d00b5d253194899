r"""Noise on features while training: dropout and its rivals, all of the same mean and strength.

Every noise multiplies the units by random numbers of mean one. Its rate :math:`\lambda` is that of
dropout: the share of the units that is dropped or, where none is dropped (`gaussian`), whatever
gives the multipliers the variance :math:`\lambda / (1 - \lambda)`.

Shapes: N examples, D units (features, or channels of a map), M masks.

References:
    | Dropout, and Gaussian noise in its place (Srivastava et al., 2014)
    | https://jmlr.org/papers/v15/srivastava14a.html
    | Masksembles for Uncertainty Estimation (Durasov et al., 2021)
    | https://arxiv.org/abs/2012.08334
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.errors import InputError

Noise = Callable[[Float[Tensor, "N D"]], Float[Tensor, "N D"]]
FeatureNoise = Literal["dropout", "gaussian", "masksembles", "block", "batch"]

BLOCK = 8  # neighbouring units that are dropped together
FEWEST_MASKS = 4  # as in the paper on Masksembles


def feature_noise(kind: FeatureNoise, rate: float, *, seed: int = 0) -> Noise:
    """The noise of this name.

    Args:
        kind: `dropout`, or one of its rivals: `gaussian`, `masksembles`, `block` and `batch`.
        rate: Its rate.
        seed: Seed of the masks that stay the same for a whole run (`masksembles`).

    Raises:
        InputError: If the rate is not in [0, 1).

    Example:
        >>> feature_noise("batch", 0.0)(torch.ones(1, 3))
        tensor([[1., 1., 1.]])
    """
    if kind == "masksembles":
        return masksembles(rate, seed)
    return {
        "dropout": dropout,
        "gaussian": gaussian,
        "block": block_masks,
        "batch": batch_masks,
    }[kind](rate)


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


def gaussian(rate: float) -> Noise:
    r"""Multiplicative Gaussian noise with the mean and the variance of dropout.

    .. math:: \tilde\Phi_j = (1 + \sqrt{\lambda / (1 - \lambda)}\, z_j) \Phi_j, \qquad
        z_j \sim N(0, 1)

    Raises:
        InputError: If the rate is not in [0, 1).
    """
    check_drop_rate(rate)
    scale = math.sqrt(rate / (1 - rate))
    return lambda features: features * (1 + scale * torch.randn_like(features))


def batch_masks(rate: float) -> Noise:
    """Dropout with one mask for all examples of a batch, a fresh one at every step.

    Raises:
        InputError: If the rate is not in [0, 1).
    """
    keep = dropout(rate)
    return lambda features: features * keep(_ones(features, 1, features.shape[1]))


def block_masks(rate: float) -> Noise:
    """Dropout of blocks of `BLOCK` neighbouring units, which share their fate.

    Raises:
        InputError: If the rate is not in [0, 1).
    """
    keep = dropout(rate)

    def noise(features: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        num, width = features.shape
        blocks = keep(_ones(features, num, -(-width // BLOCK)))
        return features * blocks.repeat_interleave(BLOCK, dim=1)[:, :width]

    return noise


def masksembles(rate: float, seed: int) -> Noise:
    """Fixed masks, one of which is drawn for every example; see `fixed_masks`.

    Raises:
        InputError: If the rate is not in [0, 1).
    """
    check_drop_rate(rate)
    masks_of = torch.compiler.disable(fixed_masks)

    def noise(features: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        masks = masks_of(rate, features.shape[1], seed).to(features)  # type: ignore[call-arg]
        chosen = torch.randint(len(masks), (len(features),), device=features.device)
        return features * masks[chosen]

    return noise


@functools.cache
def fixed_masks(rate: float, width: int, seed: int) -> Float[Tensor, "M D"]:
    r"""The masks of a run: each keeps as many units, each unit is in as many masks (or one more).

    .. math:: \tilde\Phi_j = \frac{M}{c_j} m_{ij} \Phi_j, \qquad c_j = \sum_i m_{ij} \ge 1

    which is unbiased when every mask :math:`i` is as likely. There are `FEWEST_MASKS`, or as many
    as it takes for every unit to be in one.

    Example:
        >>> masks = fixed_masks(0.9, 20, seed=0)
        >>> masks.shape, masks.mean(0).min().item(), (masks > 0).sum(1).unique().item()
        (torch.Size([10, 20]), 1.0, 2)
    """
    kept = max(1, math.ceil(round((1 - rate) * width, 6)))  # 0.3 * 10 is more than 3
    generator = np.random.default_rng([seed, width])
    masks = np.zeros((max(FEWEST_MASKS, -(-width // kept)), width))
    for mask in masks:
        # Units in the fewest masks so far first, in random order among themselves.
        mask[np.lexsort([generator.random(width), masks.sum(0)])[:kept]] = 1
    return torch.from_numpy(masks * len(masks) / masks.sum(0))


def _ones(features: Tensor, *shape: int) -> Tensor:
    return torch.ones(shape, dtype=features.dtype, device=features.device)


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
