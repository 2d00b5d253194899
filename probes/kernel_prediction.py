r"""What regression with the tangent kernel at the start says that training would do.

.. math:: f(x) = f_0(x) + K(x, X)\,(K(X, X) + \rho I)^{-1} (Y - f_0(X)), \qquad
    K(x, x')_{cd} = \langle \nabla_\theta f_c(x), \nabla_\theta f_d(x') \rangle

with one-hot labels Y and the ridge chosen by leave-one-out. The kernel with other examples is
never computed: :math:`K(x, X)\, a = J_0(x)\, \delta` with :math:`\delta = J_0(X)^\top a`, one
backward pass over X and forward mode at x, so that the prediction is a tangent model, too.

Where the kernel of X is too large, the regression is on `probes.ntk.sketched_features`, whose
error falls with the root of their number. Few are not enough: on digits (fitted on 64 images,
one seed) 4096 features decide as the exact kernel does on 89 % of 64 others, 1024 on 55 %.

Shapes: N examples, M others, C outputs, R ridges.

References:
    | A Kernel-Based View of Language Model Fine-Tuning (Malladi et al., 2023)
    | https://arxiv.org/abs/2210.05643
    | Neural Tangent Kernel (Jacot et al., 2018)
    | https://arxiv.org/abs/1806.07572
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.nn.functional import one_hot

from core.errors import InputError
from core.linearization import Weights, first_order
from probes.kernel_regression import RIDGES, feature_ridge, kernel_ridge
from probes.ntk import empirical_ntk, sketched_features
from probes.training_space import Function

Kind = Literal["exact", "sketched"]

MOST_FEATURES = 4096
LEAST_FEATURES = 64
# Alive at once in float64: of the kernel itself, its symmetric part, eigenvectors, what LAPACK
# works in and products; of the features, their double, singular vectors and products.
COPIES = 8
# Of a one-hot label, by which the function may miss its fit; far below what tells classes apart.
MOST_ROUNDING = 0.01


@dataclass(frozen=True, eq=False)
class KernelFit:
    """A regression with the tangent kernel.

    Attributes:
        kind: `exact`, or on `sketched` features.
        coefficients: Of every output of every example (N, C), or of every feature (k,).
        ridge: In units of the mean eigenvalue of the kernel.
        error: Mean squared leave-one-out residual at that ridge.
    """

    kind: Kind
    coefficients: Tensor
    ridge: float
    error: float


def kind_of_fit(num_examples: int, num_outputs: int, memory: int) -> Kind:
    """`exact` where a budget in bytes holds the kernel between all outputs of all examples.

    Example:
        >>> kind_of_fit(64, 10, 10**9), kind_of_fit(64, 1000, 10**9)
        ('exact', 'sketched')
    """
    return "exact" if COPIES * 8 * (num_examples * num_outputs) ** 2 <= memory else "sketched"


def fit_kernel(
    model: Module,
    params0: Weights,
    x: Float[Tensor, "N ..."],
    labels: Int64[Tensor, " N"],
    *,
    memory: int,
    batch_size: int = 16,
    seed: int = 0,
) -> KernelFit:
    """Regression of one-hot labels less the initial logits, its ridge chosen by leave-one-out.

    Args:
        model: A network in evaluation mode.
        params0: Its weights before training, the initial classifier among them.
        x: Examples to fit on.
        labels: Their classes.
        memory: Bytes, for the kernel and for the gradients that it is made of.
        batch_size: Examples that go through the network together.
        seed: Of the projection of sketched features.

    Raises:
        InputError: If `memory` does not hold what is needed, or the network's precision is too
            low for the fit.
    """
    weights = _own(model, params0)
    f0 = torch.cat([_outputs(model, weights, part) for part in x.split(batch_size)])
    targets = one_hot(labels, f0.shape[1]).double() - f0.double()
    kind = kind_of_fit(len(targets), targets.shape[1], memory)
    if kind == "exact":
        kernel = empirical_ntk(model, weights, x, memory=memory)
        assert isinstance(kernel, Tensor)
        fit = kernel_ridge(kernel, targets, RIDGES)
        found = KernelFit(kind, fit.dual, fit.ridge, fit.errors[fit.ridge])
        function = predictor(model, weights, x, found, batch_size=batch_size)
        _check_rounding(function, x.split(batch_size), f0.double() + fit.predict(kernel))
        return found
    num = _num_features(targets.numel(), memory)
    fit = feature_ridge(_sketch(model, weights, x, num, batch_size, seed), targets, RIDGES)
    return KernelFit(kind, fit.weights, fit.ridge, fit.errors[fit.ridge])


def _check_rounding(
    function: Function, parts: Iterable[Tensor], expected: Float[Tensor, "N C"]
) -> None:
    """Forward mode in the network's precision must give what the kernel in float64 gives."""
    found = torch.cat([function(part) for part in parts])
    gap = float((found.double() - expected).abs().max())
    if not gap <= MOST_ROUNDING:
        raise InputError(
            f"kernel regression loses {gap:.2g} of a label to rounding; at most {MOST_ROUNDING} "
            "was expected: give --dtype float64"
        )


