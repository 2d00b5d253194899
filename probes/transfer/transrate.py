r"""TransRate: nats of the features that tell the classes apart, by coding rates.

.. math:: R(Z, \epsilon) = \tfrac{1}{2} \ln\det \Bigl( I + \frac{1}{N \epsilon} Z^T Z \Bigr),
    \qquad \mathrm{TransRate} = R(Z, \epsilon) - \sum_c \frac{N_c}{N} R(Z_c, \epsilon)

Conventions, which differ between publications: Z is centred by the mean of all examples, the
classes are not centred again; the factor is :math:`1 / N \epsilon` as in the code of the paper,
and not the :math:`D / N \epsilon^2` of rate reduction; classes count by their share of the
examples, where the code takes the plain mean, the same for balanced classes. Natural logarithms.

The distortion :math:`\epsilon` is absolute: the value depends on the scale of the features.

Shapes: N examples, D features.

References:
    | Frustratingly Easy Transferability Estimation (Huang et al., 2022)
    | https://arxiv.org/abs/2106.09362
    | Learning Diverse and Discriminative Representations via the Principle of Maximal Coding Rate
    | Reduction (Yu et al., 2020), https://arxiv.org/abs/2006.08558
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.arrays import Array
from core.errors import InputError
from probes.transfer.checks import labelled

EPS = 1e-4


def transrate(features: Array, labels: Array, *, eps: float = EPS) -> float:
    """TransRate in nats; higher is better, never negative.

    Args:
        features: Features, one row per example.
        labels: Class indices.
        eps: Distortion, in squared units of the features.

    Raises:
        InputError: If features and labels do not fit, or `eps` is not positive.
    """
    if not eps > 0:
        raise InputError(f"eps is {eps}; a positive distortion was expected, such as {EPS}")
    x, y = labelled(features, labels)
    z = x.double()
    z = z - z.mean(0)
    within = sum(
        float(np.mean(y == c)) * coding_rate(z[torch.from_numpy(y == c).to(z.device)], eps)
        for c in np.unique(y)
    )
    return coding_rate(z, eps) - within


def coding_rate(z: Float[Tensor, "N D"], eps: float) -> float:
    """Coding rate in nats, through the smaller of the two Gram matrices.

    Example:
        >>> round(coding_rate(torch.eye(2), 0.5), 6)  # ln 2
        0.693147
    """
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return float(torch.linalg.slogdet(eye + gram / (len(z) * eps)).logabsdet) / 2
