"""Tests for core/forward_mode.py."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch.autograd import grad
from torch.func import functional_call, jvp
from torch.nn import functional as F
from torch.testing import assert_close

from core.forward_mode import forward_mode_rules
from core.linearization import first_order

ORDERS = pytest.mark.parametrize("order", [1, 2])
# What the second order writes out, away from its kinks.
POINTS = torch.tensor([-4.0, -2.5, -0.7, 0.3, 1.9, 4.0, 7.0], dtype=torch.float64)
ACTIVATIONS = {
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "relu6": F.relu6,
}


@ORDERS
@pytest.mark.parametrize("mask", [None, "bool", "float"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_is_torchs_with_any_mask_and_scale(
    order: int, mask: str | None, scale: float | None
) -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    allowed = torch.rand(5, 5) < 0.7
    allowed.fill_diagonal_(True)
    masks = {"bool": allowed, "float": torch.randn(5, 5), None: None}
    attend = lambda: F.scaled_dot_product_attention(q, k, v, masks[mask], scale=scale)

    expected = attend()
    with forward_mode_rules(order):  # type: ignore[arg-type]
        found = attend()

    assert_close(found, expected)


@ORDERS
@pytest.mark.parametrize(
    "options", [{"is_causal": True}, {"dropout_p": 0.1}, {"enable_gqa": True}], ids=str
)
def test_attention_without_a_rule_is_refused_and_not_approximated(
    order: int, options: dict
) -> None:
    q = torch.randn(2, 4, 5, 8)
    with (
        forward_mode_rules(order),  # type: ignore[arg-type]
        pytest.raises(RuntimeError, match="no rule"),
    ):
        F.scaled_dot_product_attention(q, q, q, **options)


@ORDERS
def test_torchs_attention_is_back_after_the_block_and_after_an_exception(order: int) -> None:
    q = torch.randn(2, 4, 5, 8)
    causal = lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True)
    expected = causal()  # refused inside the block

    with forward_mode_rules(order):  # type: ignore[arg-type]
        pass
    assert torch.equal(causal(), expected)
    with pytest.raises(KeyError), forward_mode_rules(order):  # type: ignore[arg-type]
        raise KeyError
    assert torch.equal(causal(), expected)


def by_the_rules(
    function: Callable[..., torch.Tensor],
    primals: Sequence[torch.Tensor],
    tangents: Sequence[torch.Tensor],
    order: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and derivative under the rules for derivatives of an order."""
    if order == 1:
        points, moves = ({str(i): t for i, t in enumerate(ts)} for ts in (primals, tangents))
        return first_order(lambda p: function(*p.values()), points, moves)
    with torch.no_grad(), forward_mode_rules(2):
        value, slope = jvp(function, tuple(primals), tuple(tangents))[:2]
    return value, slope


def test_the_softmax_rule_is_the_derivative_of_the_softmax() -> None:
    """Query, key and value move together, and the value alone."""
    tensors, tangents = tuple(torch.randn(3, 2, 5, 8)), tuple(torch.randn(3, 2, 5, 8))
    query, key, value = tensors
    attend = lambda v: F.scaled_dot_product_attention(query, key, v)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = jvp(F.scaled_dot_product_attention, tensors, tangents)
        value_alone = jvp(attend, (value,), tangents[2:])
    assert_close(by_the_rules(F.scaled_dot_product_attention, tensors, tangents), expected)
    assert_close(by_the_rules(attend, (value,), tangents[2:]), value_alone)


@pytest.mark.parametrize(
    ("q", "k"),
    [
        ((2, 3, 5, 4), (2, 1, 6, 4)),
        ((1, 3, 5, 4), (2, 3, 6, 4)),
        ((5, 4), (6, 4)),
        ((3, 5, 4),) * 2,
    ],
    ids=str,
)
def test_attention_to_keys_that_are_shared(q: tuple[int, ...], k: tuple[int, ...]) -> None:
    """By several heads, or by all examples."""
    tensors, tangents = ([torch.randn(*s) for s in (q, k, k)] for _ in range(2))
    written_out = lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v

    found = by_the_rules(F.scaled_dot_product_attention, tensors, tangents)

    assert_close(found, tuple(jvp(written_out, tuple(tensors), tuple(tangents))))


def test_inference_mode_changes_no_derivative() -> None:
    layer, x = torch.nn.Linear(4, 3), torch.randn(2, 4)
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    delta = {name: torch.randn_like(w) for name, w in weights.items()}
    function = lambda w: functional_call(layer, w, (x,))
    expected = first_order(function, weights, delta)

    with torch.inference_mode():
        within = {name: d.clone() for name, d in delta.items()}
        assert_close(first_order(function, weights, within), expected)


@pytest.mark.parametrize("moving", ["x", "weight", "bias", "x weight", "x weight bias"])
@pytest.mark.parametrize("batch", [(4,), (2, 3), (2, 3, 5)], ids=str)
def test_the_linear_rule_whatever_moves(moving: str, batch: tuple[int, ...]) -> None:
    values = {"x": torch.randn(*batch, 7), "weight": torch.randn(6, 7), "bias": torch.randn(6)}
    primals = tuple(values[name] for name in moving.split())
    tangents = tuple(torch.randn_like(p) for p in primals)

    def function(*moved: torch.Tensor) -> torch.Tensor:
        here = values | dict(zip(moving.split(), moved, strict=True))
        return F.linear(here["x"], here["weight"], here["bias"])

    with torch.no_grad():
        expected = jvp(function, primals, tangents)
    assert_close(by_the_rules(function, primals, tangents), expected)


