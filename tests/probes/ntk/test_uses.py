"""Tests for probes/ntk: every way in which a network may use a weight."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import InputError
from probes.ntk import empirical_ntk
from probes.ntk.sizes import CPU


class Net(nn.Module):
    """Layers and parameters that a function puts together."""

    def __init__(self, run: Callable, **members: object) -> None:
        super().__init__()
        self.run = run
        for name, member in members.items():
            value = nn.Parameter(member) if isinstance(member, Tensor) else member
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Case(NamedTuple):
    """A network and the shape of an example."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


def conv(**options: object) -> Case:
    layer = lambda: nn.Conv2d(4, 8, 3, **options)  # type: ignore[arg-type]
    return Case(lambda: nn.Sequential(layer(), nn.Tanh(), head(8)), (4, 7, 6))


def after_conv(layer: Callable[[], nn.Module]) -> Case:
    return Case(lambda: nn.Sequential(nn.Conv2d(2, 4, 3), layer(), nn.Tanh(), head(4)), (2, 6, 6))


def head(width: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 3))


def tokens(run: Callable, **members: Callable[[], object]) -> Case:
    """Five tokens of width four; what `run` returns is averaged over tokens."""
    return Case(lambda: Net(run, **{n: make() for n, make in members.items()}), (5, 4))


def randn(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(shape)


def linear() -> nn.Module:
    return nn.Linear(4, 4)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def with_token(m: Any, x: Tensor, token: Tensor) -> Tensor:  # ruff: ignore[any-type]
    return m.fc(torch.cat([token, m.embed(x)], 1).tanh()).tanh()[:, 0]


def written_over(m: Any, x: Tensor) -> Tensor:  # ruff: ignore[any-type]
    h = m.embed(x)
    y = m.fc(h.tanh())
    h.mul_(m.shift).relu_()
    return (h + y).mean(1)


def weight_norm() -> nn.Module:
    normed = nn.utils.parametrizations.weight_norm
    return nn.Sequential(normed(nn.Linear(4, 6)), nn.Tanh(), normed(nn.Linear(6, 3)))


def with_statistics(norm: nn.Module) -> nn.Module:
    norm.running_mean.normal_()  # type: ignore[operator]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[operator]
    return norm


def without(name: str, norm: nn.Module) -> nn.Module:
    setattr(norm, name, None)
    return with_statistics(norm)


def channels_last(groups: int) -> nn.Module:
    body = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=groups), nn.Tanh(), head(8))
    run = lambda m, x: m.body(x.to(memory_format=torch.channels_last))
    return Net(run, body=body)


def standardised(m: Any, x: Tensor) -> Tensor:  # ruff: ignore[any-type]
    w = m.conv.weight
    w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True) * m.gain
    return m.head(F.conv2d(x, w, m.conv.bias).tanh())


