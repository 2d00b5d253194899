"""Tests for core/models.py, over families of timm."""

import pytest
import torch
from torch import Tensor
from torch.nn import Dropout, Linear, Module, ModuleList, ReLU, Sequential
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

# Image size in pixels by model; with the project's own network fourteen families.
FAMILIES = {
    "glyphnet": 32,
    "test_byobnet": 64,
    "test_coatnet": 160,
    "test_convnext": 64,
    "test_efficientnet": 64,
    "test_maxvit": 160,
    "test_mambaout": 64,
    "test_nfnet": 64,
    "test_resnet": 64,
    "test_vit": 160,
    "mobilenetv3_small_100": 64,
    "regnetx_002": 64,
    "vgg11": 32,  # no residual blocks: its layers
    "densenet121": 32,
}
ARGUMENTS = {"vgg11": {"mlp_ratio": 0.01}}  # of its 133 M parameters, 9 M


def family(name: str, **kwargs: object) -> tuple[Module, torch.Tensor]:
    size = FAMILIES[name]
    model = create_model(name, 5, **ARGUMENTS.get(name, {}), **kwargs)
    return model.eval(), torch.randn(2, 3, size, size)


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


# vgg11 also drops inside the two layers before its classifier.
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "vgg11"])
@torch.no_grad()
def test_drop_rate_of_timm_acts_at_the_same_place(name: str) -> None:
    model, x = family(name, drop_rate=0.75)
    features, _ = features_and_logits(model, x)
    # Where timm drops: in the model's own forward or in a Dropout before its classifier.
    for module in (model, *model.modules()):
        module.training = module is model or isinstance(module, Dropout)
    read, logits = features_and_logits(model, x)

    kept = read != 0
    head = classifier(model)
    assert_close(read, torch.where(kept, features / 0.25, 0.0))
    assert 0 < kept.double().mean() < 0.6
    assert_close(logits, classify(head.weight, head.bias, read))


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_are_named_in_the_order_they_run(name: str) -> None:
    model, x = family(name)
    blocks, ran = residual_blocks(model), []
    for block in blocks:
        model.get_submodule(block).register_forward_hook(lambda *_, block=block: ran.append(block))
    model(x)

    assert len(blocks) >= 4
    assert ran == list(blocks)


