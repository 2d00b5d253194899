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

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from analysis.intervals import LEVEL, Row
from core.records import Metric

JACOT = "Jacot et al. 2018, arXiv 1806.07572"
FORT = "Fort et al. 2020, arXiv 2010.15110"
CORTES = "Cortes et al. 2012, JMLR 13"
ROY = "Roy & Vetterli 2007, EUSIPCO"
ARORA = "Arora et al. 2019, arXiv 1901.08584"
END = "0 pretrained, 1 fine-tuned"
NUM_GROUPS = 20
SHARE: dict[str, Any] = {"low": 0.0, "high": 1.0}

METRICS = {
    "kernel_distance": Metric(
        title="kernel distance",
        symbol="1 - cos(K_0, K_1)",
        direction="lower",
        reference=FORT,
        **SHARE,
    ),
    "kernel_distance_centred": Metric(
        title="kernel distance, centred", direction="lower", reference=FORT, **SHARE
    ),
    "kernel_change": Metric(
        title="relative kernel change",
        symbol="norm(K_1 - K_0) / norm(K_0)",
        direction="lower",
        low=0.0,
        reference=FORT,
    ),
    "random_kernel_distance": Metric(
        title="kernel distance, random move", direction="lower", reference=FORT, **SHARE
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
    "float64_gap": Metric(
        title="difference of the kernel distance in float32 and float64",
        direction="lower",
        low=0.0,
    ),
}

Kernel = Float[np.ndarray, "N N"]
OneHot = Float[np.ndarray, "N C"]
Indices = Int[np.ndarray, " _"]
Name = TypeVar("Name")


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


def effective_rank(kernel: Kernel) -> float:
    r"""Exponential of the entropy of the normalised eigenvalues.

    .. math:: \exp \Bigl( -\sum_i p_i \ln p_i \Bigr), \quad p_i = \lambda_i / \sum_j \lambda_j

    The eigenvalues of a kernel are the squared singular values of its features, so this is lower
    than the effective rank of the features. It grows with N: compare at equal N. NaN for zero.

    References:
        | The effective rank (Roy & Vetterli, 2007)

    Example:
        >>> round(effective_rank(np.diag([2.0, 2.0, 2.0, 0.0])), 12)
        3.0
    """
    values = np.linalg.eigvalsh(kernel).clip(min=0)
    p = values[values > 0] / values.sum() if values.any() else np.array([np.nan])
    return float(np.exp(-(p * np.log(p)).sum()))


def label_energy(kernel: Kernel, onehot: OneHot, num: int) -> float:
    r"""Share of the centred labels that lies in the leading eigenvectors of the centred kernel.

    .. math:: \sum_{i \le k} \|u_i^T H Y\|^2 / \|H Y\|_F^2

    Labels in no relation to the kernel have :math:`k / (N - 1)` on average.

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
    if not total:
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


def jackknife_groups(
    strata: Int[np.ndarray, " N"], *, seed: int, num_groups: int = NUM_GROUPS
) -> Int[np.ndarray, " N"]:
    """A group for every example: random, of equal size up to one, every stratum spread evenly.

    Example:
        >>> groups = jackknife_groups(np.zeros(5, int), seed=0, num_groups=2)
        >>> np.bincount(groups)
        array([3, 2])
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(strata)), strata))
    groups = np.empty(len(strata), int)
    groups[order] = np.arange(len(strata)) % min(num_groups, len(strata))
    return groups


def jackknife(
    statistics: Callable[[Indices], Mapping[Name, float]], groups: Int[np.ndarray, " N"]
) -> dict[Name, Row]:
    r"""Values with the standard errors and normal intervals of the delete-group jackknife.

    .. math:: \hat\sigma^2 = \frac{G - 1}{G} \sum_g (\theta_{-g} - \bar\theta)^2

    There is no interval for a single group, or where a value is undefined without some group.

    Args:
        statistics: From indices of examples to values by name.
        groups: Group of every example, from `jackknife_groups`.

    References:
        | The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), chapter 3
    """
    num, num_groups = len(groups), int(groups.max()) + 1
    whole = statistics(np.arange(num))
    if num_groups < 2:
        return {name: {"value": v, "num_examples": num} for name, v in whole.items()}
    without = [statistics(np.flatnonzero(groups != g)) for g in range(num_groups)]
    return {
        name: _row(value, np.array([part[name] for part in without]), num)
        for name, value in whole.items()
    }


def _row(value: float, without: Float[np.ndarray, " G"], num_examples: int) -> Row:
    row: Row = {"value": value, "num_examples": num_examples}
    if not (np.isfinite(value) and np.isfinite(without).all()):
        return row
    stderr = float(np.sqrt((len(without) - 1) * without.var()))
    half = float(norm.ppf((1 + LEVEL) / 2)) * stderr
    return row | {"stderr": stderr, "low": value - half, "high": value + half}
