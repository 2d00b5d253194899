r"""The paper's linear model (1): a frozen network's last residual blocks, adapted and classified.

.. math:: \tilde\Phi(x) = \sum_l v_l \odot \phi_l(x), \qquad f(x) = V \tilde\Phi(x) + b

:math:`\phi_l` are the pooled outputs of the last residual blocks of one width, or their residual
increments; :math:`v_l` one number a channel, drawn from N(0, 1); trained are v, V and b. The
text of the paper normalises the inputs, its released code does not (the layers are made, their
use is commented out): both are here.

Shapes: N examples, L blocks, D channels, C classes.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024), sections 3.2, 4.3 and B.1
    | https://arxiv.org/abs/2403.00946
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import BatchNorm1d, Identity, Linear, Module, Parameter
from torch.nn.functional import dropout

from core.errors import InputError
from finetuning.noise import check_drop_rate

Inputs = Literal["outputs", "increments"]
Norm = Literal["none", "batchnorm", "standardise"]
Blocks = Float[Tensor, "N L D"]


def stacked(blocks: Sequence[Float[Tensor, "N _"]], inputs: Inputs = "outputs") -> Blocks:
    r"""Pooled outputs of consecutive blocks as the model's inputs.

    Pooling is linear, so that increments :math:`\phi_l - \phi_{l-1}` are those of pooled outputs;
    the first block keeps its output, which is everything before. Outputs of different widths
    cannot be added: they are put beside each other as one block, so that each has columns of V
    of its own.

    Raises:
        InputError: If increments are asked of blocks of different widths.

    Example:
        >>> stacked([torch.ones(1, 2), 3 * torch.ones(1, 2)], "increments")[0].tolist()
        [[1.0, 1.0], [2.0, 2.0]]
        >>> stacked([torch.ones(1, 2), torch.ones(1, 3)]).shape
        torch.Size([1, 1, 5])
    """
    widths = [block.shape[1] for block in blocks]
    is_stack = len(set(widths)) == 1
    if not is_stack and inputs == "increments":
        raise InputError(
            f"the layers have {', '.join(map(str, widths))} channels; increments need layers of "
            "one width: choose others with --layers, or --inputs outputs"
        )
    if not is_stack:
        return torch.cat(list(blocks), 1)[:, None]
    x = torch.stack(list(blocks), 1)
    return x if inputs == "outputs" else x.diff(dim=1, prepend=torch.zeros_like(x[:, :1]))


class LinearModel(Module):
    """Model (1) on pooled block features; linear in V and b, and bilinear in v and V.

    Args:
        example: Some inputs to train on: their sizes, and their statistics under `standardise`.
        num_classes: Classes.
        norm: `none`, `batchnorm` (of the batch while training, without affine part) or
            `standardise` (by the statistics of `example`, once).
        drop_rate: Dropout on the adapted representation, in training mode.

    Raises:
        InputError: If the rate is not in [0, 1).
    """

    def __init__(
        self, example: Blocks, num_classes: int, *, norm: Norm = "none", drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        check_drop_rate(drop_rate)
        _, num_blocks, width = example.shape
        self.drop_rate = drop_rate
        self.norm = {
            "none": Identity,
            "batchnorm": lambda: _PerBlock(BatchNorm1d(num_blocks * width, affine=False)),
            "standardise": lambda: _Standardise(example),
        }[norm]()
        self.scales = Parameter(torch.randn(num_blocks, width))
        self.head = Linear(width, num_classes)

    def adapted(self, blocks: Blocks) -> Float[Tensor, "N D"]:
        r"""The representation :math:`\tilde\Phi`."""
        return (self.norm(blocks) * self.scales).sum(1)

    def forward(self, blocks: Blocks) -> Float[Tensor, "N C"]:
        """The logits."""
        return self.head(dropout(self.adapted(blocks), self.drop_rate, self.training))


class _PerBlock(Module):
    """A normalisation of N x LD, for N x L x D."""

    def __init__(self, norm: Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, blocks: Blocks) -> Blocks:
        return self.norm(blocks.flatten(1)).view_as(blocks)


class _Standardise(Module):
    """Channels less their means over their standard deviations; constant ones become zero."""

    mean: Tensor
    scale: Tensor

    def __init__(self, example: Blocks) -> None:
        super().__init__()
        std = example.std(0)
        self.register_buffer("mean", example.mean(0))
        self.register_buffer("scale", torch.where(std > 0, std, 1.0))

    def forward(self, blocks: Blocks) -> Blocks:
        return (blocks - self.mean) / self.scale
