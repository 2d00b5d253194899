r"""H-score: how far the class means spread relative to the spread of the features.

.. math:: H = \mathrm{tr}\bigl( \Sigma_\gamma^{-1}\, (1 - \gamma)\,
    \mathrm{Cov}(E[f \mid y]) \bigr)

:math:`\Sigma_\gamma` is the Ledoit-Wolf covariance with shrinkage :math:`\gamma`. Without it the
score of pure noise is K - 1, its maximum, as soon as there are fewer examples than features.

Shapes: N examples, D features, K classes.

References:
    | An Information-Theoretic Approach to Transferability in Task Transfer Learning
    | (Bao et al., 2019), https://doi.org/10.1109/ICIP.2019.8803726
    | Newer is not always better: Rethinking transferability metrics, their peculiarities,
    | stability and performance (Ibrahim et al., 2021), https://arxiv.org/abs/2110.06893
"""

import numpy as np
from jaxtyping import Float, Int64
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.covariance import LedoitWolf

from core.arrays import Array
from core.errors import InputError
from probes.transfer.checks import labelled


def h_score(features: Array, labels: Array) -> float:
    """Regularised H-score, between 0 and K - 1; higher is better.

    Columns that never vary hold nothing and are left out.

    Raises:
        InputError: If features and labels do not fit, or all features are constant.

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 0.2], [-1.0, 0.1], [-1.0, -0.3]])
        >>> h_score(x, np.array([0, 0, 1, 1])) > h_score(x, np.array([0, 1, 1, 0]))
        True
    """
    examples = labelled(features, labels)
    rows = examples.rows()
    rows = rows[:, (rows != rows[0]).any(0)]
    estimate = LedoitWolf().fit(rows)
    means = weighted_means(rows - estimate.location_, examples.labels)
    try:
        factor = cho_factor(estimate.covariance_)
    except LinAlgError as error:
        raise InputError(
            f"the shrunken covariance of {len(rows)} examples is singular, since nothing was "
            "shrunk; more examples were expected"
        ) from error
    spread = (means.T * cho_solve(factor, means.T)).sum()
    return float((1 - estimate.shrinkage_) * spread)


def weighted_means(
    centred: Float[np.ndarray, "N D"], labels: Int64[np.ndarray, " N"]
) -> Float[np.ndarray, "K D"]:
    r"""Class means times :math:`\sqrt{N_c / N}`, whose Gram matrix is Cov(E[f | y]).

    Example:
        >>> weighted_means(np.array([[1.0], [1.0], [-2.0], [0.0]]), np.array([0, 0, 1, 1])) ** 2
        array([[0.5],
               [0.5]])
    """
    onehot = (labels == np.unique(labels)[:, None]).astype(np.float64)
    return onehot @ centred / np.sqrt(onehot.sum(1, keepdims=True) * len(labels))