# Families that do not say how they divide: image size and number of blocks.
UNDIVIDED = {
    "cait_xxs24_224": (224, 26),
    "caformer_s18": (64, 18),
    "coat_tiny": (224, 14),
    "csatv2": (512, 5),
    "pit_ti_224": (224, 12),
    "inception_v3": (96, 16),
    "hrnet_w18_small": (64, 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNDIVIDED)
@torch.no_grad()
def test_families_that_do_not_divide_themselves_have_blocks_that_hooks_see(name: str) -> None:
    size, num_blocks = UNDIVIDED[name]
    model = create_model(name, 5).eval()
    blocks = residual_blocks(model)
    with capture(model, blocks) as seen:
        model(torch.randn(1, 3, size, size))
    assert set(seen) == set(blocks)
    assert len(blocks) == num_blocks
    grouped = [weight for members in weight_groups(model).values() for weight in members]
    assert sorted(grouped) == sorted(float_state(model))


def test_blocks_by_another_name_are_found_without_the_lists_that_nobody_calls() -> None:
    class Grouped(Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage1 = Sequential(Linear(2, 2), Linear(2, 2))
            self.transition1 = ModuleList([Linear(2, 2)])
            self.num_classes, self.fc = 2, Linear(2, 2)

        def get_classifier(self) -> Linear:
            return self.fc

        def group_matcher(self, *, coarse: bool) -> dict[str, list[tuple]]:
            assert not coarse
            rules = [(r"^stage(\d+)\.(\d+)", None), (r"^transition(\d+)", (99999,))]
            return {"block_types": rules}

    assert residual_blocks(Grouped()) == ("stage1.0", "stage1.1")


def test_a_layer_that_is_not_called_is_a_sentence() -> None:
    class Inner(Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.part.forward(x)  # past the hooks

    model, message = Inner(), "Inner does not call part as a whole"
    with pytest.raises(InputError, match=message), capture(model, ["part"]):
        model(torch.zeros(1, 2))


def test_blocks_of_a_network_that_does_not_divide_itself() -> None:
    class Plain(Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = Linear(2, 2)
            self.serial_blocks1 = ModuleList([Linear(2, 2), Sequential(Linear(2, 2))])
            self.num_classes, self.fc = 2, Linear(2, 2)

        def get_classifier(self) -> Linear:
            return self.fc

    model = Plain()
    assert residual_blocks(model) == ("serial_blocks1.0", "serial_blocks1.1")
    model.lists = ModuleList([Linear(2, 2), ReLU(), Linear(2, 2)])
    model.stages = Sequential(Sequential(Linear(2, 2), Linear(2, 2)), Sequential(Linear(2, 2)))
    del model.serial_blocks1
    assert residual_blocks(model) == ("stem", "lists.0", "lists.2", "stages.0", "stages.1")


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
    model = Sequential(Linear(3, 3), ReLU(inplace=True))
    x = torch.randn(4, 3)
    with capture(model, ["0"]) as seen:
        model(x)
    assert_close(seen["0"], model[0](x))
    assert (seen["0"] < 0).any()


def test_hooks_are_removed_however_the_block_ends() -> None:
    model = Sequential(Linear(3, 3))
    with pytest.raises(KeyError), capture(model, ["0"], inputs_of=["0"]):
        raise KeyError
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_a_wrong_name_is_answered_with_close_ones() -> None:
    with pytest.raises(InputError, match=r"'resnet5' is not a model .* resnet50"):
        create_model("resnet5", 10)


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("test_resnet", {"wings": 2}, r"does not take the arguments \{'wings': 2\}"),
        ("test_resnet", {"block": "x"}, "does not take the arguments"),
        ("test_vit", {"img_size": -3}, "does not take the arguments .*positive image size"),
        ("resnet18.mine", {}, r"Invalid pretrained tag \(mine\).*list_models\('resnet18\*'"),
        ("test_vit", {"num_classes": 9}, "num_classes are set by the images"),
        ("test_vit", {"pretrained": True}, "pretrained are set by the images and --pretrained"),
    ],
)
def test_what_timm_cannot_build_is_refused_in_one_sentence(
    name: str, kwargs: dict, expected: str
) -> None:
    with pytest.raises(InputError, match=expected) as info:
        create_model(name, 10, **kwargs)
    assert "\n" not in str(info.value)


def test_weights_that_cannot_be_fetched_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network\nand more lines")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    expected = "weights of 'test_vit' cannot be fetched.*checkpoint"
    with pytest.raises(InputError, match=expected) as info:
        create_model("test_vit", 10, True)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("name", "num_classes", "found"),
    [("levit_128s", 10, 2), ("deit_tiny_distilled_patch16_224", 10, 2), ("resnet18", 0, 0)],
)
def test_exactly_one_classifier_is_expected(name: str, num_classes: int, found: int) -> None:
    with pytest.raises(InputError, match=f"has {found} classifiers"):
        create_model(name, num_classes)


def test_groups_follow_the_network_from_stem_to_classifier() -> None:
    model = create_model("glyphnet", 10)
    groups = weight_groups(model)

    assert tuple(groups) == ("stem", *residual_blocks(model), "classifier")
    assert groups["stem"][0] == "conv1.0.weight"
    assert "layer1.0.bn1.running_var" in groups["layer1.0"]
    assert "neck" in weight_groups(create_model("test_vit", 10))  # its last norm


def test_the_float_state_leaves_counters_out_and_is_detached() -> None:
    model = create_model("glyphnet", 10)
    state = float_state(model)

    counters = {name for name in model.state_dict() if name.endswith("num_batches_tracked")}
    assert counters and set(model.state_dict()) - set(state) == counters
    assert not any(tensor.requires_grad for tensor in state.values())


def test_of_several_outputs_the_first_is_captured() -> None:
    class Pair(Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
            return 2 * x, 7

    model, x = Sequential(Pair()), torch.randn(3)
    with capture(model, ["0"], inputs_of=["0"]) as seen:
        model(x)
        assert_close(seen["0"], 2 * x)


def test_hooks_go_when_a_forward_pass_fails() -> None:
    model = create_model("test_resnet", 5)
    with pytest.raises(RuntimeError):
        features_and_logits(model, torch.randn(2, 7, 32, 32))

    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
