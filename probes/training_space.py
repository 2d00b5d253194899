r"""Training space: an ordinary fine-tuning against the linear models trained in its place.

| method | function |
|---|---|
| ordinary | :math:`f(x; \theta_1)` |
| tangent | :math:`f_0(x) + J_0(x)\,(\theta_t - \theta_0)`, trained to :math:`\theta_t` |
| transplanted | :math:`f(x; \theta_t)` |
| linear_model | model (1), at its best i.i.d. and after its last iteration |
| kernel | kernel regression with the kernel at :math:`\theta_0` |

:math:`f_0` has the run's own initial classifier. What is compared are decisions on the same
images: accuracy, agreement with the ordinary network, and the paired difference in accuracy; those
of the kernel with the tangent model, too.

Shapes: N examples, C classes.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024)
    | https://arxiv.org/abs/2403.00946
    | Task Arithmetic in the Tangent Space (Ortiz-Jimenez et al., 2023)
    | https://arxiv.org/abs/2305.12827
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from analysis.intervals import Row, proportion_interval
from analysis.paired_examples import paired_difference
from core.linearization import Weights
from core.records import Metric
from probes.taylor import taylor_outputs

PAPER = "Zhang & Bottou 2024, arXiv 2403.00946"
ORTIZ = "Ortiz-Jimenez et al. 2023, arXiv 2305.12827"
MALLADI = "Malladi et al. 2023, arXiv 2210.05643"
ORDINARY = "ordinary"
METHODS = {  # what tables and figures print, and the source
    ORDINARY: ("ordinary network", PAPER),
    "tangent": ("tangent model", ORTIZ),
    "transplanted": ("tangent weights in the network", ORTIZ),
    "linear_model_best": ("model (1), best i.i.d.", PAPER),
    "linear_model_final": ("model (1), last step", PAPER),
    "kernel": ("kernel regression", MALLADI),
}
# By name: what is compared, and with what. The kernel predicts the tangent model's training, too.
COMPARISONS = {
    **{method: (method, ORDINARY) for method in METHODS if method != ORDINARY},
    "kernel_to_tangent": ("kernel", "tangent"),
}

Decisions = dict[str, Int64[np.ndarray, " N"]]
Function = Callable[[Float[Tensor, "N ..."]], Float[Tensor, "N C"]]


def _metric(title: str, reference: str, low: float = 0.0) -> Metric:
    return Metric(title=title, direction="higher", low=low, high=1.0, reference=reference)


def _declared() -> dict[str, Metric]:
    metrics = {
        f"{method}_accuracy": _metric(f"accuracy, {title}", reference)
        for method, (title, reference) in METHODS.items()
    }
    for name, (method, other) in COMPARISONS.items():
        (title, reference), beside = METHODS[method], METHODS[other][0]
        metrics[f"{name}_agreement"] = _metric(f"agreement with the {beside}, {title}", reference)
        metrics[f"{name}_accuracy_difference"] = _metric(
            f"accuracy less that of the {beside}, {title}", reference, low=-1.0
        )
    return metrics


METRICS = _declared()


def network_at(model: Module, weights: Weights) -> Function:
    """The network's logits at some weights, as a function of images."""

    @torch.no_grad()
    def logits(x: Tensor) -> Tensor:
        return functional_call(model, weights, (x,), tie_weights=False)

    return logits


def tangent_at(model: Module, weights0: Weights, weights1: Weights) -> Function:
    """The logits of the expansion at `weights0` when its weights have become `weights1`."""

    def logits(x: Tensor) -> Tensor:
        f0, df = taylor_outputs(model, weights0, weights1, x)
        return f0 + df

    return logits


def decision_rows(decisions: Decisions, labels: Int64[np.ndarray, " N"]) -> list[Row]:
    """Accuracies, and agreements and paired differences of what is compared.

    Args:
        decisions: The class that each method chooses, the ordinary network's among them.
        labels: The images' classes.

    Example:
        >>> decisions = {"ordinary": np.array([0, 1, 1]), "kernel": np.array([0, 1, 0])}
        >>> rows = decision_rows(decisions, np.array([0, 1, 1]))
        >>> [(row["metric"], round(row["value"], 2)) for row in rows][1:3]
        [('kernel_accuracy', 0.67), ('kernel_agreement', 0.67)]
    """
    correct = {method: (chosen == labels).astype(float) for method, chosen in decisions.items()}
    rows: list[Row] = [
        {"metric": f"{method}_accuracy"} | proportion_interval(right)
        for method, right in correct.items()
    ]
    for name, (method, other) in COMPARISONS.items():
        if method in decisions and other in decisions:
            agrees = (decisions[method] == decisions[other]).astype(float)
            difference = paired_difference(correct[method], correct[other])
            rows += [
                {"metric": f"{name}_agreement"} | proportion_interval(agrees),
                {"metric": f"{name}_accuracy_difference"} | difference,
            ]
    return rows
