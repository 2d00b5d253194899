r"""What reads a representation: scaled features and a linear probe.

Columns are standardised by training statistics and divided by the square root of their number.
The inner product of two examples is then a mean over units, whatever their number, so that one
grid of regularisation strengths serves every width, and features repeated side by side give the
same probe as the features themselves.

Shapes: N training and M test examples, D features.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from probes.transfer.checks import labelled, same_width
from probes.transfer.logistic import MAX_ITER, TOLERANCE
from probes.transfer.selection import one_standard_error, validation_split
from probes.transfer.solver import Problem

Probe = Callable[[Float[Tensor, "N D"], Int64[Tensor, " N"], Float[Tensor, "M D"]], Tensor]
"""Training features, training labels and test features to predicted labels. The features come
scaled; a probe must not standardise them again, or blocks of them lose their weight."""

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # C of scikit-learn, from strong regularisation on
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """Training and test examples with their labels; features in float64, not scaled yet."""

    train_x: Float[Tensor, "N D"]
    train_y: Int64[Tensor, " N"]
    test_x: Float[Tensor, "M D"]
    test_y: Int64[Tensor, " M"]

    @classmethod
    def of(cls, train_x: Array, train_y: Array, test_x: Array, test_y: Array) -> "Task":
        """Check that a probe can be trained and tested.

        Raises:
            InputError: If widths or lengths differ, the training features do not vary, there are
                fewer than two classes, or the test set has a class that training lacks.
        """
        train = labelled(train_x, train_y, "training features")
        x = train.features.double()
        test = matrix(test_x, "test features").to(x)
        same_width(test, x.shape[1], "test features")
        task = cls(x, torch.from_numpy(train.labels), test, labels_of(test_y, len(test)))
        if unknown := sorted(set(task.test_y.tolist()) - set(task.train_y.tolist())):
            raise InputError(
                f"the test labels hold the classes {unknown}, which no training example has; the "
                "classes of the training set were expected"
            )
        return task

    def correct(self, probe: Probe, train_x: Tensor, test_x: Tensor) -> Bool[np.ndarray, " M"]:
        """Which test examples a probe on some version of the features gets right."""
        predicted = probe(train_x, self.train_y, test_x)
        return (predicted.cpu() == self.test_y).numpy()


def scaled(
    train_x: Float[Tensor, "N D"], test_x: Float[Tensor, "M D"]
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "M D"]]:
    r"""Standardised by training statistics and divided by :math:`\sqrt D`.

    Units that are constant in training become zero there and count in D.

    Example:
        >>> train, _ = scaled(torch.randn(50, 3), torch.randn(4, 3))
        >>> round(float(train.square().sum(1).mean()), 6)
        1.0
    """
    mean, std = train_x.mean(0), train_x.std(0, correction=0)
    constant = (train_x == train_x[:1]).all(0)
    scale = torch.where(constant, 1.0, std) * train_x.shape[1] ** 0.5
    center = torch.where(constant, train_x[0], mean)
    return (train_x - center) / scale, (test_x - center) / scale


def logistic_probe(
    train_x: Float[Tensor, "N D"], train_y: Int64[Tensor, " N"], test_x: Float[Tensor, "M D"]
) -> Int64[Tensor, " M"]:
    """Multinomial logistic regression with its own regularisation strength.

    A fifth of every class validates the strengths of `STRENGTHS`; of those within one standard
    error of the best the strongest regularisation is fitted again on all training examples. The
    solver is that of `probes.transfer`.

    Raises:
        InputError: If there are too few examples of a class to hold some out.

    Warns:
        ConvergenceWarning: If a fit stops before its tolerance.
    """
    x, y, test = train_x.cpu().numpy(), train_y.numpy(), test_x.cpu().numpy()
    fit, held = validation_split(y, share=VALIDATION_SHARE)
    right = [_predict(f, x[held]) == y[held] for f in _path(x[fit], y[fit], STRENGTHS)]
    chosen = STRENGTHS[one_standard_error(np.mean(right, axis=1), len(held))]
    return torch.from_numpy(_predict(_path(x, y, (chosen,))[0], test))


def name_of(probe: Probe) -> str:
    """What a record calls the probe."""
    return getattr(probe, "__name__", repr(probe))


@dataclass(frozen=True)
class _Fit:
    coef: Float[np.ndarray, "K D"]
    intercept: Float[np.ndarray, " K"]
    classes: Int64[np.ndarray, " K"]


def _path(
    x: Float[np.ndarray, "N D"], y: Int64[np.ndarray, " N"], strengths: Sequence[float]
) -> list[_Fit]:
    classes, codes = np.unique(y, return_inverse=True)
    center = x.mean(0)
    problem = Problem(x - center, codes)
    solutions = list(problem.path(strengths, TOLERANCE, MAX_ITER))
    if failed := [s.C for s in solutions if not s.converged]:
        message = f"logistic regression stopped after {MAX_ITER} steps at C = {failed}"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    coefs = [s.weights[:, :-1] @ problem.axes.T for s in solutions]
    intercepts = [s.weights[:, -1] - c @ center for s, c in zip(solutions, coefs, strict=True)]
    return [_Fit(c, b, classes) for c, b in zip(coefs, intercepts, strict=True)]


def _predict(fit: _Fit, x: Float[np.ndarray, "M D"]) -> Int64[np.ndarray, " M"]:
    return fit.classes[(x @ fit.coef.T + fit.intercept).argmax(1)]
