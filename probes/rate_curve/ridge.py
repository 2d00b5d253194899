r"""A linear layer by isotropic ridge, as strong on the average as the dropout of a rate.

Dropout's own penalty has one strength a feature; ridge has their mean,

.. math::
    r_j = \frac{\lambda}{1 - \lambda} \sum_i x_{ij}^2, \qquad r = \frac1D \sum_j r_j .

For the cross-entropy dropout also weighs classes by :math:`H(p) = \operatorname{diag}(p) - p p^T`;
ridge has it at the uniform p, where of centred classes it is 1/C. The intercept is free.

Shapes: N examples, D features, C classes.
"""

import torch
from torch.nn.functional import one_hot

from core.arrays import Array, labels_of, matrix
from probes.dropout_head import Loss
from probes.dropout_ridge import Head, odds
from probes.transfer.solver import Problem

_TOLERANCE, _ITERATIONS = 1e-5, 2000


def ridge_head(features: Array, labels: Array, rate: float, *, loss: Loss, decay: float) -> Head:
    r"""The minimiser of the loss with the penalty of isotropic ridge.

    .. math:: \sum_i \|y_i - f_i\|^2 + r \|W\|^2 \qquad\text{or}\qquad
        \frac1N \sum_i \ell_i + \Big( \frac{r}{2NC} + \frac{\mathrm{decay}}{2} \Big) \|W\|^2

    Args:
        features: One row per example.
        labels: Class indices; the squared loss is of one-hot labels.
        rate: Of the dropout that it should equal.
        loss: `squared` or `cross_entropy`.
        decay: Further penalty, of the cross-entropy alone.

    Raises:
        InputError: If features and labels do not fit, or the rate is not in [0, 1).
    """
    x = matrix(features).double()
    y = labels_of(labels, len(x)).to(x.device)
    mean, centred = x.mean(0), x - x.mean(0)
    strength = odds(rate) * float(x.square().sum(0).mean())
    if loss == "squared":
        targets = one_hot(y).double()
        penalised = centred.T @ centred
        penalised.diagonal().add_(strength)
        weight = torch.linalg.pinv(penalised, hermitian=True) @ centred.T @ targets
        return Head(weight.T, targets.mean(0) - mean @ weight)
    num_classes = int(y.max()) + 1
    per_example = decay + strength / (len(x) * num_classes)
    # The solver halves the penalty of two classes, as scikit-learn does.
    C = (2 if num_classes == 2 else 1) / (per_example * len(x))
    problem = Problem(centred.cpu().numpy(), y.cpu().numpy())
    (solution,) = problem.path([C], _TOLERANCE, _ITERATIONS)
    weight = torch.from_numpy(solution.weights[:, :-1] @ problem.axes.T).to(x)
    bias = torch.from_numpy(solution.weights[:, -1]).to(x) - weight @ mean
    return Head(weight, bias, solution.converged)