@ORDERS
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_on_running_statistics_in_closed_form(order: int, affine: bool) -> None:
    layer = torch.nn.BatchNorm2d(3, affine=affine).eval()
    x, (mean, d_mean, d_var) = torch.randn(4, 3, 2, 2), torch.randn(3, 3)
    var = torch.rand(3) + 0.5
    weight = torch.randn(3) if affine else torch.ones(3)
    learned = {"weight": weight, "bias": torch.randn(3)} if affine else {}
    start, move = {"running_mean": mean, "running_var": var}, (d_mean, d_var)

    change = by_the_rules(
        lambda m, v: functional_call(layer, learned | {"running_mean": m, "running_var": v}, (x,)),
        tuple(start.values()),
        move,
        order,
    )[1]

    per_channel = lambda t: t.view(3, 1, 1)
    spread = (var + layer.eps).sqrt()
    expected = -per_channel(weight * d_mean / spread) - per_channel(
        weight * d_var / (2 * spread**3)
    ) * (x - per_channel(mean))
    assert_close(change, expected)


@pytest.mark.parametrize("moving", ["x", "weight", "bias", "x bias", "x weight bias"])
@pytest.mark.parametrize("norm", ["layer", "rows", "one row", "batch"])
def test_the_rules_of_normalisations_whatever_moves(norm: str, moving: str) -> None:
    """Against PyTorch's own derivative; of BatchNorm at statistics that stay."""
    values = {"x": torch.randn(4, 3, 5), "weight": torch.randn(3), "bias": torch.randn(3)}
    mean, var = torch.randn(3), torch.rand(3) + 0.5
    primals = tuple(values[name] for name in moving.split())
    tangents = tuple(torch.randn_like(p) for p in primals)

    def function(*moved: torch.Tensor) -> torch.Tensor:
        x, weight, bias = (values | dict(zip(moving.split(), moved, strict=True))).values()
        if norm == "batch":
            return F.batch_norm(x, mean, var, weight, bias)
        rows = {"rows": x.mT, "layer": x.mT.contiguous(), "one row": x[0, :, 0]}[norm]
        return F.layer_norm(rows, (3,), weight, bias, eps=0.1)

    with torch.no_grad():
        expected = jvp(function, primals, tangents)
    assert_close(by_the_rules(function, primals, tangents), expected)


@pytest.mark.parametrize("shape", [(4, 3, 5), (3, 5)], ids=str)
def test_the_rule_of_layer_norm_without_weights(shape: tuple[int, ...]) -> None:
    """A bias of one row is its own derivative, which is not to be changed in place."""
    (x, dx), (bias, dbias) = torch.randn(2, *shape), torch.randn(2, 3, 5)
    given = dbias.clone()
    for bare in (
        lambda x, b: F.layer_norm(x, (3, 5)),
        lambda x, b: F.layer_norm(x, (3, 5), None, b),
    ):
        found = by_the_rules(bare, (x, bias), (dx, dbias))
        assert_close(found, tuple(jvp(bare, (x, bias), (dx, dbias))))
        assert torch.equal(dbias, given)


@ORDERS
def test_batch_norm_on_batch_statistics_stays_torchs(order: int) -> None:
    """Some layers standardise their weights with it."""
    x, weight = torch.randn(5, 3, 4), torch.randn(3)
    expected = F.batch_norm(x, None, None, weight, training=True)
    with forward_mode_rules(order):  # type: ignore[arg-type]
        assert_close(F.batch_norm(x, None, None, weight, training=True), expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_written_out_activations_have_the_right_value_and_derivatives(name: str) -> None:
    activation = ACTIVATIONS[name]
    expected = activation(POINTS)
    step = 1e-4
    curvature = (activation(POINTS + step) - 2 * expected + activation(POINTS - step)) / step**2
    ones = torch.ones_like(POINTS)

    with torch.no_grad(), forward_mode_rules(2):
        slope = lambda x: jvp(activation, (x,), (ones,))[1]
        found = activation(POINTS)
        first, second = jvp(slope, (POINTS,), (ones,))[:2]

    assert_close(found, expected)
    assert_close(first, _reverse_slope(activation))
    assert_close(second, curvature, rtol=0, atol=1e-6)  # rounding: 1e-16 / step^2


def _reverse_slope(activation: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    x = POINTS.clone().requires_grad_()
    return grad(activation(x).sum(), x)[0]


@pytest.mark.parametrize("shape", [(6,), (2, 3)], ids=str)
def test_layer_norm_has_its_whole_second_derivative(shape: tuple[int, ...]) -> None:
    """PyTorch's nested rule takes mean and variance for constants."""
    x, dx = torch.randn(2, 4, *shape)
    weight, bias = torch.randn(2, *shape)
    function = lambda t: F.layer_norm(x + t * dx, shape, weight, bias)
    t, one = torch.zeros(()), torch.ones(())

    with torch.no_grad(), forward_mode_rules(2):
        found = jvp(lambda s: jvp(function, (s,), (one,))[1], (t,), (one,))

    at = torch.zeros((), requires_grad=True)
    slopes = [grad(y, at, create_graph=True)[0] for y in function(at).flatten()]
    curvature = torch.stack([grad(s, at, retain_graph=True)[0] for s in slopes])
    assert_close(found[0].flatten(), torch.stack(slopes).detach())
    assert_close(found[1].flatten(), curvature)


def test_a_key_that_is_masked_everywhere_counts_for_nothing() -> None:
    q, k, v = torch.randn(3, 2, 5, 8)
    allowed = torch.ones(5, 5, dtype=torch.bool)
    allowed[:, 0] = False
    with forward_mode_rules():
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    scores = (q @ k[:, 1:].transpose(-2, -1) / math.sqrt(8)).softmax(-1)
    assert_close(found, scores @ v[:, 1:])
