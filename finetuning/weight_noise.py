r"""Noise on weights while training: DropConnect in the classifier, mixout below it.

Shapes: N examples, C outputs, D features.

References:
    | Regularization of Neural Networks using DropConnect (Wan et al., 2013)
    | https://proceedings.mlr.press/v28/wan13.html
    | Mixout (Lee et al., 2020), https://arxiv.org/abs/1909.11299
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import Conv2d, Linear, Module
from torch.nn.functional import dropout
from torch.utils.hooks import RemovableHandle

from core.models import classifier, classifier_name
from finetuning.noise import check_drop_rate


def dropconnect(
    features: Float[Tensor, "N D"],
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"] | None,
    rate: float,
) -> Float[Tensor, "N C"]:
    r"""A linear layer that loses each of its weights at random, for every example anew.

    .. math:: f_c = \sum_j \frac{m_{cj}}{1 - \lambda} V_{cj} \Phi_j + b_c, \qquad
        m_{cj} \sim B(1 - \lambda)

    Dropout loses the same units for all outputs, DropConnect others for each. Takes N x C x D
    numbers of memory.
    """
    weights = dropout(weight.expand(len(features), *weight.shape), rate)
    logits = torch.einsum("nd,ncd->nc", features, weights)
    return logits if bias is None else logits + bias


def insert_dropconnect(model: Module, rate: float) -> RemovableHandle:
    """Put DropConnect into the classifier, in training mode only.

    Raises:
        InputError: If the rate is not in [0, 1).
    """
    check_drop_rate(rate)

    def hook(module: Linear | Conv2d, args: tuple[Tensor], output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        weight = module.weight.flatten(1)
        return dropconnect(args[0].flatten(1), weight, module.bias, rate).view_as(output)

    return classifier(model).register_forward_hook(hook)


def mixout(
    weight: Float[Tensor, "*shape"], origin: Float[Tensor, "*shape"], rate: float
) -> Float[Tensor, "*shape"]:
    r"""Weights of which some are put back to where they came from; the mean is `weight`.

    .. math:: \tilde\theta = \theta_0 + \frac{m}{1 - \lambda} (\theta - \theta_0), \qquad
        m \sim B(1 - \lambda)

    or, as published, :math:`((1 - m) \theta_0 + m \theta - \lambda \theta_0) / (1 - \lambda)`.
    """
    return origin + dropout(weight - origin, rate)


class Mixout(Module):
    """A network that trains with mixout towards the weights that it has when this is built.

    All parameters are mixed but the classifier's, which were not pretrained. One mask serves all
    examples of a batch. In evaluation mode it is the network.

    Args:
        model: The network; it keeps its trainable weights, buffers and hooks.
        rate: Probability with which a weight is put back.

    Raises:
        InputError: If the rate is not in [0, 1).
    """

    def __init__(self, model: Module, rate: float) -> None:
        super().__init__()
        check_drop_rate(rate)
        head = classifier_name(model) + "."
        self.model, self.rate = model, rate
        self.origin = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if not name.startswith(head)
        }

    def forward(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N C"]:
        """Logits, under fresh masks while the network is in training mode."""
        if not self.model.training:
            return self.model(x)
        weights = dict(self.model.named_parameters())
        mixed = {n: mixout(weights[n], origin, self.rate) for n, origin in self.origin.items()}
        return functional_call(self.model, mixed, (x,))
