"""Tests for the curvature, the blocks and the nulls of probes/sums.py."""

import torch
from torch import Generator, Tensor
from torch.nn import Linear, Module
from torch.testing import assert_close

from core.linearization import Weights, displacement, shifted
from core.models import float_state, weight_groups
from probes.nulls import permuted_displacement, random_displacement
from probes.sums import (
    FEATURES,
    LOGITS,
    Key,
    block_sums,
    curvature_sums,
    null_sums,
    path_sums,
    squared_norm,
)
from tests.models import features_of
from tests.oracles import dense_change, line_derivatives, line_slope


class TwoBranches(Module):
    """Features that are the sum of what two blocks make of the input."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.fc = Linear(5, 4), Linear(5, 4), Linear(4, 3)

    def get_classifier(self) -> Module:
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.one(x).tanh() + self.two(x).tanh())


def branches() -> tuple[Module, Weights, Weights, Tensor]:
    model = TwoBranches()
    weights0 = {n: w.clone() for n, w in float_state(model).items()}
    weights1 = {n: w + torch.randn_like(w) for n, w in weights0.items()}
    return model, weights0, weights1, torch.randn(7, 5)


class Tied(TwoBranches):
    """The second block is the first one, under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.two = self.one


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


def test_the_curvature_by_hand() -> None:
    model, weights0, weights1, x = branches()
    sums = curvature_sums(model, weights0, weights1, x)
    first, second = line_derivatives(
        features_of(model, x), weights0, displacement(weights0, weights1)
    )
    numerator, denominator = sums[Key("curvature_ratio", FEATURES)]
    assert_close(numerator, squared_norm(second) / 4)
    assert_close(denominator, squared_norm(first))


def test_blocks_that_act_on_their_own_do_not_interact() -> None:
    model, weights0, weights1, x = branches()
    groups = {g: [n for n in weights0 if n.startswith(g)] for g in ("one", "two")}
    sums = block_sums(model, weights0, weights1, x, groups | {"classifier": ["fc.weight"]})
    left_over, change = sums[Key("block_interaction")]
    assert_close(left_over, torch.zeros(7), rtol=0, atol=1e-12)
    assert (change > 0.1).all()
    for group, names in groups.items():
        delta = {n: weights1[n] - weights0[n] for n in names}
        linear = dense_change(features_of(model, x), weights0, delta)
        assert_close(sums[Key("block_share", group)][0], squared_norm(linear))


def test_first_order_parts_of_the_blocks_add_up_to_the_whole(pair: tuple) -> None:
    model, weights0, weights1, x, _ = pair
    delta, features = displacement(weights0, weights1), features_of(model, x[:1])
    groups = {g: names for g, names in weight_groups(model).items() if g != "classifier"}
    parts = [
        line_slope(features, weights0, {n: delta[n] for n in names}) for names in groups.values()
    ]
    assert_close(torch.stack(parts).sum(0), line_slope(features, weights0, delta))
    sums = block_sums(model, weights0, weights1, x[:1], weight_groups(model))
    for group, part in zip(groups, parts, strict=True):
        assert_close(sums[Key("block_share", group)][0], squared_norm(part))


def test_a_move_of_the_classifier_alone_leaves_the_features(pair: tuple) -> None:
    model, weights0, weights1, x, _ = pair
    head = weights0 | {n: weights1[n] + 1 for n in ("fc.weight", "fc.bias")}
    sums = block_sums(model, weights0, head, x, weight_groups(model))
    assert list(sums) == [Key("block_interaction")]
    assert sums[Key("block_interaction")][1].count_nonzero() == 0
    curved, slope = curvature_sums(model, weights0, head, x)[Key("curvature_ratio", LOGITS)]
    assert curved.count_nonzero() == 0
    assert (slope > 0).all()


def test_null_sums_add_up_over_the_draws(pair: tuple) -> None:
    model, weights0, weights1, x, _ = pair
    delta, generator = displacement(weights0, weights1), Generator().manual_seed(7)
    parameters = {n for n, _ in model.named_parameters()}
    found = null_sums(model, weights0, weights1, x[:1], num_draws=2, seed=7)
    for name, draw in {"random": random_displacement, "permuted": permuted_displacement}.items():
        generator = Generator().manual_seed(7)
        nulls = [draw(delta, parameters, generator) for _ in range(2)]
        alone = [
            path_sums(
                model,
                weights0,
                shifted(weights0, null),
                x[:1],
                torch.zeros(1).long(),
                alphas=(),
                blocks=(),
            )[Key("explained_displacement", FEATURES, 1.0)]
            for null in nulls
        ]
        both = found[Key(f"{name}_explained_displacement", FEATURES, 1.0)]
        assert_close(both, tuple(torch.stack(part).sum(0) for part in zip(*alone, strict=True)))


def test_weights_that_are_used_twice_move_together() -> None:
    model, x = Tied(), torch.randn(7, 5)
    weights0 = {n: w.clone() for n, w in float_state(model).items()}
    moved = {n: torch.randn_like(w) for n, w in weights0.items() if not n.startswith("two")}
    weights1 = shifted(weights0, moved | {n.replace("one", "two"): d for n, d in moved.items()})
    assert {"one.weight", "two.weight"} < set(weights0)
    y = torch.zeros(7).long()
    sums = path_sums(model, weights0, weights1, x, y, alphas=(), blocks=())
    once = lambda weight, bias: 2 * (x @ weight.T + bias).tanh()
    names = ("one.weight", "one.bias")
    ends = [tuple(w[n] for n in names) for w in (weights0, weights1)]
    slope = torch.func.jvp(once, ends[0], tuple(moved[n] for n in names))[1]
    change = once(*ends[1]) - once(*ends[0])
    found = sums[Key("explained_displacement", FEATURES, 1.0)]
    assert_close(found, (squared_norm(change - slope), squared_norm(change)))
