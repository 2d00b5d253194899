"""Tests for core/pooling.py: layouts by shape, and against timm's own intermediate features."""

import pytest
import torch
from torch import Tensor
from torch.nn import Identity, Module
from torch.testing import assert_close

from core.errors import InputError
from core.models import capture, create_model, residual_blocks
from core.pooling import Pooling, pool

# Image size in pixels by family: channels first and last, tokens with and without prefix.
FAMILIES = {
    "glyphnet": 32,
    "test_convnext": 96,
    "test_efficientnet": 64,
    "test_mambaout": 64,
    "test_resnet": 64,
    "test_maxvit": 160,
    "test_vit": 160,
    "test_vit3": 160,
    "test_vit_relpos": 160,
}
NUM_STAGES = {"glyphnet": 4, "test_resnet": 4, "test_maxvit": 4}
IMAGE = (224, 224)


def model_with(**attributes: object) -> Module:
    model = Identity()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_blocks_are_pooled_as_timm_itself_lays_them_out(name: str) -> None:
    """`forward_intermediates` returns N x D x H x W of every stage, without prefix tokens."""
    model, size = create_model(name, 5).eval(), FAMILIES[name]
    x = torch.randn(2, 3, size, size)
    blocks = residual_blocks(model)
    with capture(model, blocks) as seen:
        model(x)
    pooled = [pool(seen[block], model, (size, size)) for block in blocks]
    stages = model.forward_intermediates(x, intermediates_only=True, output_fmt="NCHW")  # type: ignore[operator]
    expected = [stage.mean((2, 3)) for stage in stages]
    # Where the first stage of `forward_intermediates` is the stem, it is no block.
    for stage in expected[-NUM_STAGES.get(name, len(expected)) :]:
        assert any(p.shape == stage.shape and torch.allclose(p, stage) for p in pooled)
    assert all(p.shape[0] == 2 and p.ndim == 2 for p in pooled)


@pytest.mark.parametrize("shape", [(2, 96, 7, 7), (2, 8, 7, 7), (2, 7, 14, 14), (2, 3, 1, 1)])
def test_channels_first(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert_close(pool(x, Identity(), IMAGE), x.flatten(2).mean(2))


@pytest.mark.parametrize("shape", [(2, 7, 7, 96), (2, 7, 7, 8), (2, 14, 14, 7), (2, 1, 1, 3)])
def test_channels_last(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert_close(pool(x, Identity(), IMAGE), x.flatten(1, 2).mean(1))


def test_as_many_channels_as_rows_follow_the_declared_layout() -> None:
    x = torch.randn(2, 8, 8, 8)
    assert_close(pool(x, Identity(), IMAGE), x.mean((2, 3)))
    assert_close(pool(x, model_with(output_fmt="NHWC"), IMAGE), x.mean((1, 2)))


def test_oblong_images_have_oblong_positions() -> None:
    x = torch.randn(2, 16, 8, 4)
    assert_close(pool(x, Identity(), (256, 128)), x.mean((2, 3)))
    assert_close(pool(x.permute(0, 2, 3, 1), Identity(), (256, 128)), x.mean((2, 3)))
    x = torch.randn(2, 48, 3, 2)  # 100 x 70 pixels, halved five times and rounded
    assert_close(pool(x, Identity(), (100, 70)), x.mean((2, 3)))


@pytest.mark.parametrize("num_prefix", [0, 1, 5])
def test_prefix_tokens_are_no_positions(num_prefix: int) -> None:
    x = torch.randn(2, num_prefix + 196, 24)
    model = model_with(num_prefix_tokens=num_prefix)
    assert_close(pool(x, model, IMAGE), x[:, num_prefix:].mean(1))
    moved = x.clone()
    moved[:, :num_prefix] += 1
    assert torch.equal(pool(moved, model, IMAGE), pool(x, model, IMAGE))


def test_blocks_before_the_class_token_is_added_have_only_positions() -> None:
    x = torch.randn(2, 196, 24)
    assert_close(pool(x, model_with(num_prefix_tokens=1), IMAGE), x.mean(1))


def test_order_of_positions_makes_no_difference() -> None:
    x = torch.randn(2, 16, 7, 7)
    permuted = x.flatten(2)[:, :, torch.randperm(49)].view_as(x)
    assert_close(pool(x, Identity(), IMAGE), pool(permuted, Identity(), IMAGE))


@pytest.mark.parametrize("pooling", ["avg", "token"])
def test_vectors_stay_as_they_are(pooling: Pooling) -> None:
    x = torch.randn(2, 24)
    assert pool(x, Identity(), IMAGE, pooling) is x


def test_the_class_token_on_request() -> None:
    x = torch.randn(2, 197, 24)
    model = model_with(num_prefix_tokens=1, cls_token=torch.zeros(1))
    assert torch.equal(pool(x, model, IMAGE, "token"), x[:, 0])


REFUSED: dict[str, tuple[Tensor, Pooling, str]] = {
    "windows": (torch.zeros(1, 16, 196, 96), "avg", "1 x 16 x 196 x 96 it cannot be told"),
    "neither": (torch.zeros(1, 8, 197, 19), "avg", "1 x 8 x 197 x 19 it cannot be told"),
    "tokens": (torch.zeros(2, 101, 24), "avg", "cannot be told which axes are positions"),
    "five axes": (torch.zeros(2, 3, 4, 4, 4), "avg", "2 x 3 x 4 x 4 x 4 it cannot be told"),
    "no class token": (torch.zeros(2, 8, 7, 7), "token", "holds no class token"),
    "registers": (torch.zeros(2, 196, 7), "token", "2 x 196 x 7 holds no class token"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_refused(case: str) -> None:
    output, pooling, expected = REFUSED[case]
    with pytest.raises(InputError, match=expected):
        pool(output, Identity(), IMAGE, pooling)