COVERED = {
    "groups": conv(groups=2),
    "depthwise": conv(groups=4),
    "dilation": conv(dilation=2),
    "stride": conv(stride=2, padding=1),
    "uneven": conv(stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False),
    "pointwise stride": Case(
        lambda: nn.Sequential(nn.Conv2d(4, 8, 1, stride=2), nn.Tanh(), head(8)), (4, 7, 6)
    ),
    "pointwise padded": Case(
        lambda: nn.Sequential(nn.Conv2d(4, 8, 1, padding=1), nn.Tanh(), head(8)), (4, 7, 6)
    ),
    "same": conv(padding="same", dilation=2),
    "same, uneven": Case(
        lambda: nn.Sequential(nn.Conv2d(4, 8, (3, 5), padding="same"), nn.Tanh(), head(8)),
        (4, 7, 6),
    ),
    "same, even": Case(
        lambda: nn.Sequential(nn.Conv2d(4, 8, (2, 4), padding="same"), nn.Tanh(), head(8)),
        (4, 7, 6),
    ),
    "valid": conv(padding="valid"),
    "channels last": Case(lambda: channels_last(groups=1), (4, 7, 6)),
    "channels last, groups": Case(lambda: channels_last(groups=2), (4, 7, 6)),
    "reflect": conv(padding=1, padding_mode="reflect"),
    "circular": conv(padding=1, padding_mode="circular", groups=2),
    "conv1d": Case(
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
            nn.Tanh(),
            nn.Conv1d(6, 5, 2, dilation=2),
            nn.Flatten(),
        ),
        (4, 9),
    ),
    "linear on tokens": tokens(
        lambda m, x: m.fc(m.embed(x).tanh()).mean(1), embed=linear, fc=linear
    ),
    "linear on four dimensions": Case(
        lambda: Net(lambda m, x: m.fc(x).tanh().sum((1, 2)), fc=nn.Linear(4, 3)), (2, 5, 4)
    ),
    "tied weights": Case(tied, (4,)),
    "called twice": tokens(lambda m, x: m.fc(m.fc(x).tanh()).mean(1), fc=linear),
    "positions without an example": tokens(
        lambda m, x: m.fc((x + m.positions).tanh()).mean(1), positions=randn(5, 4), fc=linear
    ),
    "expanded token": tokens(
        lambda m, x: with_token(m, x, m.token.expand(len(x), -1, -1)),
        token=randn(1, 1, 4),
        embed=linear,
        fc=linear,
    ),
    "repeated token": tokens(
        lambda m, x: with_token(m, x, m.token.repeat(len(x), 1, 1)),
        token=randn(1, 1, 4),
        embed=linear,
        fc=linear,
    ),
    "layer scale": tokens(
        lambda m, x: (x + m.fc(x) * m.scale + m.scale * m.embed(x)).tanh().mean(1),
        scale=randn(4),
        fc=linear,
        embed=linear,
    ),
    "scale and shift": tokens(
        lambda m, x: ((x - m.shift) / m.scale).tanh().mean(1),
        scale=lambda: torch.rand(4) + 1,
        shift=randn(4),
    ),
    "scaled in place": tokens(
        lambda m, x: m.fc(x).mul_(m.scale).add_(m.shift).tanh().mean(1),
        fc=linear,
        scale=randn(4),
        shift=randn(5, 4),
    ),
    "matrix": tokens(lambda m, x: (x @ m.p).tanh().mean(1), p=randn(4, 3)),
    "batch norm": after_conv(lambda: with_statistics(nn.BatchNorm2d(4))),
    "batch norm that only shifts": after_conv(lambda: without("weight", nn.BatchNorm2d(4))),
    "batch norm that only scales": after_conv(lambda: without("bias", nn.BatchNorm2d(4))),
    "batch norm without either": after_conv(
        lambda: with_statistics(nn.BatchNorm2d(4, affine=False))
    ),
    "batch norm of vectors": Case(
        lambda: nn.Sequential(nn.Linear(4, 5), with_statistics(nn.BatchNorm1d(5)), nn.Tanh()), (4,)
    ),
    "batch norm along one dimension": tokens(
        lambda m, x: m.norm(m.fc(x)).tanh().mean(1),
        fc=linear,
        norm=lambda: with_statistics(nn.BatchNorm1d(5)),
    ),
    "batch norm twice": tokens(
        lambda m, x: m.norm(m.norm(m.fc(x)).tanh()).mean(1),
        fc=linear,
        norm=lambda: with_statistics(nn.BatchNorm1d(5)),
    ),
    "group norm": after_conv(lambda: nn.GroupNorm(2, 4)),
    "layer norm": after_conv(lambda: nn.LayerNorm((4, 4, 4))),
    "instance norm": after_conv(lambda: nn.GroupNorm(4, 4)),
    "rms norm": tokens(
        lambda m, x: m.norm(m.fc(x)).tanh().mean(1), fc=linear, norm=lambda: nn.RMSNorm(4)
    ),
    "in-place relu": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.ReLU(True), head(4)
        ),
        (2, 6, 6),
    ),
    "written over": tokens(written_over, embed=linear, fc=linear, shift=randn(4)),
    "weight norm": Case(weight_norm, (4,)),
    "standardised": Case(
        lambda: Net(
            standardised, conv=nn.Conv2d(4, 6, 3), gain=torch.randn(6, 1, 1, 1), head=head(6)
        ),
        (4, 6, 6),
    ),
    "windows of tokens": tokens(
        lambda m, x: m.fc(m.embed(x).reshape(-1, 4).tanh()).view(len(x), -1, 4).mean(1),
        embed=linear,
        fc=linear,
    ),
    "unused weight": tokens(lambda m, x: m.fc(x).mean(1), fc=linear, p=randn(4)),
}

