r"""Taylor expansion of a network around its pretrained weights.

.. math:: f_\mathrm{lin}(x; \theta_1) = f(x; \theta_0) + J_{\theta_0}(x)\,(\theta_1 - \theta_0)

Weights are dictionaries from names to tensors: parameters, and float buffers where they moved.
Shapes: N examples, C outputs, D features.

References:
    | Task Arithmetic in the Tangent Space (Ortiz-Jimenez et al., 2023)
    | https://arxiv.org/abs/2305.12827
    | On Lazy Training in Differentiable Programming (Chizat et al., 2019)
    | https://arxiv.org/abs/1812.07956
"""

from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from core.device import full_precision
from core.linearization import Weights, displacement, first_order


@full_precision()
def taylor_outputs(
    model: Module, params0: Weights, params1: Weights, x: Float[Tensor, "N ..."]
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    r"""Outputs at :math:`\theta_0` and their first-order change towards :math:`\theta_1`.

    Returns:
        :math:`f(x; \theta_0)` and :math:`J_{\theta_0}(x)\,(\theta_1 - \theta_0)`, as logits.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> params0 = {name: p.detach() for name, p in layer.named_parameters()}
        >>> params1 = {name: p + 1 for name, p in params0.items()}
        >>> f0, df = taylor_outputs(layer, params0, params1, torch.ones(4, 3))
        >>> df[0]
        tensor([4., 4.])
    """
    delta = displacement(params0, params1)
    # Weights that are used twice have two names, and both move.
    outputs = lambda p: functional_call(model, p, (x,), tie_weights=False)
    return first_order(outputs, params0, delta)


def explained_displacement(
    f0: Float[Tensor, "N C"], df: Float[Tensor, "N C"], f1: Float[Tensor, "N C"]
) -> Float[Tensor, ""]:
    r"""Explained fraction of the output change.

    .. math:: R^2 = 1 - \|f_1 - f_0 - df\|^2 / \|f_1 - f_0\|^2

    One for a network that is linear in its parameters; negative where the expansion is worse
    than predicting no change at all.
    """
    change = f1 - f0
    return 1 - (change - df).square().sum() / change.square().sum()
