r"""How a kernel changed, what it is aligned with, and how far such a number can be trusted.

Everything here is a function of kernel matrices of the same examples. Intervals come from a
delete-group jackknife over examples and never from a bootstrap with replacement: an example that
is drawn twice makes two equal rows, which lowers every rank and raises every alignment.

Shapes: N examples, C classes, G groups, S statistics, B permutations.

References:
    | Deep learning versus kernel learning (Fort et al., 2020)
    | https://arxiv.org/abs/2010.15110
    | Algorithms for Learning Kernels Based on Centered Alignment (Cortes et al., 2012)
    | https://jmlr.org/papers/v13/cortes12a.html
    | The effective rank (Roy & Vetterli, 2007)
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from analysis.jackknife import NUM_GROUPS as NUM_GROUPS
from analysis.jackknife import jackknife as jackknife
from analysis.jackknife import jackknife_groups as jackknife_groups
from core.records import Metric

JACOT = "Jacot et al. 2018, arXiv 1806.07572"
FORT = "Fort et al. 2020, arXiv 2010.15110"
CORTES = "Cortes et al. 2012, JMLR 13"
ROY = "Roy & Vetterli 2007, EUSIPCO"
ARORA = "Arora et al. 2019, arXiv 1901.08584"
END = "0 pretrained, 1 fine-tuned"
SHARE: dict[str, Any] = {"low": 0.0, "high": 1.0}

METRICS = {
    "kernel_distance": Metric(
        title="kernel distance",
        symbol="1 - cos(K_0, K_1)",
        reference=FORT,
        **SHARE,
    ),
    "kernel_distance_centred": Metric(title="kernel distance, centred", reference=FORT, **SHARE),
    "kernel_change": Metric(
        title="relative kernel change",
        symbol="norm(K_1 - K_0) / norm(K_0)",
        low=0.0,
        reference=FORT,
    ),
    "random_kernel_distance": Metric(
        title="kernel distance, random move", reference=FORT, **SHARE
    ),
    "kernel_velocity": Metric(
        title="kernel distance per step since the last checkpoint",
        coordinate="step",
        low=0.0,
        reference=FORT,
    ),
    "label_alignment": Metric(
        title="label alignment, centred",
        direction="higher",
        coordinate=END,
        reference=CORTES,
        **SHARE,
    ),
    "label_alignment_change": Metric(
        title="change of the label alignment", direction="higher", reference=CORTES
    ),
    "permuted_label_alignment": Metric(
        title="label alignment, labels permuted (mean and 95 % of the permutations)",
        coordinate=END,
        reference=CORTES,
        **SHARE,
    ),
    "effective_rank": Metric(
        title="effective rank (eigenvalues)", coordinate=END, low=1.0, reference=ROY
    ),
    "effective_rank_centred": Metric(
        title="effective rank (eigenvalues), centred", coordinate=END, low=1.0, reference=ROY
    ),
    "effective_rank_change": Metric(title="change of the effective rank", reference=ROY),
    "kernel_trace": Metric(
        title="trace of the kernel per example", coordinate=END, low=0.0, reference=JACOT
    ),
    "label_energy": Metric(
        title="label energy in the top C eigenvectors, centred",
        direction="higher",
        coordinate=END,
        reference=ARORA,
        **SHARE,
    ),
    "block_trace_share": Metric(title="share of the pretrained trace", reference=JACOT, **SHARE),
    "kernel_float64_gap": Metric(
        title="difference of the kernel distance in float32 and float64",
        direction="lower",
        low=0.0,
    ),
}

Kernel = Float[np.ndarray, "N N"]
OneHot = Float[np.ndarray, "N C"]


def centred(kernel: Kernel) -> Kernel:
    r"""The kernel of centred features, :math:`HKH` with :math:`H = I - \mathbf{1 1}^T / N`.

    Example:
        >>> centred(np.eye(2))
        array([[ 0.5, -0.5],
               [-0.5,  0.5]])
    """
    rows = kernel.mean(0, keepdims=True)
    return kernel - rows - kernel.mean(1, keepdims=True) + rows.mean()


def kernel_distance(kernel0: Kernel, kernel1: Kernel) -> float:
    r"""One minus the cosine of two kernels; NaN where one of them is zero.

    .. math:: 1 - \frac{\langle K_0, K_1 \rangle_F}{\|K_0\|_F \|K_1\|_F}
        = \frac{1}{2} \left\| \frac{K_0}{\|K_0\|_F} - \frac{K_1}{\|K_1\|_F} \right\|_F^2

    The right-hand side keeps its digits when the kernels hardly differ.

    Example:
        >>> kernel_distance(np.diag([1.0, 0.0]), np.diag([0.0, 3.0]))
        1.0
    """
    return float(((_unit(kernel0) - _unit(kernel1)) ** 2).sum() / 2)


def _unit(kernel: Kernel) -> Kernel:
    """Of Frobenius norm one; NaN for a kernel that is zero."""
    size = np.linalg.norm(kernel)
    return kernel / size if size else np.full_like(kernel, np.nan)


def kernel_change(kernel0: Kernel, kernel1: Kernel) -> float:
    r"""Relative size of the change, :math:`\|K_1 - K_0\|_F / \|K_0\|_F`.

    Example:
        >>> kernel_change(np.eye(2), 3 * np.eye(2))
        2.0
    """
    size = np.linalg.norm(kernel0)
    return float(np.linalg.norm(kernel1 - kernel0) / size) if size else float("nan")


def label_alignment(kernel: Kernel, onehot: OneHot) -> float:
    r"""Centred alignment of a kernel with the kernel of the labels.

    .. math:: \frac{\langle HKH, HYY^TH \rangle_F}{\|HKH\|_F \|HYY^TH\|_F}

    NaN where all examples are of one class.

    References:
        | Algorithms for Learning Kernels Based on Centered Alignment (Cortes et al., 2012)
    """
    y = onehot - onehot.mean(0)
    kernel = centred(kernel)
    # |Y Y^T| = |Y^T Y|, which is C x C.
    size = np.linalg.norm(kernel) * np.linalg.norm(y.T @ y)
    return float((y * (kernel @ y)).sum() / size) if size else float("nan")


def permuted_alignments(
    kernel: Kernel,
    onehot: OneHot,
    strata: Int[np.ndarray, " N"],
    *,
    num: int,
    seed: int,
) -> Float[np.ndarray, " B"]:
    """The label alignment after each of `num` permutations of the labels.

    Labels only change places within a stratum (an environment), so that what the environments
    alone explain is part of the null.
    """
    generator = np.random.default_rng(seed)
    alignments = np.empty(num)
    for b in range(num):
        order = np.lexsort((generator.random(len(strata)), strata))
        permuted = np.empty_like(onehot)
        permuted[np.argsort(strata, kind="stable")] = onehot[order]
        alignments[b] = label_alignment(kernel, permuted)
    return alignments


def spectrum(kernel: Kernel) -> Float[np.ndarray, " N"]:
    r"""Eigenvalues as shares of the trace, :math:`\lambda_i / \sum_j \lambda_j`, largest first.

    Negative ones, which only rounding makes, are zero. NaN for a kernel that is zero.

    Example:
        >>> spectrum(np.diag([1.0, 3.0]))
        array([0.75, 0.25])
    """
    values = np.linalg.eigvalsh(kernel)[::-1].clip(min=0)
    return values / values.sum() if values.any() else np.full_like(values, np.nan)


def effective_rank(kernel: Kernel) -> float:
    r"""Exponential of the entropy of the spectrum.

    .. math:: \exp \Bigl( -\sum_i p_i \ln p_i \Bigr), \quad p_i = \lambda_i / \sum_j \lambda_j

    The eigenvalues of a kernel are the squared singular values of its features, so this is lower
    than the effective rank of the features. It grows with N: compare at equal N. NaN for zero.

    References:
        | The effective rank (Roy & Vetterli, 2007)

    Example:
        >>> round(effective_rank(np.diag([2.0, 2.0, 2.0, 0.0])), 12)
        3.0
    """
    p = spectrum(kernel)
    p = p[p != 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def label_energy(kernel: Kernel, onehot: OneHot, num: int) -> float:
    r"""Share of the centred labels that lies in the leading eigenvectors of the centred kernel.

    .. math:: \sum_{i \le k} \|u_i^T H Y\|^2 / \|H Y\|_F^2

    Labels in no relation to the kernel have :math:`k / (N - 1)` on average. NaN where
    :math:`k \ge N - 1`, since so many eigenvectors hold everything.

    Args:
        kernel: Kernel of the examples.
        onehot: Their classes.
        num: Number k of eigenvectors; C where nothing else is meant.

    References:
        | Fine-Grained Analysis of Optimization and Generalization (Arora et al., 2019)
        | https://arxiv.org/abs/1901.08584
    """
    y = onehot - onehot.mean(0)
    total = (y**2).sum()
    if not total or num >= len(kernel) - 1:
        return float("nan")
    vectors = np.linalg.eigh(centred(kernel))[1][:, -num:]
    return float(((vectors.T @ y) ** 2).sum() / total)


def one_hot(labels: Int[np.ndarray, " N"], num_classes: int) -> OneHot:
    """Classes as rows of the identity.

    Example:
        >>> one_hot(np.array([1, 0]), 2)
        array([[0., 1.],
               [1., 0.]])
    """
    return np.eye(num_classes)[labels]
