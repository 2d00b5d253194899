"""Tests for probes/redundancy/masking.py."""

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import dropout

from core.errors import InputError
from probes.redundancy import METRICS, MaskedAccuracy, masked_accuracy, masked_logits

Head = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def head() -> Head:
    """A classifier, features and labels that it mostly gets right."""
    weight, bias, features = torch.randn(4, 30), torch.randn(4), torch.randn(300, 30).relu()
    logits = features @ weight.mT + bias
    return weight, bias, features, (logits + 2 * torch.randn_like(logits)).argmax(1)


def values(found: MaskedAccuracy) -> list[float]:
    return [row["value"] for row in found.rows]


def test_nothing_masked_is_the_plain_accuracy(head: Head) -> None:
    weight, bias, features, labels = head
    plain = float(((features @ weight.mT + bias).argmax(1) == labels).double().mean())
    assert values(masked_accuracy(*head, rates=(0.0,), draws=3)) == [pytest.approx(plain)]


def test_mean_logits_are_the_plain_logits(head: Head) -> None:
    weight, bias, features, _ = head
    x = features[:3]
    draws = torch.stack(
        [masked_logits(x, weight, bias, torch.rand(x.shape), 0.9) for _ in range(4000)]
    )
    errors = draws.mean(0) - (x @ weight.mT + bias)
    assert (errors.abs() < 4.5 * draws.std(0) / 4000**0.5).all()


def test_a_single_unit_is_right_whenever_it_is_kept() -> None:
    """Kept, the unit votes for class 1; masked, the bias votes for class 0."""
    weight, bias = torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.0])
    rates = (0.0, 0.3, 0.9)
    found = masked_accuracy(weight, bias, torch.ones(1000, 1), torch.ones(1000).long(), rates)
    for accuracy, rate in zip(values(found), rates, strict=True):
        spread = (rate * (1 - rate) / 20_000) ** 0.5
        assert accuracy == pytest.approx(1 - rate, abs=4.5 * spread)
    assert found.rows[1]["stderr"] == pytest.approx((0.21 / 20_000) ** 0.5, rel=0.15)


def test_equals_pytorch_dropout_on_average(head: Head) -> None:
    weight, bias, features, labels = head
    hits = torch.stack(
        [
            ((dropout(features, 0.7) @ weight.mT + bias).argmax(1) == labels).double()
            for _ in range(300)
        ]
    )
    found = values(masked_accuracy(*head, rates=(0.7,), draws=300))[0]
    noise = float(hits.var(0).sum() / 300) ** 0.5 / len(labels)
    assert found == pytest.approx(float(hits.mean()), abs=4.5 * 2**0.5 * noise)


def test_a_loop_over_draws_and_rates_gives_the_same(head: Head) -> None:
    weight, bias, features, labels = head
    rates, generator = (0.2, 0.8), Generator().manual_seed(5)
    uniform = [torch.rand(300, 30, generator=generator) for _ in range(4)]
    expected = [
        np.mean(
            [
                ((features * (u >= r) / (1 - r) @ weight.mT + bias).argmax(1) == labels).numpy()
                for u in uniform
            ]
        )
        for r in rates
    ]
    np.testing.assert_allclose(values(masked_accuracy(*head, rates, draws=4, seed=5)), expected)


def test_blocks_of_rows_only_change_the_draws(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = values(masked_accuracy(*head, rates=(0.0, 0.5)))
    monkeypatch.setattr("core.arrays.BLOCK_BYTES", 8 * 30 * 70)
    blocked = values(masked_accuracy(*head, rates=(0.0, 0.5)))
    assert blocked[0] == whole[0]
    # 20 draws of 300 examples each side
    assert blocked[1] == pytest.approx(whole[1], abs=4.5 * (0.5 / 6000) ** 0.5)


def test_what_is_reported(head: Head) -> None:
    found = masked_accuracy(*(t.numpy() for t in head), rates=(0.0, 0.9))
    assert found.rates == (0.0, 0.9)
    assert found.kept_units == pytest.approx((30, 3))
    for row, rate in zip(found.rows, found.rates, strict=True):
        assert METRICS[row["metric"]].coordinate == "mask rate"
        assert row["at"] == rate
        assert row["low"] < row["value"] < row["high"]
    assert values(found)[0] > values(found)[1]


def test_the_seed_decides(head: Head) -> None:
    first, again, other = (masked_accuracy(*head, rates=(0.5,), seed=s).rows for s in (1, 1, 2))
    assert first == again != other


def test_errors_say_what_was_found(head: Head) -> None:
    weight, bias, features, labels = head
    with pytest.raises(InputError, match=r"weights \(4, 29\) and biases \(4,\), the features 30"):
        masked_accuracy(weight[:, 1:], bias, features, labels)
    with pytest.raises(InputError, match=r"biases \(3,\)"):
        masked_accuracy(weight, bias[1:], features, labels)
    with pytest.raises(InputError, match="largest label is 4 and the classifier has 4 classes"):
        masked_accuracy(weight, bias, features, labels.clamp(max=3) * 0 + 4)
    with pytest.raises(InputError, match="one label per example was expected"):
        masked_accuracy(weight, bias, features, labels[1:])
    with pytest.raises(InputError, match="0 <= rate < 1 and at least 1 draw"):
        masked_accuracy(*head, rates=(0.5, 1.0))
    with pytest.raises(InputError, match="classifier weights have 1 examples"):
        masked_accuracy(weight[:1], bias[:1], features, 0 * labels)
