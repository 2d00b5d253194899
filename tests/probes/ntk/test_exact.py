"""Tests for probes/ntk: exact kernels of whole networks, against contracted Jacobians."""

import functools
import re

import pytest
import torch
from models import FAMILIES, network
from torch import Tensor
from torch.nn import Linear, Module, Sequential, Tanh
from torch.testing import assert_close

from core.errors import InputError
from core.linearization import Weights
from probes.ntk import empirical_ntk

EQUATIONS = {"full": "ncmd->ncmd", "trace": "ncmc->nm", "diagonal": "ncmc->nmc"}
SMALL = ["test_resnet", "test_convnext", "test_vit"]


SLOW = {"test_coatnet", "test_maxvit"}


@functools.cache
def problem(name: str, num_images: int = 3) -> tuple[Module, Weights, Tensor]:
    torch.manual_seed(0)
    model, x, _, _ = network(name, num_images=2 if name in SLOW else num_images)
    return model, dict(model.named_parameters()), x


@functools.cache
def reference(name: str, layer: str = "logits") -> Tensor:
    model, params, x = problem(name)
    return kernel(model, params, x, layer=layer, method="reference")


def kernel(*args: object, **options: object) -> Tensor:
    found = empirical_ntk(*args, **options)  # type: ignore[arg-type]
    assert isinstance(found, Tensor)
    assert found.dtype == torch.float64
    return found


def assert_near(found: Tensor, truth: Tensor, tolerance: float = 1e-10) -> None:
    assert found.shape == truth.shape
    assert (found - truth).norm() < tolerance * truth.norm()


def smallest_budget(model: Module, params: Weights, *xs: Tensor, **options: object) -> int:
    """The megabytes that the error for too small a budget asks for."""
    with pytest.raises(InputError, match=r"give at least \d+MB") as caught:
        empirical_ntk(model, params, *xs, memory=1, **options)  # type: ignore[arg-type]
    found = re.search(r"at least (\d+)MB", str(caught.value))
    assert found is not None
    return int(found[1])


LARGE_LAST = [
    pytest.param(name, marks=pytest.mark.slow) if side > 32 else name
    for name, side in FAMILIES.items()
]


@pytest.mark.parametrize("outputs", ["full", "trace"])
@pytest.mark.parametrize("name", LARGE_LAST)
def test_kernels_of_all_families_match_their_jacobians(name: str, outputs: str) -> None:
    model, params, x = problem(name)
    truth = torch.einsum(EQUATIONS[outputs], reference(name))
    assert_near(kernel(model, params, x, outputs=outputs), truth)


@pytest.mark.parametrize("name", LARGE_LAST)
def test_single_precision_is_close(name: str) -> None:
    model, params, x = problem(name)
    truth = torch.einsum("ncmc->nm", reference(name))
    assert_near(kernel(model, params, x, outputs="trace", dtype=torch.float32), truth, 1e-5)


@pytest.mark.parametrize("outputs", ["full", "diagonal"])
@pytest.mark.parametrize("name", SMALL)
def test_single_precision_of_every_output(name: str, outputs: str) -> None:
    model, params, x = problem(name)
    truth = torch.einsum(EQUATIONS[outputs], reference(name))
    assert_near(kernel(model, params, x, outputs=outputs, dtype=torch.float32), truth, 1e-5)


@pytest.mark.parametrize("name", LARGE_LAST)
def test_diagonal_blocks_add_up_to_the_whole(name: str) -> None:
    model, params, x = problem(name)
    parts = empirical_ntk(model, params, x, outputs="diagonal", blocks=True)
    assert isinstance(parts, dict)
    assert len(parts) > 2
    assert_near(
        torch.stack(list(parts.values())).sum(0), torch.einsum("ncmc->nmc", reference(name))
    )


