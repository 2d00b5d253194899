"""Tests for probes/ntk/factors.py: contractions of factors against those of gradients."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from probes.ntk import factors
from probes.ntk.factors import Grams, Outer, contract
from probes.ntk.sizes import CPU

EQUATIONS = {"full": "ncp,mdp->ncmd", "trace": "ncp,mcp->nm", "diagonal": "ncp,mcp->nmc"}


def outer(num: int, groups: int, t: int, num_outputs: int, i: int, o: int) -> Outer:
    inputs = torch.randn(num, groups, t, i)
    return Outer(inputs, torch.randn(num, groups, t, num_outputs, o))


def gradients(factor: Outer) -> Tensor:
    """Per group O x I weights, summed over positions."""
    rows = torch.einsum("nsti,nstco->ncsoi", factor.inputs, factor.grads)
    return rows.flatten(2)


def products(left: Tensor, right: Tensor, reduction: str) -> Tensor:
    return torch.einsum(EQUATIONS[reduction], left, right)


sizes = st.tuples(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
)


@given(sizes, st.sampled_from(sorted(EQUATIONS)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_contractions_of_any_shape(size: tuple[int, ...], reduction: str, same: bool) -> None:
    n, m, groups, t, num_outputs, i, o = size
    left = outer(n, groups, t, num_outputs, i, o)
    right = left if same else outer(m, groups, t, num_outputs, i, o)
    truth = products(gradients(left), gradients(right), reduction)

    assert_close(contract(left, right, reduction), truth)  # type: ignore[arg-type]
    assert_close(contract(left.dense(), right, reduction), truth)  # type: ignore[arg-type]
    assert_close(contract(left.dense(), right.dense(), reduction), truth)  # type: ignore[arg-type]


@pytest.mark.parametrize("workspace", [1, 50, 2**23])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("reduction", EQUATIONS)
@pytest.mark.parametrize("order", ["gradients", "grams"])
def test_both_orders_in_pieces(
    order: str, reduction: str, same: bool, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factors, "sizes", lambda _: replace(CPU, workspace=workspace))
    monkeypatch.setattr(factors, "contraction_costs", lambda *_: {order: 0.0})
    left = outer(3, 1, 4, 2, 5, 6)
    right = left if same else outer(2, 1, 4, 2, 5, 6)
    truth = products(gradients(left), gradients(right), reduction)
    assert_close(contract(left, right, reduction), truth)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "shape"),
    [("grams", (4, 1, 1, 3, 200, 300)), ("gradients", (4, 1, 200, 3, 4, 5))],
)
def test_the_cheaper_order_is_chosen(order: str, shape: tuple[int, ...]) -> None:
    factor = outer(*shape)
    for reduction in EQUATIONS:
        costs = factors.contraction_costs(factor, factor, reduction)  # type: ignore[arg-type]
        assert min(costs, key=costs.__getitem__) == order
        truth = products(gradients(factor), gradients(factor), reduction)
        assert_close(contract(factor, factor, reduction), truth)  # type: ignore[arg-type]


@pytest.mark.parametrize("workspace", [1, 2**23])
def test_grams_serve_one_output_after_another(
    workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factors, "sizes", lambda _: replace(CPU, workspace=workspace))
    monkeypatch.setattr(factors, "contraction_costs", lambda *_: {"grams": 0.0})
    left, right = outer(3, 1, 4, 2, 5, 6), outer(2, 1, 4, 2, 5, 6)
    grams = Grams(2)
    parts = [contract(left.output(c), right.output(c), "trace", grams=grams) for c in range(2)]
    assert grams.found
    assert_close(torch.stack(parts, 2), contract(left.dense(), right.dense(), "diagonal"))


def test_sums_are_double_where_the_factors_are_single() -> None:
    left = outer(2, 1, 3, 2, 4, 5)
    single = Outer(left.inputs.float(), left.grads.float())
    for reduction in EQUATIONS:
        found = contract(single, single, reduction)  # type: ignore[arg-type]
        truth = contract(left, left, reduction)  # type: ignore[arg-type]
        assert found.dtype == torch.float64
        assert_close(found, truth, rtol=1e-5, atol=1e-5)  # the factors were rounded


def test_examples_can_be_joined() -> None:
    whole = outer(5, 2, 3, 2, 4, 5)
    parts = [Outer(whole.inputs[s], whole.grads[s]) for s in (slice(2), slice(2, 5))]
    mixed = [parts[0], parts[1].dense()]
    assert_close(factors.concatenate(parts).dense().rows, gradients(whole))  # type: ignore[arg-type]
    assert_close(factors.concatenate(mixed).dense().rows, gradients(whole))  # type: ignore[arg-type]


def test_long_sums_keep_their_digits() -> None:
    rows = torch.rand(1, 1, 30_000_000)
    found = contract(factors.Dense(rows), factors.Dense(rows), "trace")
    assert_close(found[0, 0], rows.double().square().sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
@pytest.mark.parametrize("order", ["gradients", "grams"])
def test_half_precision_does_not_overflow(
    order: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factors, "contraction_costs", lambda *_: {order: 0.0})
    factor = outer(3, 1, 4, 2, 5, 6)
    half = Outer((100 * factor.inputs).to(dtype), (100 * factor.grads).to(dtype))
    exact = Outer(half.inputs.double(), half.grads.double())
    assert_close(contract(half, half, "trace"), contract(exact, exact, "trace"), rtol=1e-4, atol=1)
