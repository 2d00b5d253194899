r"""Linear probes: softmax regression along a path of C.

.. math:: \min_{W, b}\; \tfrac{1}{2} \|W\|_F^2
    + C \sum_n -\ln \mathrm{softmax}(W x_n + b)_{y_n}

The objective of scikit-learn's `LogisticRegression`, on features standardised by the statistics
of the training examples and of nothing else: test features of another domain go through the same
shift and scale, since statistics of the target would adapt to it. The loss is a sum, so that the
same C means less regularisation on more examples: select it, do not carry it over.

Shapes: N examples, D features, K classes.

References:
    | Scikit-learn: Machine Learning in Python (Pedregosa et al., 2011)
    | https://jmlr.org/papers/v12/pedregosa11a.html
    | Do Better ImageNet Models Transfer Better? (Kornblith et al., 2019)
    | https://arxiv.org/abs/1805.08974
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from core.arrays import Array, matrix, row_blocks
from core.errors import InputError
from probes.transfer.checks import labelled, same_width
from probes.transfer.solver import Problem, Solution

TOLERANCE = 1e-3  # left the objective of `probes.transfer.solver` within 3e-4 nats of its minimum
MAX_ITER = 1000


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A linear classifier and the standardisation that it was trained with.

    Attributes:
        mean: Of the training features.
        scale: Their standard deviation, 1 for constant columns; with `blocks`, times the root of
            the block's width.
        coef: Weights of the standardised features.
        intercept: Unpenalised.
        classes: Class index of each row of `coef`.
        C: Inverse strength of the penalty.
        converged: False where the solver stopped before its tolerance.
        num_constant: Training columns that never vary; their weights are zero.
    """

    mean: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]
    coef: Float[np.ndarray, "K D"]
    intercept: Float[np.ndarray, " K"]
    classes: Int64[np.ndarray, " K"]
    C: float
    converged: bool
    num_constant: int

    def decision_function(self, features: Array) -> Float[np.ndarray, "N K"]:
        """Logits, one column per entry of `classes`.

        Raises:
            InputError: If the features are no finite matrix of the width trained on.
        """
        x = matrix(features)
        same_width(x, len(self.mean), "features")
        blocks = [(rows.cpu().numpy() - self.mean) / self.scale for rows in row_blocks(x)]
        return np.concatenate([rows @ self.coef.T for rows in blocks]) + self.intercept

    def predict(self, features: Array) -> Int64[np.ndarray, " N"]:
        """Class indices."""
        return self.classes[self.decision_function(features).argmax(1)]


def c_path(
    train_x: Array,
    train_y: Array,
    values_of_C: Sequence[float] | Float[np.ndarray, " _"],
    *,
    blocks: Sequence[int] = (),
    tolerance: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> list[LinearProbe]:
    r"""Linear probes for every C, in the order given.

    Solved from the smallest C to the largest, each from the ones before it. The default tolerance
    is relative. Scikit-learn's is an absolute size of the gradient, which separable classes pass
    early: its fits at large C stop far from the minimum, and act as if C were smaller.

    Args:
        train_x: Features, one row per example.
        train_y: Class indices.
        values_of_C: Inverse strengths of the penalty, positive.
        blocks: Widths of concatenated layers; each layer is divided by the root of its width
            after standardising, so that every layer has the same total variance.
        tolerance: Of the solver, see `probes.transfer.solver.Problem.solve`.
        max_iter: Most steps for one C.

    Raises:
        InputError: If features and labels do not fit (see `probes.transfer.checks.labelled`), a
            value of C is not positive and finite, or the blocks do not add up to the width.

    Example:
        >>> x, y = np.array([[-1.0], [-2.0], [1.0], [3.0]]), np.array([0, 0, 1, 1])
        >>> [probe.predict(x).tolist() for probe in c_path(x, y, [0.1, 10])]
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    examples = labelled(train_x, train_y, "training features")
    values = check_values(values_of_C)
    x = examples.rows()
    mean, spread, constant = x.mean(0), x.std(0), (x == x[0]).all(0)
    scale = np.where(constant | (spread == 0), 1, spread) * _root_of_widths(blocks, x.shape[1])
    classes, codes = np.unique(examples.labels, return_inverse=True)
    problem = Problem((x - mean) / scale, codes)

    def probe(solution: Solution) -> LinearProbe:
        return LinearProbe(
            mean=mean,
            scale=scale,
            coef=solution.weights[:, :-1] @ problem.axes.T,
            intercept=solution.weights[:, -1],
            classes=classes,
            C=solution.C,
            converged=solution.converged,
            num_constant=int(constant.sum()),
        )

    distinct = np.unique(values).tolist()
    found = {s.C: probe(s) for s in problem.path(distinct, tolerance, max_iter)}
    return [found[C] for C in values.tolist()]


def check_values(values_of_C: Sequence[float] | Float[np.ndarray, " _"]) -> np.ndarray:
    """Values of C as an array.

    Raises:
        InputError: If there is none, or one of them is not a positive finite number.
    """
    values = np.asarray(values_of_C, np.float64)
    if not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise InputError(
            f"values of C are {values.tolist()}; positive finite numbers were expected, such as "
            "np.logspace(-6, 5, 45)"
        )
    return values


def _root_of_widths(blocks: Sequence[int], num_features: int) -> Float[np.ndarray, " D"]:
    if not blocks:
        return np.ones(num_features)
    if sum(blocks) != num_features or min(blocks) < 1:
        raise InputError(
            f"blocks have widths {list(blocks)}, together {sum(blocks)}; the features have "
            f"{num_features} columns: give the width of every concatenated layer"
        )
    return np.repeat(np.sqrt(blocks), blocks)
