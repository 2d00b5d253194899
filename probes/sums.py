r"""Sums over examples from which every linearity measure is a ratio.

Each function looks at one batch and returns, per measure, a numerator and a denominator for each
example. Norms of a batch's images are taken in float64. Notation as in `probes.taylor`:
:math:`\Phi_\alpha = \Phi(x; \theta_0 + \alpha\delta)`, J0 and J1 the Jacobians at the two ends.

Shapes: N examples, D features, C outputs.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.func import functional_call
from torch.nn import Module

from core.forward_mode import forward_mode_rules
from core.linearization import Weights, displacement, first_order, second_order, shifted
from core.models import capture, classifier_name, classify
from probes.nulls import permuted_displacement, random_displacement

FEATURES, LOGITS = "features", "logits"
Layers = dict[str, Tensor]
LayersOf = Callable[[Weights], Layers]


class Key(NamedTuple):
    """Names one ratio: a metric, a layer (or weight group) and the position on the path."""

    metric: str
    layer: str = ""
    at: float | None = None


PerExample = tuple[Float[Tensor, " N"], Float[Tensor, " N"]]
Sums = dict[Key, PerExample]


def layers_of(model: Module, x: Float[Tensor, "N ..."], blocks: Iterable[str] = ()) -> LayersOf:
    """Features, logits and outputs of the named blocks as a function of the weights."""
    head, blocks = classifier_name(model), tuple(blocks)

    def function(weights: Weights) -> Layers:
        with capture(model, blocks, inputs_of=[head]) as seen:
            logits = functional_call(model, weights, (x,), tie_weights=False)
        named = {block: seen[block].flatten(1) for block in blocks}
        return {FEATURES: seen[head].flatten(1), LOGITS: logits, **named}

    return function


def evaluate(function: LayersOf, weights: Weights) -> Layers:
    """Outputs under the same rules as the expansions, so that rounding errors cancel."""
    with torch.no_grad(), forward_mode_rules():
        return function(weights)


def path_sums(
    model: Module,
    weights0: Weights,
    weights1: Weights,
    x: Float[Tensor, "N ..."],
    labels: Int64[Tensor, " N"],
    *,
    alphas: Collection[float],
    blocks: Collection[str],
) -> Sums:
    r"""Everything that follows from both expansions and the networks along the path.

    Args:
        model: The network, in evaluation mode.
        weights0: :math:`\theta_0`.
        weights1: :math:`\theta_1`.
        x: Images.
        labels: Their classes.
        alphas: Positions on the path.
        blocks: Blocks whose outputs are compared at the end of the path.
    """
    delta = displacement(weights0, weights1)
    everything = layers_of(model, x, blocks)
    start, slope0 = first_order(everything, weights0, delta)
    end, slope1 = first_order(everything, weights1, delta)
    sums = {
        Key("explained_displacement", layer, 1.0): explained(
            start[layer], slope0[layer], end[layer]
        )
        for layer in (FEATURES, LOGITS, *blocks)
    }
    sums |= _scale(start, end) | _decisions(model, weights1, start, slope0, end, labels)
    outputs = layers_of(model, x)
    for alpha in sorted({0.0, *alphas, 1.0}):
        here = {0.0: start, 1.0: end}.get(alpha)
        here = here or evaluate(outputs, shifted(weights0, delta, alpha))
        sums |= _along_the_path(alpha, start, slope0, end, slope1, here)
        if 0 <= alpha <= 1:
            head = _head(model, shifted(weights0, delta, alpha))
            mixed = torch.lerp(start[FEATURES], end[FEATURES], alpha)
            sums |= _accuracies(alpha, here[LOGITS], classify(*head, mixed), labels)
    return sums


def _along_the_path(
    alpha: float, start: Layers, slope0: Layers, end: Layers, slope1: Layers, here: Layers
) -> Sums:
    sums: Sums = {}
    for layer in (FEATURES, LOGITS):
        if alpha > 0:
            key = Key("explained_displacement", layer, alpha)
            sums[key] = explained(start[layer], alpha * slope0[layer], here[layer])
        if 0 <= alpha < 1:
            key = Key("explained_displacement_end", layer, 1 - alpha)
            sums[key] = explained(end[layer], (alpha - 1) * slope1[layer], here[layer])
    return sums


def explained(f0: Tensor, df: Tensor, f1: Tensor) -> PerExample:
    r"""Numerator and denominator of :math:`1 - R^2`."""
    change = f1 - f0
    return squared_norm(change - df), squared_norm(change)


def squared_norm(t: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
    """Squared Euclidean norm of each example, summed in float64."""
    return torch.linalg.vector_norm(t.flatten(1), dim=1, dtype=torch.float64).square()


def _scale(start: Layers, end: Layers) -> Sums:
    return {
        Key("displacement", layer): (
            squared_norm(end[layer] - start[layer]),
            squared_norm(start[layer]),
        )
        for layer in (FEATURES, LOGITS)
    }


def _head(model: Module, weights: Weights) -> tuple[Tensor, Tensor | None]:
    name = classifier_name(model)
    return weights[f"{name}.weight"], weights.get(f"{name}.bias")


def _decisions(
    model: Module,
    weights1: Weights,
    start: Layers,
    slope0: Layers,
    end: Layers,
    labels: Int64[Tensor, " N"],
) -> Sums:
    r"""The linearised features under the fine-tuned head, against the fine-tuned network.

    The share of the accuracy gain has :math:`V_1 \Phi_0 + b_1` as its start, also where the run's
    own initial head is known: only features change along numerator and denominator, so that
    features which stand still carry a share of 0. Under the initial head, which is random, most
    of the gain would be that of exchanging the head, and every linearisation would carry it.
    """
    head = _head(model, weights1)
    linear = classify(*head, start[FEATURES] + slope0[FEATURES]).argmax(1)
    before = classify(*head, start[FEATURES]).argmax(1)
    after = end[LOGITS].argmax(1)
    right = {name: t.eq(labels).double() for name, t in (("linear", linear), ("before", before))}
    after_right = after.eq(labels).double()
    one = torch.ones_like(after_right)
    return {
        Key("linear_accuracy"): (right["linear"], one),
        Key("linear_agreement"): (linear.eq(after).double(), one),
        Key("linear_gain_share"): (
            right["linear"] - right["before"],
            after_right - right["before"],
        ),
    }


def _accuracies(alpha: float, weight: Tensor, mixed: Tensor, labels: Int64[Tensor, " N"]) -> Sums:
    pairs = {"weight_accuracy": weight, "representation_accuracy": mixed}
    right = {metric: logits.argmax(1).eq(labels).double() for metric, logits in pairs.items()}
    return {Key(m, "", alpha): (r, torch.ones_like(r)) for m, r in right.items()}


def curvature_sums(
    model: Module, weights0: Weights, weights1: Weights, x: Float[Tensor, "N ..."]
) -> Sums:
    r"""Squares of :math:`\frac12 D^2\Phi[\delta, \delta]` and :math:`D\Phi[\delta]`."""
    delta = displacement(weights0, weights1)
    first, second = second_order(layers_of(model, x), weights0, delta)
    return {
        Key("curvature_ratio", layer): (
            squared_norm(second[layer] / 2),
            squared_norm(first[layer]),
        )
        for layer in (FEATURES, LOGITS)
    }


def block_sums(
    model: Module,
    weights0: Weights,
    weights1: Weights,
    x: Float[Tensor, "N ..."],
    groups: Mapping[str, Collection[str]],
) -> Sums:
    r"""What each group of weights contributes to the features when it moves alone.

    Groups that did not move, and the classifier, which the features do not depend on, are left
    out.
    """
    delta = displacement(weights0, weights1)
    outputs = layers_of(model, x)
    start, end = (evaluate(outputs, w)[FEATURES] for w in (weights0, weights1))
    linear: dict[str, Tensor] = {}
    alone: dict[str, Tensor] = {}
    for group, names in groups.items():
        moved = {name: delta[name] for name in names if delta[name].count_nonzero()}
        if moved and group != "classifier":
            linear[group] = first_order(outputs, weights0, moved)[1][FEATURES]
            alone[group] = evaluate(outputs, shifted(weights0, moved))[FEATURES]
    total = sum(squared_norm(d) for d in linear.values())
    sums: Sums = {}
    for group, d in linear.items():
        sums[Key("block_share", group)] = (squared_norm(d), torch.as_tensor(total))
        sums[Key("block_explained_displacement", group)] = explained(start, d, alone[group])
    together = sum(((f - start) for f in alone.values()), torch.zeros_like(start))
    change = end - start
    left_over = ((change - together).double() * change.double()).sum(1)
    return sums | {Key("block_interaction"): (left_over, squared_norm(change))}


def null_sums(
    model: Module,
    weights0: Weights,
    weights1: Weights,
    x: Float[Tensor, "N ..."],
    *,
    num_draws: int,
    seed: int,
) -> Sums:
    """Explained displacement of random and permuted moves of the same size, over all draws."""
    delta = displacement(weights0, weights1)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    nulls = {"random": random_displacement, "permuted": permuted_displacement}
    sums: Sums = {}
    for name, draw in nulls.items():
        generator = Generator().manual_seed(seed)
        draws = [draw(delta, parameters, generator) for _ in range(num_draws)]
        parts = [_null(model, weights0, null, x) for null in draws]
        key = Key(f"{name}_explained_displacement", FEATURES, 1.0)
        numerators, denominators = zip(*parts, strict=True)
        sums[key] = (torch.stack(numerators).sum(0), torch.stack(denominators).sum(0))
    return sums


def _null(model: Module, weights0: Weights, null: Weights, x: Tensor) -> PerExample:
    outputs = layers_of(model, x)
    start, slope = first_order(outputs, weights0, null)
    end = evaluate(outputs, shifted(weights0, null))
    return explained(start[FEATURES], slope[FEATURES], end[FEATURES])
