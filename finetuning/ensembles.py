r"""Ensembles: several networks that answer together, and how many of them it takes.

Shapes: M members, N examples, C outputs, D features, K subsets.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024), https://arxiv.org/abs/2403.00946
    | Learning useful representations for shifting tasks (concatenation; Zhang & Bottou, 2023)
    | https://arxiv.org/abs/2212.07346
"""

import itertools
import math

import numpy as np
from jaxtyping import Bool, Float, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from analysis.intervals import Row, crossed_means, interval, proportion_interval
from core.models import classify


def mean_logits(logits: Float[Tensor, "M N C"]) -> Float[Tensor, "N C"]:
    r"""The paper's ensemble, :math:`\frac{1}{M} \sum_m f_m`."""
    return logits.mean(0)


def mean_probabilities(logits: Float[Tensor, "M N C"]) -> Float[Tensor, "N C"]:
    r"""The mean of the members' softmax, :math:`\frac{1}{M} \sum_m \sigma(f_m)`."""
    return logits.softmax(-1).mean(0)


def shared_head(
    features: Float[Tensor, "M N D"],
    weights: Float[Tensor, "M C D"],
    biases: Float[Tensor, "M C"],
) -> Float[Tensor, "N C"]:
    r"""Mean features, read by one classifier: the mean of the members'.

    .. math:: \bar V \bar\Phi(x) + \bar b

    The mean of logits where the members share their classifier, or their features.
    """
    return classify(weights.mean(0), biases.mean(0), features.mean(0))


def concatenation(
    features: Float[Tensor, "M N D"], labels: Int64[Tensor, " N"], *, strength: float = 1.0
) -> "ConcatenationHead":
    """A linear classifier of all members' features side by side, fitted to training examples.

    Without fitting, the members' own classifiers side by side are the mean of their logits.

    Args:
        features: On the training examples.
        labels: Of these.
        strength: scikit-learn's C, the inverse of the ridge on standardised features.
    """
    head = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2_000))
    return ConcatenationHead(head.fit(_side_by_side(features), labels.cpu().numpy()))


class ConcatenationHead:
    """What `concatenation` has fitted."""

    def __init__(self, head: Pipeline) -> None:
        self.head = head

    def predict(self, features: Float[Tensor, "M N D"]) -> Int64[np.ndarray, " N"]:
        """The predicted classes."""
        return self.head.predict(_side_by_side(features))


def _side_by_side(features: Float[Tensor, "M N D"]) -> Float[np.ndarray, "N _"]:
    return features.transpose(0, 1).flatten(1).double().cpu().numpy()


def subsets(num_members: int, size: int, *, most: int, seed: int = 0) -> list[tuple[int, ...]]:
    """All subsets of a size, or `most` of them drawn at random without repetition.

    Example:
        >>> subsets(3, 2, most=10)
        [(0, 1), (0, 2), (1, 2)]
    """
    if math.comb(num_members, size) <= most:
        return list(itertools.combinations(range(num_members), size))
    generator = np.random.default_rng([seed, size])
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < most:
        chosen = generator.choice(num_members, size, replace=False)
        drawn[tuple(sorted(int(i) for i in chosen))] = None
    return list(drawn)


def size_interval(correct: Bool[np.ndarray, "K N"], *, seed: int = 0) -> Row:
    """Mean accuracy of the ensembles of one size, over subsets and examples drawn again.

    Subsets of few members overlap, so that the interval speaks of these members, not of others
    that could have been trained. Of a single subset it is Wilson's, over examples.
    """
    if len(correct) == 1:
        return proportion_interval(correct[0].astype(np.float64))
    value, resampled = crossed_means(correct[None], seed=seed)
    return interval(float(value[0]), resampled[:, 0], correct.shape[1])
