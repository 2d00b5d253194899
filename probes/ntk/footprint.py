"""How many bytes one example takes while its gradients are captured, measured on a few."""

from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from probes.ntk.capture import Factors, Network, capture
from probes.ntk.factors import Outer
from probes.ntk.tape import Tape
from probes.ntk.uses import Product


@dataclass(frozen=True)
class Footprint:
    """Bytes.

    Attributes:
        weights: Of the network.
        activations: Of one example on its way through the network.
        gradients: Of what each weight receives of one example and output on the way back.
        stored: Of the factors of one example, of all its outputs.
        patches: Of the largest patches of one example, which are not cut further.
    """

    weights: int
    activations: int
    gradients: dict[str, int]
    stored: int
    patches: int


def measured(
    network: Network, x: Tensor, direction: Tensor, num_outputs: int, unknown: set[str]
) -> tuple[Factors, Footprint]:
    """The gradients along one combination of outputs, and what they take.

    What autograd saves and what the contractions need is counted by storage.
    """
    saved: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    gradients = dict.fromkeys(network.weights, 0)
    patches = [0]

    def inspect(tape: Tape) -> None:
        for kept in tape.kept():
            save(kept)
        for use, received in tape.uses:
            kept = [use.early(grad, len(x)) or grad for grad in received.values()]
            if isinstance(use, Product):
                patches.extend(use.patch_bytes(grad) // len(x) for grad in received.values())
            for name in tape.names[use.weight]:
                gradients[name] += sum(part.nbytes for part in kept) // len(x)

    with saved_tensors_hooks(save, lambda tensor: tensor):
        factors = capture(network, x, direction, unknown=unknown, inspect=inspect)
    weights = [*network.weights.values(), *network.others.values()]
    for weight in weights:
        saved.pop(weight.untyped_storage().data_ptr(), None)
    stored = sum(
        f.inputs.nbytes + num_outputs * f.grads.nbytes
        if isinstance(f, Outer)
        else num_outputs * f.nbytes
        for f in factors.values()
    )
    num = len(x)
    # Gradients of these come of all outputs at once, before all others.
    dense = num_outputs * sum(factors[name].nbytes for name in network.dense)
    return factors, Footprint(
        weights=sum(w.nbytes for w in weights),
        activations=(sum(saved.values()) + x.nbytes + dense) // num,
        gradients=gradients,
        stored=stored // num,
        patches=max(patches),
    )
