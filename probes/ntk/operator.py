r"""The neural tangent kernel without the kernel: products with it, and with the Jacobian.

.. math:: K v = J (J^\top v)

Shapes: N examples, C outputs.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator
from torch import Tensor
from torch.nn import Module

from core.device import full_precision
from core.errors import InputError
from core.linearization import first_order
from probes.ntk.capture import Weights
from probes.ntk.checks import checked, network_of


class NTKOperator(LinearOperator):
    """The (N C) x (N C) kernel as a linear operator of SciPy, for `eigsh`, `cg` and `lsmr`.

    Rows are ordered by example, then output. Every product is one pass back and one pass forward
    over the examples, in batches; nothing of the size of the kernel or the Jacobian is held.

    Args:
        model: A network in evaluation mode.
        params: Weights to differentiate by (see `empirical_ntk`).
        x: Examples.
        layer: `logits`, `features` or the name of a module.
        batch_size: Examples a pass.
        dtype: Precision of the network; vectors are float64 on both sides.

    Raises:
        InputError: As `empirical_ntk`.

    Example:
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> kernel = NTKOperator(layer.eval(), dict(layer.named_parameters()), torch.eye(2))
        >>> kernel @ np.array([1.0, 2.0])
        array([1., 2.])
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        model: Module,
        params: Weights,
        x: Float[Tensor, "N ..."],
        *,
        layer: str = "logits",
        batch_size: int = 32,
        dtype: torch.dtype | None = None,
    ) -> None:
        if len(x) == 0:
            raise InputError("there are no examples (N = 0); a kernel needs at least one")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; a positive number was expected")
        network = network_of(model, params, layer, dtype)
        some = next(iter(network.weights.values()))
        self.x = x.to(some.device, some.dtype if x.is_floating_point() else None)
        # Products need no rule for any weight, so that the reference's checks suffice.
        self.network, self.num_outputs, _ = checked(network, self.x[:2], "reference")
        self.batch_size = batch_size
        size = len(x) * self.num_outputs
        super().__init__(np.float64, (size, size))

    @torch.inference_mode(False)
    @full_precision()
    def jacobian_product(self, tangent: Weights) -> Float[Tensor, "N C"]:
        """J v, for a tangent with the names and shapes of the weights."""
        products = [
            first_order(lambda w, x=x: self.network.outputs(w, x), self.network.weights, tangent)[
                1
            ]
            for x in self.x.split(self.batch_size)
        ]
        return torch.cat(products)

    @torch.inference_mode(False)
    @full_precision()
    def transposed_product(self, cotangent: Float[Tensor, "N C"]) -> Weights:
        """J^T u, as a dictionary with the names and shapes of the weights."""
        leaves = {n: w.detach().requires_grad_() for n, w in self.network.weights.items()}
        sums = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        batches = zip(self.x.split(self.batch_size), cotangent.split(self.batch_size), strict=True)
        for x, u in batches:
            with torch.enable_grad():
                outputs = self.network.outputs(leaves, x)
            grads = torch.autograd.grad(
                outputs, list(leaves.values()), u.to(outputs), allow_unused=True
            )
            for total, grad in zip(sums.values(), grads, strict=True):
                if grad is not None:
                    total.add_(grad)
        return {name: total.detach() for name, total in sums.items()}

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        u = torch.from_numpy(np.ascontiguousarray(x, np.float64)).view(-1, self.num_outputs)
        product = self.jacobian_product(self.transposed_product(u))
        return product.double().cpu().numpy().ravel()

    def _adjoint(self) -> "NTKOperator":
        return self