def predictor(
    model: Module,
    params0: Weights,
    x: Float[Tensor, "N ..."],
    fit: KernelFit,
    *,
    batch_size: int = 16,
    seed: int = 0,
) -> Function:
    """The fitted function, from examples to logits.

    Args:
        model: The network that was fitted.
        params0: Its weights before training.
        x: The examples that were fitted on.
        fit: What `fit_kernel` returned.
        batch_size: Examples that go through the network together.
        seed: The one given to `fit_kernel`.
    """
    weights = _own(model, params0)
    if fit.kind == "exact":
        delta = pulled_back(model, weights, x, fit.coefficients, batch_size=batch_size)

        def along_delta(others: Tensor) -> Tensor:
            f0, df = first_order(lambda w: functional_call(model, w, (others,)), weights, delta)
            return f0 + df

        return along_delta

    def on_features(others: Tensor) -> Tensor:
        num = len(fit.coefficients)
        features = _sketch(model, weights, others, num, batch_size, seed)
        return _outputs(model, weights, others) + features @ fit.coefficients.to(features)

    return on_features


def pulled_back(
    model: Module,
    params0: Weights,
    x: Float[Tensor, "N ..."],
    coefficients: Float[Tensor, "N C"],
    *,
    batch_size: int = 16,
) -> Weights:
    r""":math:`J_0(X)^\top a`, the displacement whose first-order change is :math:`K(x, X)\, a`.

    Example:
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> params = {"weight": layer.weight.detach()}
        >>> pulled_back(layer, params, torch.eye(2), torch.tensor([[1.0], [3.0]]))["weight"]
        tensor([[1., 3.]])
    """
    moving = {n: params0[n].clone().requires_grad_() for n, _ in model.named_parameters()}
    delta = {name: torch.zeros_like(params0[name]) for name in moving}
    for part, a in zip(x.split(batch_size), coefficients.split(batch_size), strict=True):
        outputs = functional_call(model, params0 | moving, (part,))
        grads = torch.autograd.grad(
            outputs, list(moving.values()), a.to(outputs), materialize_grads=True
        )
        for total, grad in zip(delta.values(), grads, strict=True):
            total += grad
    return delta


def _own(model: Module, params0: Weights) -> Weights:
    """Every weight under one name: one that is used twice moves once."""
    names = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: params0[name] for name in names if name in params0}


@torch.no_grad()
def _outputs(model: Module, weights: Weights, x: Tensor) -> Tensor:
    return functional_call(model, weights, (x,))


def _num_features(size: int, memory: int) -> int:
    fitting = min(MOST_FEATURES, memory // (COPIES * 8 * size))
    if fitting < LEAST_FEATURES:
        needed = -(-COPIES * 8 * size * LEAST_FEATURES // 10**6)
        raise InputError(
            f"--memory is {memory / 1e6:.0f}MB, but kernel prediction on so many images and "
            f"classes needs {needed}MB: give --memory {needed}MB, or fewer images to "
            "--kernel_train"
        )
    return fitting


def _sketch(
    model: Module, weights: Weights, x: Tensor, num_features: int, batch_size: int, seed: int
) -> Float[Tensor, "N C k"]:
    sketch = sketched_features(
        model,
        weights,
        x,
        num_features=num_features,
        kind="count",  # more accurate at equal k
        seed=seed,
        batch_size=batch_size,
    )
    return sketch[0]
