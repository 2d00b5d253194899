"""Tests for core/glyphs.py, core/glyphnet.py and the bundled weights."""

from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data.config import resolve_model_data_config
from torch import Generator, Tensor
from torch.nn import Linear
from torch.testing import assert_close

from core.checkpoints import read_metadata
from core.digits import CLASSES, SIZE
from core.glyphnet import WEIGHTS, GlyphNet
from core.glyphs import FONTS, GLYPHS, Recipe, Split, glyph_images, glyph_masks

RECIPES = get_args(Recipe)
SPLITS = get_args(Split)


drawn = cache(glyph_masks)  # in all fonts within a second, but not in every test


def renderings(split: Split, recipe: Recipe, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One image of every mask, in the pixel range of the network."""
    masks, labels = drawn(split)
    images = glyph_images(masks, recipe, Generator().manual_seed(seed))
    return images.to(torch.get_default_dtype()) * 2 - 1, labels


def network(name: str = "glyphnet", **kwargs: Any) -> GlyphNet:  # ruff: ignore[any-type]
    model = timm.create_model(name, **kwargs)
    assert isinstance(model, GlyphNet)
    return model.eval()


def pretrained(name: str) -> GlyphNet:
    return network(name, pretrained=True, num_classes=len(GLYPHS))


def test_no_class_is_a_digit_or_passes_for_one() -> None:
    assert not any(glyph.isnumeric() for glyph in GLYPHS)
    assert not set(GLYPHS) & {*CLASSES, *"OoIlSsZzBbqg|&§"}


def test_classes_are_forty_to_eighty_and_hold_no_twins() -> None:
    assert 40 <= len(GLYPHS) <= 80
    assert len(set(GLYPHS)) == len(GLYPHS)
    twins = {*"ckosuvwxzφψ"}
    assert not {g for g in GLYPHS if g in twins and g.upper() in GLYPHS}


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_is_drawn_in_fonts_that_have_it(split: Split) -> None:
    masks, labels = drawn(split)
    counts = torch.bincount(labels, minlength=len(GLYPHS))

    assert masks.dtype == torch.uint8 and masks.shape == (len(labels), 1, 48, 48)
    assert counts.min() >= 1 and counts.max() == len(FONTS[split])


def test_every_mask_fills_the_same_square() -> None:
    for box in ((mask[0] > 0).nonzero() for split in SPLITS for mask in drawn(split)[0]):
        extent = box.amax(0) - box.amin(0) + 1
        assert extent.max() == 28


def test_validation_shares_neither_fonts_nor_masks_with_training() -> None:
    train, validation = ({m.numpy().tobytes() for m in drawn(s)[0]} for s in SPLITS)

    assert not set(FONTS["train"]) & set(FONTS["validation"])
    assert not train & validation


@pytest.mark.parametrize("recipe", RECIPES)
def test_images_are_a_function_of_the_generator(recipe: Recipe) -> None:
    masks, _ = drawn("validation")
    first, again = (glyph_images(masks, recipe, Generator().manual_seed(1)) for _ in range(2))
    other = glyph_images(masks, recipe, Generator().manual_seed(2))

    assert first.shape == (len(masks), 3, SIZE, SIZE) and first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 1
    assert_close(first, again, rtol=0, atol=0)
    assert (first - other).abs().mean() > 0.01


def test_plain_images_are_dark_on_light_and_grey() -> None:
    images, _ = renderings("train", "plain")

    assert_close(images[:, 0], images[:, 1], rtol=0, atol=0)
    border = torch.cat([images[..., 0, :], images[..., -1, :]], -1).median(-1).values
    assert (images.amin((2, 3)) < border).all()


def test_rich_images_differ_from_one_another_in_colour() -> None:
    images, _ = renderings("train", "rich")

    assert images.mean((2, 3)).std(0).min() > 0.3
    assert (images[:, 0] - images[:, 1]).abs().mean() > 0.2


def test_network_is_a_small_resnet_of_known_shape() -> None:
    model = network(num_classes=10, drop_rate=0.5)
    x = torch.randn(2, 3, SIZE, SIZE)

    phi = model.forward_head(model.forward_features(x), pre_logits=True)

    assert phi.shape == (2, 512) and model.num_features == 512
    assert len(list(model.get_submodule("layer4").children())) == 3
    assert 6e5 <= sum(p.numel() for p in model.parameters()) <= 1.2e6
    assert isinstance(model.get_classifier(), Linear)


def test_drop_rate_acts_on_the_representation() -> None:
    model = network(num_classes=10, drop_rate=0.5)
    x = model.forward_features(torch.rand(1, 3, SIZE, SIZE))

    dropped = model.train().forward_head(x, pre_logits=True)

    assert 0.3 < (dropped == 0).double().mean() < 0.7
    kept = dropped != 0
    assert_close(dropped[kept], 2 * model.eval().forward_head(x, pre_logits=True)[kept])


def test_feature_maps_have_the_declared_reductions() -> None:
    model = network()

    _, maps = model.forward_intermediates(torch.randn(1, 3, SIZE, SIZE))

    assert [SIZE // m.shape[-1] for m in maps] == [i["reduction"] for i in model.feature_info]
    assert [m.shape[1] for m in maps] == [i["num_chs"] for i in model.feature_info]


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_small_half_precision_and_complete(name: str) -> None:
    assert WEIGHTS[name].stat().st_size <= 3e6
    state, recorded = load_file(WEIGHTS[name]), read_metadata(WEIGHTS[name])

    expected = network(num_classes=len(GLYPHS)).state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in expected.items()}
    assert {v.dtype for v in state.values()} == {torch.float16, torch.int64}
    assert recorded["recipe"] == name.removeprefix("glyphnet.")
    assert recorded["classes"] == "".join(GLYPHS)


@pytest.mark.parametrize(
    ("name", "recipe", "expected"),
    [
        ("glyphnet.plain", "plain", 0.95),
        ("glyphnet.rich", "plain", 0.95),
        ("glyphnet.rich", "rich", 0.85),
    ],
)
@torch.no_grad()
def test_weights_name_glyphs_in_fonts_they_were_not_trained_on(
    name: str, recipe: Recipe, expected: float
) -> None:
    images, labels = renderings("validation", recipe)

    accuracy = (pretrained(name)(images).argmax(1) == labels).double().mean()

    assert accuracy > expected


def test_another_number_of_classes_keeps_the_pretrained_features() -> None:
    ten = network("glyphnet.rich", pretrained=True, num_classes=10)
    x = torch.randn(2, 3, SIZE, SIZE)

    assert ten(x).shape == (2, 10)
    assert_close(ten.forward_features(x), pretrained("glyphnet.rich").forward_features(x))


def test_preprocessing_maps_bytes_to_minus_one_to_one() -> None:
    config = resolve_model_data_config(network("glyphnet.rich"))

    assert config["input_size"] == (3, SIZE, SIZE) and config["crop_pct"] == 1
    assert config["mean"] == config["std"] == (0.5, 0.5, 0.5)


def test_weights_lie_beside_their_model_card() -> None:
    assert all(Path(file).with_name("MODEL_CARD.md").is_file() for file in WEIGHTS.values())