@pytest.mark.parametrize("outputs", EQUATIONS)
@pytest.mark.parametrize("name", ["test_resnet"])
def test_every_block_is_the_kernel_of_its_own_weights(name: str, outputs: str) -> None:
    model, params, x = problem(name)
    parts = empirical_ntk(model, params, x, outputs=outputs, blocks={n: n for n in params})  # type: ignore[arg-type]
    assert isinstance(parts, dict)
    assert parts.keys() == params.keys()
    for n in list(params)[:: len(params) // 4]:
        own = kernel(model, {n: params[n]}, x, outputs=outputs, method="reference")
        assert_near(parts[n], own)


def test_weights_that_are_left_out_are_constant() -> None:
    model, params, x = problem("test_resnet")
    some = {n: p for n, p in params.items() if n.startswith("layer2") and "conv" in n}
    assert_near(kernel(model, some, x), kernel(model, some, x, method="reference"))
    assert_near(
        kernel(model, some, x, outputs="trace", method="dense"),
        kernel(model, some, x, outputs="trace"),
    )


def test_weights_enter_at_the_values_given() -> None:
    model, params, x = problem("test_resnet")
    moved = {n: 1.1 * p.detach() for n, p in params.items()}
    other = network("test_resnet").model
    other.load_state_dict(model.state_dict() | moved)
    assert_near(kernel(model, moved, x), kernel(other, dict(other.named_parameters()), x))


@pytest.mark.parametrize("method", ["structured", "dense"])
@pytest.mark.parametrize("outputs", EQUATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_methods_agree(name: str, outputs: str, method: str) -> None:
    model, params, x = problem(name)
    truth = torch.einsum(EQUATIONS[outputs], reference(name))
    assert_near(kernel(model, params, x, outputs=outputs, method=method), truth)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_kernel_of_features(name: str) -> None:
    model, params, x = problem(name)
    options = {"layer": "features", "outputs": torch.randn(model.num_features, 2)}
    truth = kernel(model, params, x[:2], method="reference", **options)
    assert_near(kernel(model, params, x[:2], **options), truth)


@pytest.mark.slow
def test_reductions_of_many_outputs_agree() -> None:
    model, params, x = problem("test_efficientnet")
    options = {"outputs": torch.eye(model.num_features)[:, :20], "layer": "features"}
    full = kernel(model, params, x[:2], **options)
    part = kernel(model, params, x[:2], layer="features", outputs="diagonal")
    assert_near(part[..., :20], torch.einsum("ncmc->nmc", full))


@pytest.mark.parametrize(
    ("name", "layer"), [("test_resnet", "layer2"), ("test_convnext", "stages.1")]
)
def test_kernel_of_a_named_block(name: str, layer: str) -> None:
    model, params, x = problem(name)
    captured = []
    hook = model.get_submodule(layer).register_forward_hook(lambda m, i, o: captured.append(o))
    with torch.no_grad():
        model(x[:1])
    hook.remove()
    out = torch.randn(captured[0].numel(), 2)
    options = {"layer": layer, "outputs": out}
    assert_near(
        kernel(model, params, x, **options),
        kernel(model, params, x, method="reference", **options),
    )


def test_a_layer_does_not_depend_on_what_follows() -> None:
    model = Sequential(Linear(4, 5), Tanh(), Linear(5, 3)).eval()
    params, x = dict(model.named_parameters()), torch.randn(3, 4)
    front = model[:2].eval()
    before = kernel(front, dict(front.named_parameters()), x)
    assert_near(kernel(model, params, x, layer="1"), before)


@pytest.mark.parametrize("outputs", EQUATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_a_rectangle_is_a_part_of_the_whole(name: str, outputs: str) -> None:
    model, params, x = problem(name)
    whole = torch.einsum(EQUATIONS[outputs], reference(name))
    part = whole[:1, :, 1:] if outputs == "full" else whole[:1, 1:]
    assert_near(kernel(model, params, x[:1], x[1:], outputs=outputs), part)


@pytest.mark.parametrize("method", ["auto", "dense", "reference"])
@pytest.mark.parametrize("name", SMALL)
def test_combinations_of_outputs(name: str, method: str) -> None:
    model, params, x = problem(name)
    v = torch.randn(3, 2)
    truth = torch.einsum("cr,ncmd,ds->nrms", v, reference(name), v)
    assert_near(kernel(model, params, x, outputs=v, method=method), truth)
    assert_near(kernel(model, params, x[2:], x[:2], outputs=v, method=method), truth[2:, :, :2])


@pytest.mark.parametrize("outputs", EQUATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_an_example_does_not_see_the_others(name: str, outputs: str) -> None:
    model, params, x = problem(name, 5)
    five = kernel(model, params, x, outputs=outputs)
    for few in ([1, 3], [4]):
        part = five[few][:, :, few] if outputs == "full" else five[few][:, few]
        assert_near(kernel(model, params, x[few], outputs=outputs), part)


@pytest.mark.parametrize("rectangular", [False, True])
@pytest.mark.parametrize("outputs", EQUATIONS)
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet_gn"])
def test_small_budgets_change_nothing(name: str, outputs: str, rectangular: bool) -> None:
    model, params, x = problem(name, 4)
    xs = (x[:3], x[1:]) if rectangular else (x,)
    whole = kernel(model, params, *xs, outputs=outputs)
    least = smallest_budget(model, params, *xs, outputs=outputs)
    for more in (0, 10, 30):
        assert_near(kernel(model, params, *xs, outputs=outputs, memory=f"{least + more}MB"), whole)


@pytest.mark.parametrize("more", [0, 30])
def test_small_budgets_keep_blocks_and_combinations_right(more: int) -> None:
    model, params, x = problem("test_resnet", 4)
    v = torch.randn(3, 2)
    least = smallest_budget(model, params, x, outputs=v)
    options = {"outputs": v, "blocks": True}
    whole = empirical_ntk(model, params, x, **options)  # type: ignore[arg-type]
    small = empirical_ntk(model, params, x, memory=f"{least + more}MB", **options)  # type: ignore[arg-type]
    assert isinstance(whole, dict)
    assert isinstance(small, dict)
    assert whole.keys() == small.keys()
    for group, part in whole.items():
        assert_near(small[group], part)


@pytest.mark.parametrize("name", SMALL)
def test_symmetric_and_positive_semidefinite(name: str) -> None:
    model, params, x = problem(name)
    full = kernel(model, params, x).flatten(2).flatten(0, 1)
    assert torch.equal(full, full.t())
    values = torch.linalg.eigvalsh(full)
    assert values[0] > -1e-12 * values[-1]


@pytest.mark.parametrize("method", ["auto", "dense", "reference"])
@pytest.mark.parametrize("layer", ["logits", "features"])
def test_the_model_stays_as_it_was(layer: str, method: str) -> None:
    model, x, _, _ = network("test_resnet")
    model.layer1.requires_grad_(False)
    state = {n: t.clone() for n, t in model.state_dict().items()}
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    params, images, chance = dict(model.named_parameters()), x.clone(), torch.get_rng_state()

    kernel(
        model,
        params,
        x,
        layer=layer,
        method=method,
        outputs=torch.ones(3 if layer == "logits" else model.num_features, 1),
    )

    assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert flags == {n: p.requires_grad for n, p in model.named_parameters()}
    assert all(p is params[n] and p.grad is None for n, p in model.named_parameters())
    assert not any(m.training or m._forward_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(x, images)
    assert torch.equal(torch.get_rng_state(), chance)


def test_a_linear_model_has_the_kernel_of_its_inputs() -> None:
    model, x = Linear(4, 3).eval(), torch.randn(5, 4)
    truth = torch.einsum("nm,cd->ncmd", x @ x.t() + 1, torch.eye(3))
    assert_near(kernel(model, dict(model.named_parameters()), x), truth)
