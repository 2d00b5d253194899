r"""How many dimensions features fill: ranks that count softly.

Every function takes features or, to share the work between several, their `Moments`. Every one
grows with N: compare at equal N, and look at the participation ratio or the stable rank first
where N is below about four times D.

Shapes: N examples, D features, M = min(N, D) singular values :math:`s_i` with
:math:`\lambda_i = s_i^2`.

References:
    | The effective rank (Roy & Vetterli, 2007)
    | RankMe (Garrido et al., 2023), https://arxiv.org/abs/2210.02885
    | A theory of multineuronal dimensionality (Gao et al., 2017)
    | Learning Diverse and Discriminative Representations via the Principle of Maximal Coding
      Rate Reduction (Yu et al., 2020), https://arxiv.org/abs/2006.08558
"""

from typing import Literal

import numpy as np
from scipy.special import entr

from core.errors import InputError
from probes.richness.spectrum import Moments, Source, Spectrum, moments_of

RANKME_EPS = 1e-7  # the paper's, for float32


def effective_rank(
    features: Source, on: Literal["singular", "eigen"] = "singular", *, centred: bool = True
) -> float:
    r"""Exponential of the entropy of the normalised singular values.

    .. math:: \exp \Bigl( -\sum_i p_i \ln p_i \Bigr), \quad p_i = s_i / \sum_j s_j

    Much public code takes eigenvalues, :math:`p_i = \lambda_i / \sum_j \lambda_j`, under the same
    name; that is a far smaller number.

    Args:
        features: N x D, or their moments.
        on: Singular values of the features, as defined, or eigenvalues of their covariance.
        centred: Whether the mean is taken off first.

    Raises:
        InputError: If all singular values are zero.

    References:
        | The effective rank (Roy & Vetterli, 2007)

    Example:
        >>> round(effective_rank(torch.eye(5), centred=False), 12)
        5.0
    """
    values = _spectrum(features, centred=centred)
    values = np.sqrt(values) if on == "singular" else values
    return float(np.exp(entr(values / values.sum()).sum()))


def rankme(features: Source, eps: float = RANKME_EPS) -> float:
    r"""RankMe: the effective rank of the uncentred features as its authors compute it.

    .. math:: \exp \Bigl( -\sum_{i \le M} p_i \ln p_i \Bigr),
        \quad p_i = s_i / \sum_j s_j + \epsilon

    :math:`\epsilon` comes after the normalisation, so that rank one in 2048 dimensions has 1.0033.
    A large mean, as rectified features have it, hides everything else. The authors compare runs of
    one method by it, on the embeddings behind the projector and 25,600 images.

    Raises:
        InputError: If all features are zero.

    References:
        | RankMe (Garrido et al., 2023), https://arxiv.org/abs/2210.02885
    """
    values = np.sqrt(_spectrum(features, centred=False))
    return float(np.exp(entr(values / values.sum() + eps).sum()))


def participation_ratio(
    features: Source, *, unbiased: bool = False, centred: bool = True
) -> float:
    r"""How evenly the variance is spread over directions.

    .. math:: \frac{(\sum_i \lambda_i)^2}{\sum_i \lambda_i^2} = \frac{(\tr C)^2}{\|C\|_F^2}

    With few examples this is too small. `unbiased` divides the U-statistics of
    :math:`(\tr \Sigma)^2` and :math:`\tr \Sigma^2` (four distinct examples a term), which are
    unbiased one by one; their ratio is so up to terms of order 1/N. With the sample covariance S
    and :math:`q = \sum_i \|z_i - \mu\|^4 / (N - 1)` they are, up to a common factor,

    .. math::
        (N^2 - 3N + 1)(\tr S)^2 + 2 \tr S^2 - N q, \qquad
        (\tr S)^2 + (N - 1)(N - 2) \tr S^2 - N q

    Args:
        features: N x D, or their moments.
        unbiased: Whether to divide unbiased estimates of numerator and denominator.
        centred: Whether the mean is taken off first; unbiased estimates always do.

    Raises:
        InputError: If the features do not vary, or `unbiased` is asked of fewer than four
            examples, of uncentred features, or where the denominator comes out at zero or below.

    References:
        | A theory of multineuronal dimensionality (Gao et al., 2017)
        | Estimations of some functions of the covariance matrix (Himeno & Yamada, 2014)
        | Estimating Dimensionality of Neural Representations from Finite Samples (Chun et al.,
          2025), https://arxiv.org/abs/2509.26560

    Example:
        >>> round(participation_ratio(torch.eye(5)), 12)
        4.0
    """
    moments = varying_moments(features, centred=centred)
    if not unbiased:
        return moments.total(centred=centred) ** 2 / moments.total_of_squares(centred=centred)
    if not centred:
        raise InputError(
            "an unbiased participation ratio of uncentred features was asked for; it exists for "
            "centred ones only: drop one option"
        )
    numerator, denominator = unbiased_traces(moments)
    if denominator <= 0:
        raise InputError(
            f"{moments.num_examples} examples are too few for the unbiased participation ratio: "
            "the estimate of its denominator is not positive; give more examples"
        )
    return numerator / denominator


