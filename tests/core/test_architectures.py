"""Tests for core/architectures.py."""

import pytest
import timm
import torch
from torch import Tensor

from core.architectures import backbone_shapes, find_architecture
from core.models import create_model


def meta_state(name: str, num_classes: int = 1000) -> dict[str, Tensor]:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=num_classes).state_dict()


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "convnext_atto", "mobilenetv2_035"])
def test_shapes_are_those_of_the_real_backbone(name: str) -> None:
    model = timm.create_model(name, num_classes=0)

    assert backbone_shapes(name) == {n: tuple(t.shape) for n, t in model.state_dict().items()}


def test_building_for_shapes_leaves_the_generator_alone() -> None:
    state = torch.get_rng_state()

    backbone_shapes("resnet18")

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("resnet50", "resnet18"),  # the same family
        ("vit_small_patch16_224", "vit_tiny_patch16_224"),
        ("resnet34", "test_vit"),  # another one
        ("convnext_tiny", "resnet18"),
        ("glyphnet", "resnet18"),  # registered by this project
    ],
)
def test_the_architecture_is_found(wanted: str, given: str) -> None:
    state = meta_state(wanted)

    found = find_architecture(state, create_model(given, 5), seconds=60)

    assert found is not None
    assert backbone_shapes(found) == backbone_shapes(wanted)


def test_a_name_in_the_hint_is_tried_first() -> None:
    state = meta_state("mobilenetv2_050")

    hint = "runs/mobilenetv2_050/final.safetensors"
    found = find_architecture(state, create_model("test_vit", 5), hint, seconds=0.0)

    assert found == "mobilenetv2_050"


def test_a_file_without_a_classifier_or_counters_is_recognised() -> None:
    state = {n: t for n, t in meta_state("resnet18", 0).items() if "num_batches" not in n}

    assert find_architecture(state, create_model("resnet34", 5), seconds=60) == "resnet18"


def test_a_missing_tensor_is_no_match() -> None:
    state = meta_state("resnet18")
    del state["layer3.0.conv1.weight"]

    assert find_architecture(state, create_model("resnet18", 5), seconds=1.0) is None


def test_names_that_no_network_has_are_given_up() -> None:
    assert (
        find_architecture({"x": torch.ones(2)}, create_model("test_vit", 5), seconds=0.5) is None
    )
