"""What a network must be for its kernel to be computed, and whether it was computed rightly."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from core.errors import InputError
from core.models import capture as capture_outputs
from core.models import features_and_logits
from probes.ntk.capture import Factors, Network, Weights, capture, one_by_one
from probes.ntk.factors import contract
from probes.ntk.footprint import Footprint, measured

log = logging.getLogger(__name__)

LOGITS, FEATURES = "logits", "features"
# Of gradients in each precision, through a deep network; a forgotten term is far larger.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}


@torch.inference_mode(False)
def network_of(model: Module, params: Weights, layer: str, dtype: torch.dtype | None) -> Network:
    """The network to differentiate, checked as far as it goes without examples.

    Raises:
        InputError: If the model is in training mode, has no such layer or weight, or a weight
            that is no finite number.
    """
    if model.training:
        raise InputError(
            "the model is in training mode, where BatchNorm and dropout make an example depend "
            "on others and on chance; call model.eval() first"
        )
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    if unknown := params.keys() - own.keys():
        raise InputError(
            f"{len(unknown)} of params are not in {type(model).__name__}: "
            f"{', '.join(sorted(unknown)[:3])}; its weights are those of named_parameters()"
        )
    state = {name: _tracked(tensor) for name, tensor in (own | params).items()}
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    bad = [n for n, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        raise InputError(f"{len(bad)} weights hold NaN or infinity, the first is {bad[0]}")
    moving = [name for name, _ in model.named_parameters() if name in params]
    if not moving:
        raise InputError("params holds no parameter of the model; a kernel needs at least one")
    weights = {name: state.pop(name) for name in moving}
    return Network(model, reader(model, layer), weights, state)


def _tracked(tensor: Tensor) -> Tensor:
    """The values for autograd to work with, which inference tensors only give as a copy."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def reader(model: Module, layer: str) -> Callable[[Module, Tensor], Tensor]:
    """A function from model and examples to the outputs of a layer, N x C.

    Raises:
        InputError: If there is no such layer.
    """
    if layer == LOGITS:
        return lambda model, x: model(x)
    if layer == FEATURES:
        return lambda model, x: features_and_logits(model, x)[0]
    if layer not in dict(model.named_modules()):
        children = ", ".join(name for name, _ in model.named_children())
        raise InputError(
            f"layer '{layer}' is not in {type(model).__name__}; expected {LOGITS}, {FEATURES} or "
            f"the name of a module, such as {children}"
        )
    return lambda model, x: _output_of(model, x, layer)


def _output_of(model: Module, x: Tensor, layer: str) -> Tensor:
    with capture_outputs(model, [layer]) as seen:
        model(x)
    return seen[layer].flatten(1)


def checked(
    network: Network, x: Tensor, method: str, directions: Tensor | None = None
) -> tuple[Network, int, Footprint]:
    """The network with all weights listed as dense that need it, its outputs and its needs.

    The products of the gradients of two examples, along a random combination of outputs, must be
    those of PyTorch's own reverse mode, weight by weight.

    Args:
        network: The network.
        x: Examples; two in their place are checked, with noise, so that no symmetry hides an
            error.
        method: As in `empirical_ntk`.
        directions: Combinations of outputs that the kernel will be of.

    Raises:
        InputError: If the output is no matrix or not finite, or `structured` does not suffice.
    """
    x = _two_with_noise(x)
    outputs = checked_outputs(network, x)
    if directions is not None:
        check_directions(directions, outputs.shape[1])
        outputs = outputs @ directions
    num = outputs.shape[1]
    if method == "dense":
        network = replace(network, dense=frozenset(network.weights))
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(num, 1, generator=generator).to(outputs)
    direction = direction if directions is None else directions @ direction
    unknown: set[str] = set()
    factors, need = measured(network, x, direction, num, unknown)
    if method in ("dense", "reference"):
        return network, num, need
    if direction.dtype.itemsize < torch.float32.itemsize:  # whose rounding looks like a mistake
        exact = in_single(network), _single(x), direction.float()
        wrong = unknown | mistaken(*exact, capture(*exact))
    else:
        wrong = unknown | mistaken(network, x, direction, factors)
    del factors
    if wrong and method == "structured":
        raise InputError(
            f"the structured method does not know how {type(network.model).__name__} uses "
            f"{', '.join(sorted(wrong)[:3])} ({len(wrong)} weights); choose method='auto'"
        )
    if wrong:
        log.warning(
            "%d weights of %s are differentiated example by example, which is slow: %s",
            len(wrong),
            type(network.model).__name__,
            ", ".join(sorted(wrong)[:3]),
        )
        network = replace(network, dense=frozenset(wrong))
        need = measured(network, x, direction, num, set())[1]
    return network, num, need


def checked_outputs(network: Network, x: Tensor) -> Float[Tensor, "N C"]:
    """The outputs at some examples.

    Raises:
        InputError: If they are no matrix or not finite.
    """
    with torch.no_grad():
        outputs = network.outputs(network.weights, x)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(x):
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"the output is {found}; a matrix of {len(x)} examples x C was expected")
    if not outputs.isfinite().all():
        raise InputError("the network's output is NaN or infinite at these weights and examples")
    return outputs


def check_known(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a word that is not in a list.

    Raises:
        InputError: If it is not.
    """
    if value not in known:
        raise InputError(f"{name} is '{value}'; expected one of {', '.join(known)}")


def check_directions(directions: Tensor, num_outputs: int) -> None:
    """Refuse what is no matrix of combinations of outputs.

    Raises:
        InputError: If it is none.
    """
    shape = tuple(directions.shape)
    if directions.ndim != 2 or shape[0] != num_outputs or not shape[1]:
        raise InputError(
            f"outputs is a tensor of shape {shape}; a matrix of {num_outputs} outputs x R "
            "combinations was expected"
        )
    if not directions.isfinite().all():
        raise InputError("outputs holds NaN or infinity; finite combinations were expected")


def in_single(network: Network) -> Network:
    """The same network in single precision."""
    weights, others = (
        {name: _single(tensor) for name, tensor in tensors.items()}
        for tensors in (network.weights, network.others)
    )
    return replace(network, weights=weights, others=others)


def _single(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x


def _two_with_noise(x: Tensor) -> Tensor:
    two = x[:2] if len(x) > 1 else torch.cat([x, x])
    if not two.is_floating_point():
        return two
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(two.shape, generator=generator).to(two)
    scale = two.std()
    return two + 0.1 * noise * torch.where(scale > 0, scale, 1)


def mistaken(network: Network, x: Tensor, direction: Tensor, factors: Factors) -> set[str]:
    """Weights whose products are not those of reverse mode."""
    theirs = one_by_one(network, x, network.weights, direction)
    products = {name: contract(factor, factor, "trace") for name, factor in theirs.items()}
    whole = torch.stack(list(products.values())).sum(0).diagonal().max()
    tolerance = TOLERANCE.get(direction.dtype, 1e-3)
    wrong = set()
    for name, truth in products.items():
        ours = factors.get(name)
        found = 0 * truth if ours is None else contract(ours, ours, "trace")
        if (found - truth).abs().max() > tolerance * (truth.abs().max() + 1e-3 * whole):
            wrong.add(name)
    return wrong