def unbiased_traces(features: Source) -> tuple[float, float]:
    r"""Unbiased estimates of :math:`(\tr \Sigma)^2` and :math:`\tr \Sigma^2`, in this order.

    Raises:
        InputError: If there are fewer than four examples.

    References:
        | Estimations of some functions of the covariance matrix (Himeno & Yamada, 2014)
    """
    moments = moments_of(features)
    n = moments.num_examples
    if n < 4:
        raise InputError(
            f"there are {n} examples; unbiased traces of the covariance need four or more"
        )
    trace = (moments.total() / (n - 1)) ** 2
    square = moments.total_of_squares() / (n - 1) ** 2
    q = float(moments.square_norms.square().sum()) / (n - 1)
    factor = (n - 1) / (n * (n - 2) * (n - 3))
    return (
        factor * ((n * n - 3 * n + 1) * trace + 2 * square - n * q),
        factor * (trace + (n - 1) * (n - 2) * square - n * q),
    )


def stable_rank(features: Source, *, centred: bool = True) -> float:
    r"""Total variance over that of the first principal component.

    .. math:: \|Z_c\|_F^2 / \|Z_c\|_2^2 = \sum_i \lambda_i / \lambda_1

    The same number is known as NESum. Uncentred, it hardly sees anything but the mean.

    Raises:
        InputError: If the features do not vary.

    References:
        | Sampling from large matrices (Rudelson & Vershynin, 2007)
        | Exploring the Gap between Collapsed and Whitened Features (He & Ozay, 2022)

    Example:
        >>> round(stable_rank(torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])), 12)
        1.25
    """
    values = _spectrum(features, centred=centred)
    return float(values.sum() / values[0])


nesum = stable_rank


def explained_variance_dims(features: Source, share: float = 0.9) -> int:
    """How many principal components hold a share of the variance.

    Raises:
        InputError: If the features do not vary, or the share is not in (0, 1].

    Example:
        >>> explained_variance_dims(torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]]), 0.75)
        1
    """
    if not 0 < share <= 1:
        raise InputError(f"the share of variance is {share}; a number in (0, 1] was expected")
    cumulated = _spectrum(features).cumsum()
    # A share that is met exactly may miss by the rounding of the sum.
    least = share * cumulated[-1] * (1 - len(cumulated) * np.finfo(np.float64).eps)
    return int(np.searchsorted(cumulated, least)) + 1


def coding_rate(features: Source, eps: float = 0.5, *, unit_scale: bool = False) -> float:
    r"""Nats that encode the features up to a mean squared error of :math:`\epsilon^2`.

    .. math:: \tfrac12 \ln \det \Bigl( I + \frac{D}{N \epsilon^2} Z^T Z \Bigr)

    Of uncentred features, as they are. It depends on their scale, so compare networks with
    `unit_scale`, which first makes the mean squared norm one, as the authors' constraint does.
    (TransRate in tllib has another convention: no D, and :math:`\epsilon` not squared.)

    Raises:
        InputError: If all features are zero.

    References:
        | Principle of Maximal Coding Rate Reduction (Yu et al., 2020)
        | https://arxiv.org/abs/2006.08558
    """
    moments = moments_of(features)
    values = _spectrum(moments, centred=False)
    energy = values.sum() if unit_scale else moments.num_examples
    return float(np.log1p(moments.num_features / (energy * eps**2) * values).sum() / 2)


def _spectrum(features: Source, *, centred: bool = True) -> Spectrum:
    return varying_moments(features, centred=centred).eigenvalues(centred=centred)


def varying_moments(features: Source, *, centred: bool = True) -> Moments:
    """Moments of features that are not constant, or not zero where the mean stays.

    Raises:
        InputError: If all examples are the same, or zero.
    """
    moments = moments_of(features)
    if not moments.total(centred=centred):
        found, wanted = ("the same", "that vary") if centred else ("zero", "other than zero")
        raise InputError(
            f"all {moments.num_examples} examples are {found}; features {wanted} were expected: "
            "look at the network or the layer they come from"
        )
    return moments
