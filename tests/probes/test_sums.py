"""Tests for the path in probes/sums.py."""

import torch
from torch.func import functional_call
from torch.nn import Module
from torch.testing import assert_close

from core.linearization import Weights, displacement, shifted
from core.models import classify, features_and_logits
from probes.sums import (
    FEATURES,
    LOGITS,
    Key,
    Sums,
    path_sums,
    squared_norm,
)
from tests.models import features_of
from tests.oracles import line_slope


def r2(sums: Sums, metric: str, layer: str, at: float | None) -> torch.Tensor:
    numerator, denominator = sums[Key(metric, layer, at)]
    return 1 - numerator.sum() / denominator.sum()


def plain(model: Module, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    model.load_state_dict(weights, strict=False)
    with torch.no_grad():
        return features_and_logits(model, x)


def test_moving_the_classifier_alone_is_exactly_linear(pair: tuple) -> None:
    model, weights0, weights1, x, y = pair
    head = weights0 | {n: weights1[n] + 1 for n in ("fc.weight", "fc.bias")}
    sums = path_sums(model, weights0, head, x, y, alphas=(0.5, 1.5), blocks=())
    for at in (0.5, 1.0, 1.5):
        value = r2(sums, "explained_displacement", LOGITS, at)
        assert_close(value, torch.tensor(1.0), rtol=0, atol=1e-10)
    end = r2(sums, "explained_displacement_end", LOGITS, 1.0)
    assert_close(end, torch.tensor(1.0), rtol=0, atol=1e-10)


def test_a_small_move_is_nearly_linear_from_both_ends_and_in_every_block(pair: tuple) -> None:
    model, weights0, weights1, x, y = pair
    near = shifted(weights0, displacement(weights0, weights1), 1e-4)
    sums = path_sums(model, weights0, near, x, y, alphas=(1.0,), blocks=("layer1.0", "layer4.2"))
    for key in sums:
        if "explained" in key.metric:
            assert r2(sums, *key) > 0.99, key


def test_the_ends_of_the_interpolation_are_the_checkpoints(pair: tuple) -> None:
    model, weights0, weights1, x, y = pair
    sums = path_sums(model, weights0, weights1, x, y, alphas=(0.5,), blocks=())
    for alpha, weights in ((0.0, weights0), (1.0, weights1)):
        right = plain(model, weights, x)[1].argmax(1).eq(y).double()
        assert_close(sums[Key("weight_accuracy", "", alpha)][0], right)
        assert_close(sums[Key("representation_accuracy", "", alpha)][0], right)


def test_the_middle_of_the_path_by_hand(pair: tuple) -> None:
    model, weights0, weights1, x, y = pair
    sums = path_sums(model, weights0, weights1, x, y, alphas=(0.5,), blocks=())
    mid = {n: (weights0[n] + weights1[n]) / 2 for n in weights0}
    features = (plain(model, weights0, x)[0] + plain(model, weights1, x)[0]) / 2
    mixed = classify(mid["fc.weight"], mid["fc.bias"], features)
    assert_close(sums[Key("representation_accuracy", "", 0.5)][0], mixed.argmax(1).eq(y).double())
    moved = plain(model, mid, x)[0] - plain(model, weights0, x)[0]
    found = sums[Key("explained_displacement", FEATURES, 0.5)][1]
    assert_close(found, moved.square().sum(1))


def test_sums_do_not_depend_on_the_batch(pair: tuple) -> None:
    model, weights0, weights1, x, y = pair
    options = {"alphas": (0.5,), "blocks": ("layer2.0",)}
    whole = path_sums(model, weights0, weights1, x, y, **options)
    parts = [
        path_sums(model, weights0, weights1, x[i], y[i], **options) for i in ([0, 1], [2, 3, 4, 5])
    ]
    for key, (numerator, denominator) in whole.items():
        assert_close(torch.cat([p[key][0] for p in parts]), numerator)
        assert_close(torch.cat([p[key][1] for p in parts]), denominator)


def test_a_variance_turned_negative_is_not_a_number(pair: tuple) -> None:
    model, weights0, _, x, y = pair
    shrunk = weights0 | {n: 0.1 * w for n, w in weights0.items() if "running_var" in n}
    sums = path_sums(model, weights0, shrunk, x, y, alphas=(0.5, 1.5), blocks=())
    assert sums[Key("explained_displacement", FEATURES, 1.5)][0].isnan().all()
    assert sums[Key("explained_displacement", FEATURES, 0.5)][0].isfinite().all()
    assert functional_call(model, weights0, (x,)).isfinite().all()


def test_both_ends_by_hand(pair: tuple) -> None:
    """R2 at one half from either end, with Jacobians by reverse mode."""
    model, weights0, weights1, x, y = pair
    x, y = x[:1], y[:1]
    delta = displacement(weights0, weights1)
    sums = path_sums(model, weights0, weights1, x, y, alphas=(0.5,), blocks=())
    features = features_of(model, x)
    mid = features(shifted(weights0, delta, 0.5)).detach()
    for metric, weights, sign in (
        ("explained_displacement", weights0, 0.5),
        ("explained_displacement_end", weights1, -0.5),
    ):
        change = mid - features(weights).detach()
        slope = sign * line_slope(features, weights, delta)
        numerator, denominator = sums[Key(metric, FEATURES, 0.5)]
        assert_close(numerator, squared_norm(change - slope))
        assert_close(denominator, squared_norm(change))


def test_the_positions_do_not_depend_on_how_they_are_listed(pair: tuple) -> None:
    model, weights0, weights1, x, y = pair
    listed = path_sums(model, weights0, weights1, x, y, alphas=(1.5, 0.5, 0.5), blocks=())
    sorted_ = path_sums(model, weights0, weights1, x, y, alphas=(0.5, 1.0, 1.5), blocks=())
    assert list(listed) == list(sorted_)
    for key, both in listed.items():
        assert_close(both, sorted_[key])
    assert {k.at for k in listed if k.metric == "weight_accuracy"} == {0.0, 0.5, 1.0}
    from_the_end = {k.at for k in listed if k.metric == "explained_displacement_end"}
    assert from_the_end == {0.5, 1.0}


def test_decisions_of_the_linearised_network_by_hand(pair: tuple) -> None:
    model, weights0, weights1, x, y = pair
    after = plain(model, weights1, x)[1].argmax(1)
    y[:4] = after[:4]  # so that the fine-tuned network is right somewhere
    sums = path_sums(model, weights0, weights1, x, y, alphas=(), blocks=())
    delta = displacement(weights0, weights1)
    phi0 = plain(model, weights0, x)[0]
    change = line_slope(features_of(model, x), weights0, delta)
    head = weights1["fc.weight"], weights1["fc.bias"]
    linear = classify(*head, phi0 + change).argmax(1)
    before = classify(*head, phi0).argmax(1)
    assert_close(sums[Key("linear_accuracy")][0], linear.eq(y).double())
    assert_close(sums[Key("linear_agreement")][0], linear.eq(after).double())
    gain = sums[Key("linear_gain_share")]
    assert_close(gain[0], sums[Key("linear_accuracy")][0] - before.eq(y).double())
    assert_close(gain[1], after.eq(y).double() - before.eq(y).double())


def test_a_nearly_linear_move_keeps_the_whole_gain(pair: tuple) -> None:
    """The gain share compares the linearised and the fine-tuned network under one classifier."""
    model, weights0, weights1, x, _ = pair
    near = shifted(weights0, displacement(weights0, weights1), 1e-3)
    head = {n: torch.randn_like(weights0[n]) for n in ("fc.weight", "fc.bias")}
    y = plain(model, near | head, x)[1].argmax(1)  # the fine-tuned network is always right
    sums = path_sums(model, weights0, near | head, x, y, alphas=(), blocks=())
    numerator, denominator = sums[Key("linear_gain_share")]
    assert_close(numerator, denominator)
    assert_close(sums[Key("linear_agreement")][0], torch.ones(len(x)))
