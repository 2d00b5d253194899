r"""Class means and the variation around them, which every measure of classes is a function of.

Two passes over the features give the class means and, within the span of their differences (K - 1
dimensions), the covariance within classes. NC1 only looks at that span, so nothing of size D x D
is formed, and no threshold has to find the K - 1 eigenvalues that count, as a pseudo-inverse of
the D x D matrix needs one (in float32 it finds the wrong number).

Shapes: N examples, D features, K classes that occur, S = min(K - 1, D) dimensions of their span.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from probes.richness.spectrum import block_room, deviations

Centre = Literal["classes", "samples"]


class Classifier(NamedTuple):
    """A linear classifier, one row of weights for each class index."""

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, eq=False)
class ClassStructure:
    r"""Class means and the variation around them; every measure below is a function of this.

    Attributes:
        features: The features, not copied.
        labels: Number of each example's class among those that occur.
        classes: Class indices that occur, in ascending order.
        counts: Their numbers of examples.
        means: Class means :math:`\mu_k`.
        centre: :math:`\mu_G`, the mean of class means or of examples.
        basis: Orthonormal basis of the span of differences of class means.
        variances: Mean squared distance of each class's examples from their mean.
        within: Covariance :math:`\Sigma_W` within classes, in that basis.
    """

    features: Float[Tensor, "N D"]
    labels: Int64[Tensor, " N"]
    classes: Int64[Tensor, " K"]
    counts: Int64[Tensor, " K"]
    means: Float[Tensor, "K D"]
    centre: Float[Tensor, " D"]
    basis: Float[Tensor, "D S"]
    variances: Float[Tensor, " K"]
    within: Float[Tensor, "S S"]

    @classmethod
    def of(cls, features: Array, labels: Array, *, centre: Centre = "classes") -> "ClassStructure":
        r"""Class structure of labelled features.

        Args:
            features: N x D.
            labels: Class index of every example. Classes that do not occur play no part.
            centre: Whether :math:`\mu_G` is the mean of class means, so that all classes count
                alike, or of all examples. They differ where classes differ in size.

        Raises:
            InputError: If there are fewer than two classes, or no more examples than classes.
        """
        x = matrix(features, least=2).detach()
        classes, y, counts = torch.unique(
            labels_of(labels, len(x)).to(x.device), return_inverse=True, return_counts=True
        )
        _check_classes(len(x), len(classes))
        means = _class_means(x, y, counts)
        middle = means.mean(0) if centre == "classes" else counts.double() @ means / len(x)
        # Differences from one class span what the centred means do, with K - 1 vectors.
        basis = torch.linalg.qr((means[1:] - means[0]).T).Q
        variances, within = _within(x, y, counts, means, basis)
        return cls(x, y, classes, counts, means, middle, basis, variances, within)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def centred_means(self) -> Float[Tensor, "K D"]:
        r""":math:`\mu_k - \mu_G`."""
        return self.means - self.centre

    def total_within(self) -> float:
        r""":math:`\tr \Sigma_W`, in all D dimensions."""
        return float(self.variances @ self.counts.double()) / len(self.features)

    def total_between(self) -> float:
        r""":math:`\tr \Sigma_B`, every class counting alike."""
        return float(self.centred_means.square().sum()) / self.num_classes


def _class_means(
    x: Float[Tensor, "N D"], y: Int64[Tensor, " N"], counts: Int64[Tensor, " K"]
) -> Float[Tensor, "K D"]:
    """Relative to the first example, so that equal examples have exactly their own mean."""
    first = x[0].double()
    total = first.new_zeros(len(counts), x.shape[1])
    done = 0
    for part in deviations(x, first):
        total.index_add_(0, y[done : done + len(part)], part)
        done += len(part)
    return first + total / counts[:, None]


def class_deviations(
    x: Float[Tensor, "N D"], y: Int64[Tensor, " N"], means: Float[Tensor, "K D"]
) -> Iterator[tuple[Float[Tensor, "_ D"], Int64[Tensor, " _"]]]:
    """Examples minus the mean of their class, with their classes, as `deviations` gives them."""
    room = block_room(x)
    for block, classes in zip(x.split(len(room)), y.split(len(room)), strict=True):
        part = torch.index_select(means, 0, classes, out=room[: len(block)])
        yield torch.sub(block, part, out=part), classes


def _within(
    x: Float[Tensor, "N D"],
    y: Int64[Tensor, " N"],
    counts: Int64[Tensor, " K"],
    means: Float[Tensor, "K D"],
    basis: Float[Tensor, "D S"],
) -> tuple[Float[Tensor, " K"], Float[Tensor, "S S"]]:
    """Variance of each class, and the covariance within classes on the span of their means."""
    squares = means.new_zeros(len(counts))
    scatter = means.new_zeros(basis.shape[1], basis.shape[1])
    for part, classes in class_deviations(x, y, means):
        squares.index_add_(0, classes, torch.linalg.vector_norm(part, dim=1).square())
        inside = part @ basis
        scatter.addmm_(inside.T, inside)
    return squares / counts, scatter / len(x)


def _check_classes(num_examples: int, num_classes: int) -> None:
    if num_classes < 2:
        raise InputError(
            f"all {num_examples} examples are of one class; two or more classes were expected"
        )
    if num_examples <= num_classes:
        raise InputError(
            f"there are {num_examples} examples of {num_classes} classes; more examples than "
            "classes were expected: nothing varies within a class of one"
        )
