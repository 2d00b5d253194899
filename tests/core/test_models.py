"""Tests for core/models.py, over families of timm."""

import pytest
import timm
import torch
from torch.nn import Module, ReLU, Sequential
from torch.testing import assert_close

from core.errors import InputError
from core.models import (
    capture,
    classifier,
    classifier_name,
    classify,
    create_model,
    features_and_logits,
    float_state,
    insert_before_classifier,
    residual_blocks,
    weight_groups,
)
from finetuning.noise import dropout

FAMILIES = {
    "glyphnet": 32,
    "test_byobnet": 64,
    "test_convnext": 64,
    "test_efficientnet": 64,
    "test_maxvit": 160,
    "test_mambaout": 64,
    "test_nfnet": 64,
    "test_resnet": 64,
    "test_vit": 160,
    "mobilenetv3_small_050": 64,
    "regnetx_002": 64,
    "vgg11": 32,
    "densenet121": 32,
}


def family(name: str) -> tuple[Module, torch.Tensor]:
    size = FAMILIES[name]
    return create_model(name, num_classes=5).eval(), torch.randn(2, 3, size, size)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_classifier_reads_phi_and_dropout_acts_exactly_between_the_two(name: str) -> None:
    model, x = family(name)
    head = classifier(model)
    features, logits = features_and_logits(model, x)

    assert_close(logits, model(x))
    assert_close(classify(head.weight, head.bias, features), logits)

    insert_before_classifier(model, dropout(0.75))
    assert_close(model(x), logits)  # evaluation mode: no noise
    head.train()  # the only part in training mode, so that nothing else is random
    read: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _, args: read.append(args[0].flatten(1)))
    noisy_features, noisy_logits = features_and_logits(model, x)
    kept = read[0] != 0
    assert_close(noisy_features, features)
    assert_close(read[0], torch.where(kept, features / 0.25, 0.0))
    assert 0 < kept.double().mean() < 0.6
    assert_close(noisy_logits, classify(head.weight, head.bias, read[0]))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "glyphnet"])
def test_drop_rate_of_timm_acts_at_the_same_place(name: str) -> None:
    model = create_model(name, num_classes=5, drop_rate=0.75).eval()
    x = torch.randn(2, 3, FAMILIES[name], FAMILIES[name])
    features, _ = features_and_logits(model, x)
    dropped = [m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p == 0.75]
    model.drop_rate = 0.75
    model.training = True  # F.dropout of the model itself; its children stay in evaluation mode
    for module in dropped:
        module.train()
    seen, _ = features_and_logits(model, x)

    kept = seen != 0
    assert_close(seen, torch.where(kept, features / 0.25, 0.0))
    assert not kept.all()


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_are_named_in_the_order_they_run(name: str) -> None:
    model, x = family(name)
    blocks, ran = residual_blocks(model), []
    for block in blocks:
        model.get_submodule(block).register_forward_hook(lambda *_, block=block: ran.append(block))
    model(x)

    assert len(blocks) >= 4
    assert ran == list(blocks)


@pytest.mark.parametrize("name", FAMILIES)
def test_weight_groups_are_a_partition(name: str) -> None:
    model, _ = family(name)
    grouped = [weight for members in weight_groups(model).values() for weight in members]

    assert sorted(grouped) == sorted(float_state(model))
    head = classifier_name(model)
    assert set(weight_groups(model)["classifier"]) == {f"{head}.weight", f"{head}.bias"}


def test_glyphnet_has_three_blocks_in_its_last_stage() -> None:
    blocks = residual_blocks(create_model("glyphnet", 10))
    assert [b for b in blocks if b.startswith("layer4")] == ["layer4.0", "layer4.1", "layer4.2"]


def test_what_is_captured_survives_an_in_place_activation() -> None:
    model = Sequential(torch.nn.Linear(3, 3), ReLU(inplace=True))
    x = torch.randn(4, 3)
    with capture(model, ["0"]) as seen:
        model(x)
    assert_close(seen["0"], model[0](x))
    assert (seen["0"] < 0).any()


def test_hooks_are_removed_however_the_block_ends() -> None:
    model = Sequential(torch.nn.Linear(3, 3))
    with pytest.raises(KeyError), capture(model, ["0"], inputs_of=["0"]):
        raise KeyError
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_a_wrong_name_is_answered_with_close_ones() -> None:
    with pytest.raises(InputError, match="'resnet5' is not a model .* resnet50"):
        create_model("resnet5", 10)


def test_wrong_arguments_and_two_classifiers_are_refused() -> None:
    with pytest.raises(InputError, match="does not take the arguments"):
        create_model("test_resnet", 10, no_such_argument=1)
    with pytest.raises(InputError, match="2 classifiers"):
        classifier_name(timm.create_model("levit_128s", num_classes=10))
