r"""LEEP, N-LEEP and NCE: how well a source classifier's outputs predict the target labels.

With :math:`\theta(x)` a distribution over Z source classes and the empirical
:math:`\hat P(y \mid z) = \sum_i \theta(x_i)_z [y_i = y] / \sum_i \theta(x_i)_z`

.. math:: \mathrm{LEEP} = \frac{1}{N} \sum_i \ln \sum_z \hat P(y_i \mid z)\, \theta(x_i)_z, \qquad
    \mathrm{NCE} = -H(Y \mid Z),\; Z = \arg\max_z \theta(x)_z

Both are averages of log likelihoods on the examples they were fitted to: at most zero, optimistic
for few examples and many source classes, and about :math:`-H(Y)` for labels in no relation to the
outputs. LEEP is at least :math:`-H(Y \mid Z)` of the soft counts (Jensen), and equal to NCE for
outputs that are certain; between LEEP and NCE of uncertain outputs there is no order, since they
count differently.

Shapes: N examples, D features, Z source classes, K target classes.

References:
    | LEEP: A New Measure to Evaluate Transferability of Learned Representations
    | (Nguyen et al., 2020), https://arxiv.org/abs/2002.12462
    | Ranking Neural Checkpoints (Li et al., 2021), N-LEEP, https://arxiv.org/abs/2011.11200
    | Transferability and Hardness of Supervised Classification Tasks (Tran et al., 2019), NCE
    | https://arxiv.org/abs/1908.08142
"""

import numpy as np
from jaxtyping import Float, Int64
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from probes.transfer.checks import check_classes, labelled, rows_of

SUM_TOLERANCE = 1e-3  # rows of a softmax in half precision are off by this much
EXPLAINED_VARIANCE = 0.8
COMPONENTS_PER_CLASS = 5


def leep(probabilities: Array, labels: Array) -> float:
    """Log expected empirical prediction; higher is better, at most zero.

    Args:
        probabilities: Outputs of a source classifier after its softmax, one row per example.
        labels: Class indices of the target task.

    Raises:
        InputError: If the rows are no distributions, or do not fit the labels.

    Example:
        >>> leep(np.eye(2)[[0, 1, 0, 1]], np.array([1, 0, 1, 0]))
        0.0
    """
    theta = _distributions(probabilities)
    y = labels_of(labels, len(theta)).numpy()
    check_classes(y, "probabilities")
    joint = np.eye(y.max() + 1)[:, y] @ theta
    mass = joint.sum(0)
    # A source class without any mass is multiplied by zero below: what it predicts is free.
    conditional = joint / np.where(mass > 0, mass, 1)
    expected = (conditional[y] * theta).sum(1)
    # Rounding may leave a certain prediction just above one.
    return float(np.log(np.minimum(expected, 1)).mean())


def n_leep(
    features: Array,
    labels: Array,
    *,
    components_per_class: int = COMPONENTS_PER_CLASS,
    seed: int = 0,
) -> float:
    """LEEP with the posterior of a Gaussian mixture in place of a source head.

    The features are reduced to the principal components of 80 % of their variance, where they are
    uncorrelated; the mixture's covariances are diagonal, for a full one per component would take
    more examples than a target domain has.

    Args:
        features: Features, one row per example.
        labels: Class indices.
        components_per_class: Gaussians per class; five in the paper.
        seed: Of the mixture's initialisation.

    Raises:
        InputError: If features and labels do not fit, or there are fewer examples than Gaussians.
    """
    examples = labelled(features, labels)
    num = components_per_class * len(np.unique(examples.labels))
    if not 0 < num <= len(examples.labels):
        raise InputError(
            f"{num} Gaussians were asked for with {len(examples.labels)} examples; between one "
            "Gaussian and as many as examples were expected: change components_per_class"
        )
    reduced = PCA(EXPLAINED_VARIANCE, svd_solver="full").fit_transform(examples.rows())
    mixture = GaussianMixture(num, covariance_type="diag", max_iter=1000, random_state=seed)
    return leep(mixture.fit(reduced).predict_proba(reduced), examples.labels)


def nce(source_labels: Array, labels: Array) -> float:
    r"""Negative conditional entropy of the labels given the source labels; at most zero.

    Args:
        source_labels: Predicted source class of every example.
        labels: Class indices of the target task.

    Raises:
        InputError: If they are no class indices, or differ in number.

    Example:
        >>> round(nce(np.array([2, 2, 0, 0]), np.array([0, 1, 1, 1])), 6)  # -ln(2) / 2
        -0.346574
    """
    y = labels_of(labels, len(labels)).numpy()
    z = _source_labels(source_labels, len(y))
    check_classes(y, "source labels")
    counts = np.zeros((z.max() + 1, y.max() + 1))
    np.add.at(counts, (z, y), 1)
    return float(np.log(counts[z, y] / counts.sum(1)[z]).mean())


def _source_labels(source_labels: Array, num_examples: int) -> Int64[np.ndarray, " N"]:
    if len(source_labels) != num_examples:
        raise InputError(
            f"there are {len(source_labels)} source labels and {num_examples} labels; one of each "
            "per example was expected"
        )
    return labels_of(source_labels, num_examples).numpy()


def _distributions(probabilities: Array) -> Float[np.ndarray, "N Z"]:
    theta = rows_of(matrix(probabilities, "probabilities", least=2))
    off = float(np.abs(theta.sum(1) - 1).max())
    if theta.min() < 0 or off > SUM_TOLERANCE:
        raise InputError(
            f"rows of probabilities go down to {theta.min():.3g} and sum to one only within "
            f"{off:.3g}; distributions were expected: take the softmax of the logits"
        )
    return theta / theta.sum(1, keepdims=True)