# How these are computed may change, what comes out may not.
EITHER = {
    "attention of weights, masked": tokens(
        lambda m, x: F.scaled_dot_product_attention(
            m.query, x, m.fc(x), torch.tensor([True, False, True, True, False])
        ).mean(1),
        query=randn(1, 2, 4),
        fc=linear,
    ),
    "in place on a linear layer's tokens": tokens(
        lambda m, x: m.fc(m.embed(x).tanh()).add_(m.shift).relu_().mean(1),
        embed=linear,
        fc=linear,
        shift=randn(4),
    ),
    "lstm": tokens(lambda m, x: m.cell(x)[0][:, -1], cell=lambda: nn.LSTM(4, 3, batch_first=True)),
    "weight repeated by data": tokens(
        lambda m, x: (m.p.expand(len(x), 5, 4) * x).tanh().sum(1), p=randn(5, 4)
    ),
    "stacked weights": tokens(
        lambda m, x: (x @ torch.stack([m.p, m.q], 1)).tanh().mean(1), p=randn(4), q=randn(4)
    ),
    "weighted sum": tokens(
        lambda m, x: torch.add(x, m.p, alpha=2).tanh().mean(1) + (m.p - x.mean(1)), p=randn(4)
    ),
    "weight divided by data": tokens(
        lambda m, x: (m.p / (x.square() + 1)).tanh().mean(1), p=randn(4)
    ),
    "turned batch": tokens(lambda m, x: m.fc(x.flip(0)).tanh().flip(0).mean(1), fc=linear),
    "temperature": tokens(lambda m, x: m.p.exp() * x.mean(1).tanh(), p=randn(1)),
}

DENSE = {
    "conv3d": Case(lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.Flatten()), (2, 3, 3, 3)),
    "transposed conv": Case(
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Flatten()), (2, 2, 2)
    ),
    "power": tokens(
        lambda m, x: (x.square() + 1).pow(m.p).mean(1) + m.fc(x).mean(1), p=randn(4), fc=linear
    ),
    "where": tokens(lambda m, x: torch.where(x > 0, x, m.p).square().mean(1), p=randn(4)),
    "solve": tokens(
        lambda m, x: torch.linalg.solve(m.p, x.transpose(1, 2)).mean(2).tanh(), p=randn(4, 4)
    ),
    "einsum": tokens(lambda m, x: torch.einsum("ntd,de->ne", x, m.p).tanh(), p=randn(4, 3)),
    "prelu": tokens(lambda m, x: m.act(m.fc(x)).mean(1), fc=linear, act=nn.PReLU),
    "bilinear": tokens(lambda m, x: m.b(x, x).mean(1), b=lambda: nn.Bilinear(4, 4, 3)),
    "matrix on the left": tokens(lambda m, x: (m.p @ x).tanh().mean(1), p=randn(3, 5)),
    "tokens first": tokens(
        lambda m, x: m.fc(m.embed(x.transpose(0, 1)).tanh()).mean(0), embed=linear, fc=linear
    ),
    "an even number of tokens first": tokens(
        lambda m, x: m.fc((x[:, :4].transpose(0, 1) * m.p).tanh()).mean(0), p=randn(4), fc=linear
    ),
    "tokens first, flat": tokens(
        lambda m, x: m.fc(x.transpose(0, 1).reshape(-1, 4)).view(5, -1, 4).tanh().mean(0),
        fc=linear,
    ),
    "norm with tokens first": tokens(
        lambda m, x: m.norm(x[:, :4].transpose(0, 1)).tanh().mean(0), norm=lambda: nn.LayerNorm(4)
    ),
    "transformer": Case(
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(20, 3)
        ),
        (5, 4),
    ),
    "attention with tokens first": tokens(
        lambda m, x: m.attention(*[x.transpose(0, 1)] * 3)[0].mean(0),
        attention=lambda: nn.MultiheadAttention(4, 2, batch_first=False),
    ),
}


def check(case: Case, num: int, method: str = "auto") -> None:
    model = case.build().eval()
    params = dict(model.named_parameters())
    x = torch.randn(num, *case.shape)
    truth = empirical_ntk(model, params, x, method="reference")
    assert isinstance(truth, Tensor)
    for others, rows in ((None, slice(0, num)), (x, slice(2, 4))):
        for outputs, equation in (("full", "ncmd->ncmd"), ("trace", "ncmc->nm")):
            found = empirical_ntk(
                model,
                params,
                x[rows],
                others,
                outputs=outputs,  # type: ignore[arg-type]
                method=method,  # type: ignore[arg-type]
            )
            assert isinstance(found, Tensor)
            expected = torch.einsum(equation, truth)[rows]
            assert (found - expected).norm() < 1e-10 * expected.norm()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", COVERED)
def test_what_has_a_rule(name: str) -> None:
    check(COVERED[name], 4, "structured")


@pytest.mark.parametrize("name", EITHER)
def test_what_may_have_a_rule_is_right(name: str) -> None:
    check(EITHER[name], 4)


@pytest.mark.parametrize("name", DENSE)
def test_what_has_no_rule_is_found_and_right(name: str) -> None:
    check(DENSE[name], 4)
    with pytest.raises(InputError, match="structured method does not know how"):
        check(DENSE[name], 4, "structured")


@pytest.mark.parametrize("name", ["dilation", "depthwise", "channels last, groups"])
def test_patches_a_few_examples_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.ntk.uses.sizes", lambda _: replace(CPU, patches=1))
    check(COVERED[name], 4, "structured")
