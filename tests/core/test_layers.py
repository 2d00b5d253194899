"""Tests for core/layers.py, over families of timm."""

import pytest
import torch
from torch.testing import assert_close

from core.errors import InputError
from core.layers import BLOCKS, FEATURES, LOGITS, chosen_layers, layer_outputs
from core.models import classifier, classify, create_model, residual_blocks

FAMILIES = {
    "glyphnet": 32,
    "test_convnext": 64,
    "test_efficientnet": 64,
    "test_mambaout": 64,
    "test_resnet": 64,
    "test_vit": 160,
    "mobilenetv3_small_050": 64,  # its classifier reads a hidden layer behind the pooling
}


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_features_are_what_timm_gives_before_its_classifier(name: str) -> None:
    model, size = create_model(name, 5).eval(), FAMILIES[name]
    x = torch.randn(2, 3, size, size)
    outputs = layer_outputs(model, x, [FEATURES, LOGITS])

    phi = model.forward_head(model.forward_features(x), pre_logits=True)  # type: ignore[operator]
    assert torch.equal(outputs[FEATURES], phi)
    assert torch.equal(outputs[LOGITS], model(x))
    head = classifier(model)
    assert_close(classify(head.weight, head.bias, outputs[FEATURES]), outputs[LOGITS])


@torch.no_grad()
def test_a_block_is_a_forward_pass_up_to_it() -> None:
    model, x = create_model("test_vit", 5).eval(), torch.randn(2, 3, 160, 160)
    outputs = layer_outputs(model, x, ["blocks.1", FEATURES])

    tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))  # type: ignore[operator]
    tokens = model.blocks[:2](tokens)  # type: ignore[index, operator]
    assert torch.equal(outputs["blocks.1"], tokens[:, 1:].mean(1))
    assert list(outputs) == ["blocks.1", FEATURES]
    token = layer_outputs(model, x, ["blocks.1"], "token")["blocks.1"]
    assert torch.equal(token, tokens[:, 0])


def test_one_example_does_not_depend_on_the_others() -> None:
    model, x = create_model("glyphnet", 5).eval(), torch.randn(4, 3, 32, 32)
    layers = chosen_layers(model, [FEATURES, BLOCKS])
    whole, half = layer_outputs(model, x, layers), layer_outputs(model, x[2:], layers)
    for layer in layers:
        assert_close(whole[layer][2:], half[layer])


def test_layers_are_chosen_in_order_and_once() -> None:
    model = create_model("test_resnet", 5)
    blocks = residual_blocks(model)
    assert chosen_layers(model, [LOGITS, "layer2.0", BLOCKS, LOGITS]) == (
        LOGITS,
        "layer2.0",
        *(block for block in blocks if block != "layer2.0"),
    )


def test_a_layer_that_does_not_exist_is_refused_with_those_that_do() -> None:
    model = create_model("test_resnet", 5)
    with pytest.raises(InputError) as error:
        chosen_layers(model, [FEATURES, "layer9"])
    sentence = str(error.value)
    for word in ("'layer9'", "ResNet", FEATURES, LOGITS, BLOCKS, *residual_blocks(model)):
        assert word in sentence
    with pytest.raises(InputError, match="--layers is empty"):
        chosen_layers(model, [])


def test_a_layer_that_cannot_be_pooled_is_named() -> None:
    model, x = create_model("test_resnet", 5).eval(), torch.zeros(1, 3, 64, 64)
    with pytest.raises(InputError, match="layer 'layer2.0' of ResNet: .*--pooling avg"):
        layer_outputs(model, x, ["layer2.0"], "token")
