"""Tests for finetuning/tangent.py: the expansion, its gradient, and training with both."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev
from torch.nn import Linear, Module, ReLU, Sequential
from torch.nn.functional import cross_entropy, dropout
from torch.optim import SGD
from torch.testing import assert_close

from core.errors import InputError
from core.linearization import displacement
from core.models import insert_before_classifier
from finetuning.tangent import TangentModel
from finetuning.train import train, train_step
from tests.finetuning.tiny import assert_same_runs, tiny_config, weights
from tests.models import network

LABELS = torch.tensor([0, 2])
FEW = ("glyphnet", "test_resnet", "test_vit", "test_convnext", "test_efficientnet")


def moved(model: Module, scale: float = 0.01) -> None:
    """Moves the weights to somewhere near."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def dense_jacobian(model: Module, weights: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    return jacrev(lambda w: functional_call(model, w, (x,)), chunk_size=1)(weights)


@pytest.mark.parametrize("name", FEW)
def test_outputs_and_gradient_are_those_of_the_dense_jacobian(name: str) -> None:
    net = network(name)
    tangent = TangentModel(net.model)
    moved(net.model)
    weights = {n: p.detach() for n, p in net.model.named_parameters()}
    jacobian = dense_jacobian(net.model, tangent.origin, net.x)
    delta = displacement(tangent.origin, weights)
    slope = sum(torch.tensordot(jacobian[n], d, d.ndim) for n, d in delta.items())
    expected = functional_call(net.model, tangent.origin, (net.x,)) + slope

    outputs = tangent(net.x)
    cross_entropy(outputs, LABELS).backward()

    assert_close(outputs, expected)
    with torch.no_grad():
        assert_close(tangent(net.x), expected)
    residual = (expected.softmax(1) - torch.nn.functional.one_hot(LABELS, 3)) / 2
    for n, parameter in net.model.named_parameters():
        assert parameter.grad is not None
        assert_close(parameter.grad, torch.einsum("nc,nc...->...", residual, jacobian[n]))


def test_before_the_first_step_it_is_the_network() -> None:
    net = network("test_vit")
    assert_close(TangentModel(net.model)(net.x), net.model(net.x))


class RandomFeatures(Sequential):
    """Frozen random features under a classifier: linear in the weights that train."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__(Linear(6, 40), ReLU(), Linear(40, 3))
        self[0].requires_grad_(False)

    def get_classifier(self) -> Module:
        return self[2]


def test_a_network_that_is_linear_in_its_weights_trains_as_its_tangent_model() -> None:
    """With the same dropout masks, momentum and weight decay, at every one of 30 steps."""
    ordinary = RandomFeatures()
    twin = copy.deepcopy(ordinary)
    models = (ordinary, TangentModel(twin))
    optimizers = [SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2) for m in models]
    for model in (ordinary, twin):
        insert_before_classifier(model.train(), lambda features: dropout(features, 0.5))

    for step in range(30):
        x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
        for model, optimizer in zip(models, optimizers, strict=True):
            torch.manual_seed(step)
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        for a, b in zip(ordinary.parameters(), twin.parameters(), strict=True):
            assert_close(a, b)


def test_the_dropout_mask_of_value_and_slope_is_the_same() -> None:
    """Moved along one direction, outputs under one mask lie on a line."""
    net = network("test_resnet")
    insert_before_classifier(net.model, lambda features: dropout(features, 0.9))
    tangent = TangentModel(net.model)
    tangent.train()
    for module in net.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    found = []
    for alpha in (0.0, 1.0, 2.0):
        with torch.no_grad():
            for name, parameter in net.model.named_parameters():
                parameter.copy_(tangent.origin[name] + alpha * net.delta[name])
        torch.manual_seed(0)
        found.append(tangent(net.x).detach())
    assert not torch.allclose(found[0], found[1])
    assert_close(found[2] - found[1], found[1] - found[0])


def test_random_numbers_after_a_step_are_those_after_an_ordinary_one() -> None:
    drawn = []
    for wrap in (lambda model: model, TangentModel):
        model = RandomFeatures().train()
        insert_before_classifier(model, lambda features: dropout(features, 0.5))
        wrapped = wrap(model)
        torch.manual_seed(0)
        wrapped(torch.ones(2, 6))
        drawn.append(torch.rand(3))
    assert_close(*drawn)


def test_the_origin_is_cast_and_moved_along_with_the_network() -> None:
    model = Sequential(Linear(3, 4), ReLU(), Linear(4, 2))
    tangent = TangentModel(model)
    moved(model)
    x = torch.randn(5, 3)
    before = tangent(x)
    tangent.float()
    assert {tensor.dtype for tensor in tangent.origin.values()} == {torch.float32}
    assert_close(tangent(x.float()), before.float())


def test_batch_statistics_have_no_tangent_model() -> None:
    net = network("test_resnet")
    with pytest.raises(
        InputError, match=r"'conv1.1' uses the statistics of the batch.*--freeze_bn"
    ):
        TangentModel(net.model.train())


@pytest.fixture
def options() -> dict[str, object]:
    return {"tangent": True, "freeze_bn": True, "average": (1,), "average_from": 1}


def test_a_tangent_run_resumes_to_the_same_bytes(
    tmp_path: Path, data: Path, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny_config(data, tmp_path / "whole", **options))
    config = tiny_config(data, tmp_path / "killed", **options)
    steps = []

    def killed(*arguments: object) -> None:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        train_step(*arguments)

    monkeypatch.setattr("finetuning.train.train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert_same_runs(whole, train(config))


def test_the_first_step_is_that_of_the_ordinary_run(
    tmp_path: Path, data: Path, options: dict[str, object]
) -> None:
    """At the start the network is its own expansion, gradient and dropout masks included."""
    runs = {}
    for tangent in (False, True):
        chosen = options | {"tangent": tangent, "steps": 2, "checkpoint_every": 1}
        runs[tangent] = train(tiny_config(data, tmp_path / str(tangent), **chosen))
    first, second = (weights(run, "step_000001") for run in runs.values())
    for name in first:
        assert_close(first[name], second[name], atol=1e-6, rtol=1e-4)  # single precision
    last, other = (weights(run) for run in runs.values())
    assert any(not torch.allclose(last[name], other[name], rtol=1e-3) for name in last)


def test_wrong_options_are_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="--tangent and --compile"):
        tiny_config(data, tmp_path / "r", tangent=True, compile=True)
    with pytest.raises(InputError, match="--freeze_bn true"):
        train(tiny_config(data, tmp_path / "r", tangent=True))
