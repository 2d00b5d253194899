"""Tests for probes/kernel_prediction.py: least squares on dense Jacobians, sketches, rounding."""

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev
from torch.nn import Linear, Module, Sequential, Tanh
from torch.nn.functional import one_hot
from torch.testing import assert_close

from core.errors import InputError
from core.linearization import Weights
from probes import kernel_prediction
from probes.kernel_prediction import fit_kernel, kind_of_fit, predictor, pulled_back
from probes.ntk import empirical_ntk
from tests.models import Network, network

N, M, C = 6, 4, 3
MUCH = 10**9


def dense_jacobian(model: Module, params: Weights, x: Tensor) -> Tensor:
    blocks = jacrev(lambda w: functional_call(model, w, (x,)), chunk_size=1)(params)
    return torch.cat([block.flatten(2) for block in blocks.values()], 2)


def parameters(model: Module) -> Weights:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def examples(net: Network) -> tuple[Tensor, Tensor, Tensor]:
    """Some to fit on, their labels, and others."""
    return net.x[:N], torch.arange(N) % C, net.x[N:]


@pytest.mark.parametrize("width", [4, 20])
def test_it_is_least_squares_on_the_dense_jacobian(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_prediction, "RIDGES", (1e-8,))
    model = Linear(width, C).eval()  # linear in its weights
    params, x, others = parameters(model), torch.randn(10, width), torch.randn(M, width)
    labels = torch.arange(10) % C
    fit = fit_kernel(model, params, x, labels, memory=MUCH, batch_size=4)
    function = predictor(model, params, x, fit, batch_size=4)

    design = torch.cat([x, torch.ones(10, 1)], 1)  # a Jacobian of C equal blocks
    start = torch.cat([params["weight"].T, params["bias"][None]])
    r = one_hot(labels, C) - design @ start
    moved = start + torch.linalg.pinv(design) @ r
    assert fit.kind == "exact"
    expected = torch.cat([others, torch.ones(M, 1)], 1) @ moved
    assert_close(function(others), expected, atol=1e-6, rtol=0)  # a ridge of 1e-8
    if width > 10:
        assert_close(function(x), one_hot(labels, C).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_it_is_ridge_regression_on_the_dense_jacobian_of_any_network(name: str) -> None:
    net = network(name, num_images=N + M, num_classes=C)
    x, labels, others = examples(net)
    fit = fit_kernel(net.model, net.weights, x, labels, memory=MUCH, batch_size=4)
    params = {n: net.weights[n] for n, _ in net.model.named_parameters()}
    with torch.no_grad():
        f0, other0 = (functional_call(net.model, net.weights, (part,)) for part in (x, others))
    j = dense_jacobian(net.model, params, x)
    other = dense_jacobian(net.model, params, others)
    rows = j.flatten(0, 1)
    kernel = rows @ rows.T
    penalty = fit.ridge * kernel.trace() / len(kernel)
    r = (one_hot(labels, C) - f0).flatten()
    a = torch.linalg.solve(kernel + penalty * torch.eye(len(kernel)), r)
    predicted = predictor(net.model, net.weights, x, fit, batch_size=4)(others)
    assert_close(predicted, other0 + other @ (rows.T @ a))


def test_pulled_back_coefficients_are_the_kernel_with_others() -> None:
    net = network("test_resnet", num_images=N + M, num_classes=C)
    x, _, others = examples(net)
    a = torch.randn(N, C)
    delta = pulled_back(net.model, net.weights, x, a, batch_size=4)
    kernel = empirical_ntk(net.model, net.weights, others, x)
    assert isinstance(kernel, Tensor)
    change = dense_jacobian(net.model, {n: net.weights[n] for n in delta}, others)
    found = change @ torch.cat([d.flatten() for d in delta.values()])
    assert_close(found, torch.einsum("mcnd,nd->mc", kernel, a))


def test_weights_that_are_used_twice_move_once() -> None:
    class Tied(Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Linear(C, C, bias=False)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).tanh())

    model = Tied().eval()
    x, labels, others = torch.randn(N, C), torch.arange(N) % C, torch.randn(M, C)
    twice = {n: p.detach() for n, p in model.named_parameters(remove_duplicate=False)}
    assert len(twice) == 2
    functions = [
        predictor(model, params, x, fit_kernel(model, params, x, labels, memory=MUCH))
        for params in (twice, parameters(model))
    ]
    assert_close(functions[0](others), functions[1](others))


def test_sketches_come_closer_to_the_exact_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Sequential(Linear(20, 30), Tanh(), Linear(30, C)).eval()
    params, labels = parameters(model), torch.arange(N) % C
    x, others = torch.randn(N, 20), torch.randn(M, 20)
    monkeypatch.setattr(kernel_prediction, "RIDGES", (0.1,))

    def predicted(memory: int, seed: int = 0) -> Tensor:
        fit = fit_kernel(model, params, x, labels, memory=memory, seed=seed)
        return predictor(model, params, x, fit, seed=seed)(others)

    exact = predicted(MUCH)
    monkeypatch.setattr(kernel_prediction, "kind_of_fit", lambda *_: "sketched")
    one = kernel_prediction.COPIES * 8 * N * C  # memory of a feature
    errors = [
        torch.stack([predicted(one * k, seed) - exact for seed in range(8)]).square().mean().sqrt()
        for k in (64, 1024)
    ]
    # The root of 16 is a factor of 4; eight draws know each error to a quarter.
    assert errors[1] < errors[0] / 2
    assert_close(predicted(one * 1024), predicted(one * 1024))


def test_the_budget_decides() -> None:
    edge = kernel_prediction.COPIES * 8 * (N * C) ** 2
    assert [kind_of_fit(N, C, memory) for memory in (edge - 1, edge)] == ["sketched", "exact"]
    net = network("test_resnet", num_images=N, num_classes=C)
    labels = torch.arange(N) % C
    with pytest.raises(
        InputError, match=r"--memory is 0MB, .* give --memory 1MB, or fewer images"
    ):
        fit_kernel(net.model, net.weights, net.x, labels, memory=1000)


def test_rounding_that_spoils_the_prediction_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Linear(2, C).eval(), torch.randn(20, 2)
    labels = torch.randint(C, (20,))  # nothing to learn: the dual coefficients are large
    monkeypatch.setattr(kernel_prediction, "RIDGES", (1e-12,))
    double = fit_kernel(model, parameters(model), x, labels, memory=MUCH)
    assert double.coefficients.abs().max() > 1e8
    single = model.float()
    with pytest.raises(InputError, match=r"loses .* to rounding; .*: give --dtype float64"):
        fit_kernel(single, parameters(single), x.float(), labels, memory=MUCH)
