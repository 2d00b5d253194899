"""Tests for finetuning/placement.py."""

from collections.abc import Sequence

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.testing import assert_close

from core.models import capture, residual_blocks
from finetuning.noise import Noise, dropout, feature_noise
from finetuning.placement import Placement, insert_noise, stage_ends

# Maps with channels first and last, tokens, and a classifier that is a convolution.
SIZES = {
    "test_resnet": 32,
    "test_vit": 160,
    "test_convnext": 32,
    "test_mambaout": 32,
    "mobilenetv3_small_050": 32,
}


def training(model: Module) -> Module:
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def network(name: str) -> tuple[Module, Tensor]:
    model = timm.create_model(name, num_classes=3).eval()
    return model, torch.randn(3, 3, SIZES[name], SIZES[name])


@pytest.mark.parametrize("placement", ["head", "stages", "blocks"])
@pytest.mark.parametrize("name", SIZES)
def test_there_is_noise_in_training_mode_only(name: str, placement: Placement) -> None:
    model, x = network(name)
    plain = model(x)
    insert_noise(model, dropout(0.5), placement)
    assert torch.equal(model(x), plain)

    training(model)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), plain)


def ratios(model: Module, x: Tensor, names: Sequence[str], noise: Noise, tied: bool) -> list:
    """By which numbers the noise multiplied what each block returned."""
    with capture(model, names) as before:  # its hooks come before those of the noise
        insert_noise(model, noise, "blocks", tied=tied)
        with capture(model, names) as after:
            training(model)(x)
    return [after[name] / before[name] for name in names]


@pytest.mark.parametrize(
    ("name", "spatial"), [("test_resnet", (2, 3)), ("test_vit", (1,)), ("test_mambaout", (1, 2))]
)
def test_whole_channels_are_dropped(name: str, spatial: tuple[int, ...]) -> None:
    model, x = network(name)
    blocks = residual_blocks(model)
    for ratio in ratios(model, x, blocks, dropout(0.5), tied=False):
        seen = ratio.nanmean(spatial, keepdim=True)  # 0 / 0 where a ReLU gave nothing
        expected = seen.expand_as(ratio)
        assert_close(ratio[~ratio.isnan()], expected[~ratio.isnan()])
        assert_close(seen[~seen.isnan()].unique(), torch.tensor([0.0, 2.0]))


def masks(model: Module, x: Tensor, *, tied: bool) -> list[Tensor]:
    """The multipliers that each place has drawn in one pass."""
    drawn: list[Tensor] = []

    def noise(ones: Tensor) -> Tensor:
        drawn.append(dropout(0.5)(ones))
        return drawn[-1]

    insert_noise(model, noise, "blocks", tied=tied)
    training(model)(x)
    return drawn


def test_tied_blocks_of_equal_width_share_a_draw_that_lasts_one_pass() -> None:
    model, x = network("test_vit")
    drawn = masks(model, x, tied=True)
    model(x)

    assert len(residual_blocks(model)) > 1
    assert len(drawn) == 2  # one draw a pass
    assert not torch.equal(*drawn)
    names = residual_blocks(model)
    first, last = ratios(model := network("test_vit")[0], x, names, dropout(0.5), tied=True)[::5]
    assert_close(first, last)


def test_untied_blocks_draw_for_themselves_and_other_widths_do_anyway() -> None:
    model, x = network("test_vit")
    drawn = masks(model, x, tied=False)
    assert len(drawn) == len(residual_blocks(model))
    assert not torch.equal(drawn[0], drawn[1])

    model, x = network("test_resnet")
    widths = [mask.shape[1] for mask in masks(model, x, tied=True)]
    assert len(widths) == len(set(widths)) == 4


def test_the_mean_of_a_linear_network_is_kept_wherever_the_noise_is() -> None:
    model = Linearised()
    x = torch.randn(2, 3, 4, 4)
    plain = model(x)
    noise = feature_noise("masksembles", 0.5)
    insert_noise(model, noise, "blocks")
    model.train()
    draws = torch.stack([model(x) for _ in range(1_000)])

    error = draws.std(0) / 1_000**0.5
    assert ((draws.mean(0) - plain).abs() <= 5 * error).all() and (error > 0).all()


class Linearised(Module):
    """Two linear layers that `residual_blocks` finds, and a classifier."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 1))
        self.head = torch.nn.Linear(8, 2)

    def get_classifier(self) -> Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


def test_stages_end_where_the_parent_changes() -> None:
    names = ("stages.0.blocks.0", "stages.0.blocks.1", "stages.1.blocks.0")
    assert stage_ends(names) == ("stages.0.blocks.1", "stages.1.blocks.0")
    assert stage_ends(("blocks.0", "blocks.1", "blocks.2")) == ("blocks.2",)
    assert stage_ends(residual_blocks(timm.create_model("resnet18"))) == (
        *("layer1.1", "layer2.1", "layer3.1", "layer4.1"),
    )
