"""Tests for probes/sums.py, probes/nulls.py and probes/memory.py."""

import pytest
import timm
import torch
from torch import Generator
from torch.func import functional_call
from torch.nn import Module
from torch.testing import assert_close

import core.glyphnet  # ruff: ignore[unused-import] - registers glyphnet
from core.errors import InputError
from core.models import classify, features_and_logits, float_state, weight_groups
from probes.memory import batch_size
from probes.nulls import permuted_displacement, random_displacement
from probes.sums import (
    FEATURES,
    LOGITS,
    Key,
    Sums,
    block_sums,
    curvature_sums,
    null_sums,
    path_sums,
)
from probes.taylor import Weights, displacement, shifted


@pytest.fixture
def pair() -> tuple[Module, Weights, Weights, torch.Tensor, torch.Tensor]:
    model = timm.create_model("glyphnet", num_classes=10).eval()
    weights0 = {n: w.clone() for n, w in float_state(model).items()}
    weights1 = {
        n: w + 0.05 * w.std(correction=0) * torch.randn_like(w) for n, w in weights0.items()
    }
    weights1 |= {n: w.abs() for n, w in weights1.items() if "running_var" in n}
    return model, weights0, weights1, torch.randn(6, 3, 32, 32), torch.arange(6)


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


def test_blocks_add_up(pair: tuple) -> None:
    model, weights0, weights1, x, _ = pair
    groups = weight_groups(model)
    sums = block_sums(model, weights0, weights1, x, groups)
    shares = [n / d for (metric, _, _), (n, d) in sums.items() if metric == "block_share"]
    assert len(shares) == len(groups) - 1  # the classifier does not move the features
    assert_close(torch.stack(shares).sum(0), torch.ones(len(x)))

    only = weights0 | {n: weights1[n] for n in groups["layer4.2"]}
    alone = block_sums(model, weights0, only, x, groups)
    assert {key.layer for key in alone} == {"layer4.2", ""}
    assert_close(alone[Key("block_interaction")][0], torch.zeros(len(x)), atol=1e-9, rtol=0)


def test_curvature_halves_with_the_step(pair: tuple) -> None:
    model, weights0, weights1, x, _ = pair
    half = shifted(weights0, displacement(weights0, weights1), 0.5)
    ratios = []
    for end in (weights1, half):
        numerator, denominator = curvature_sums(model, weights0, end, x)[
            Key("curvature_ratio", FEATURES)
        ]
        ratios.append((numerator.sum() / denominator.sum()).sqrt())
    assert_close(ratios[0] / ratios[1], torch.tensor(2.0))


def test_nulls_keep_norms_and_running_statistics(pair: tuple) -> None:
    model, weights0, weights1, *_ = pair
    delta = displacement(weights0, weights1)
    parameters = {n for n, _ in model.named_parameters()}
    for draw in (random_displacement, permuted_displacement):
        null = draw(delta, parameters, Generator().manual_seed(1))
        again = draw(delta, parameters, Generator().manual_seed(1))
        for name, d in delta.items():
            assert_close(null[name].norm(), d.norm())
            assert torch.equal(null[name], again[name])
            assert torch.equal(null[name], d) == (name not in parameters or d.norm() == 0)
    permuted = permuted_displacement(delta, parameters, Generator().manual_seed(1))
    weight = "layer4.2.conv2.weight"
    assert_close(permuted[weight].flatten().sort()[0], delta[weight].flatten().sort()[0])


def test_null_sums_are_pooled_over_the_draws(pair: tuple) -> None:
    model, weights0, weights1, x, _ = pair
    key = Key("random_explained_displacement", FEATURES, 1.0)
    one = null_sums(model, weights0, weights1, x, num_draws=1, seed=0)[key]
    two = null_sums(model, weights0, weights1, x, num_draws=2, seed=0)[key]
    assert (two[1] > one[1]).all()


def test_a_budget_decides_the_batch() -> None:
    model, x = timm.create_model("glyphnet", num_classes=10).eval(), torch.randn(1, 3, 32, 32)
    sizes = [batch_size(model, x, budget, 10**6) for budget in (10**8, 2 * 10**8, 4 * 10**8)]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert batch_size(model, x, 10**9, 16) == 16
    with pytest.raises(InputError, match="needs at least"):
        batch_size(model, x, 1000, 16)


def test_a_variance_turned_negative_is_not_a_number(pair: tuple) -> None:
    model, weights0, _, x, y = pair
    shrunk = weights0 | {n: 0.1 * w for n, w in weights0.items() if "running_var" in n}
    sums = path_sums(model, weights0, shrunk, x, y, alphas=(0.5, 1.5), blocks=())
    assert sums[Key("explained_displacement", FEATURES, 1.5)][0].isnan().all()
    assert sums[Key("explained_displacement", FEATURES, 0.5)][0].isfinite().all()
    assert functional_call(model, weights0, (x,)).isfinite().all()
