"""Tests for core/checkpoints.py."""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Dropout, Identity, Linear, Module, Sequential
from torch.testing import assert_close
from torchvision.models.resnet import BasicBlock, ResNet

from core.checkpoints import load_checkpoint, read_metadata, save_state_dict
from core.errors import InputError
from core.models import create_model

WEIGHTS = Path(__file__).parents[2] / "../shared/data/weights"


def saved(contents: object, path: Path) -> Path:
    torch.save(contents, path)
    return path


def snapshot(model: Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_untouched(model: Module, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def assert_same_outputs(model: Module, other: Module, size: int = 32) -> None:
    x = torch.randn(2, 3, size, size)
    assert_close(model.eval()(x), other.eval()(x))


def with_statistics(model: Module) -> Module:
    """Running statistics and biases that are not the initial ones."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return model


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_mambaout"])
def test_a_run_of_ours_comes_back_exactly(tmp_path: Path, name: str) -> None:
    source, model = (create_model(name, 5) for _ in range(2))
    path = tmp_path / "final.safetensors"
    save_state_dict(source.state_dict(), path, {"model": name})

    report = load_checkpoint(model, path)

    assert_untouched(model, source.state_dict())
    assert report.path == path
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.num_loaded == len(source.state_dict())
    assert report.classifier_set_aside is None and report.notes == ()
    assert report.dtype == "float64"
    assert read_metadata(path) == {"model": name}


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnext50_32x4d", "wide_resnet50_2"])
def test_torchvision_resnets_have_the_names_and_shapes_of_timm(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name).state_dict()
        ours = timm.create_model(name).state_dict()

    assert {n: t.shape for n, t in theirs.items()} == {n: t.shape for n, t in ours.items()}


def test_a_torchvision_resnet_gives_the_same_outputs(tmp_path: Path) -> None:
    source = with_statistics(torchvision.models.resnet18(num_classes=5))
    model = create_model("resnet18", 5)

    report = load_checkpoint(model, saved(source.state_dict(), tmp_path / "a.pth"))

    assert report.classifier_set_aside is None
    assert_same_outputs(model, source)


@pytest.mark.parametrize("dropout", [True, False])
def test_domainbed_resnets_give_the_same_outputs(tmp_path: Path, dropout: bool) -> None:
    classifier = Sequential(Dropout(0.9), Linear(512, 5)) if dropout else Linear(512, 5)
    featurizer = Module()
    featurizer.network = with_statistics(ResNet(BasicBlock, [1, 1, 1, 1]))
    source = Sequential(featurizer.network, classifier)
    featurizer.network.fc = Identity()
    algorithm = Module()
    algorithm.featurizer, algorithm.classifier = featurizer, classifier
    algorithm.network = Sequential(featurizer, classifier)
    model = create_model("resnet18", 5, layers=(1, 1, 1, 1))

    path = saved({"args": {}, "model_dict": algorithm.state_dict()}, tmp_path / "model.pkl")
    report = load_checkpoint(model, path)

    assert report.classifier_set_aside is None
    assert report.num_loaded == len(model.state_dict())
    assert_same_outputs(model, source)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_storage_is_loaded_and_recorded(tmp_path: Path, half: torch.dtype) -> None:
    source, model = create_model("test_resnet", 5), create_model("test_resnet", 5)
    state = {n: t.to(half) if t.is_floating_point() else t for n, t in source.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")

    report = load_checkpoint(model, tmp_path / "a.safetensors")

    assert report.dtype == str(half).removeprefix("torch.")
    assert_untouched(model, {name: tensor.to(torch.float64) for name, tensor in state.items()})
    assert next(model.parameters()).dtype == torch.float64


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_a_classifier_of_another_size_is_set_aside(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, model = create_model(name, 9), create_model(name, 5)
    before = snapshot(model)

    with caplog.at_level(logging.WARNING):
        report = load_checkpoint(model, saved(source.state_dict(), tmp_path / "a.pth"))

    said = report.classifier_set_aside
    assert said is not None and said in caplog.text
    assert re.search(r"\.weight 9 x \d+, .*\.bias 9\) is set aside; .* own \(.*\.weight 5 x", said)
    kept = [n for n, t in source.state_dict().items() if t.shape != before[n].shape]
    assert len(kept) == 2 and report.num_loaded == len(before) - 2
    for n, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[n] if n in kept else source.state_dict()[n])


def test_a_headless_file_leaves_the_classifier(tmp_path: Path) -> None:
    source, model = timm.create_model("test_resnet", num_classes=0), create_model("test_resnet", 5)
    before = snapshot(model)

    report = load_checkpoint(model, saved(source.state_dict(), tmp_path / "a.pth"))

    assert report.classifier_set_aside is not None
    assert report.classifier_set_aside.startswith("the file has no classifier; the model keeps")
    assert torch.equal(model.state_dict()["fc.weight"], before["fc.weight"])
    assert_untouched(model, source.state_dict() | {n: before[n] for n in ("fc.weight", "fc.bias")})


def test_files_of_old_pytorch_without_counters_are_loaded(tmp_path: Path) -> None:
    source, model = create_model("test_resnet", 5), create_model("test_resnet", 5)
    state = {n: t for n, t in source.state_dict().items() if not n.endswith("num_batches_tracked")}

    load_checkpoint(model, saved(state, tmp_path / "a.pth"))

    assert_same_outputs(model, source)


def test_timm_converts_what_it_knows_and_the_report_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small, large = (timm.create_model("test_vit", img_size=s, num_classes=5) for s in (160, 224))

    with caplog.at_level(logging.WARNING):
        report = load_checkpoint(large, saved(small.state_dict(), tmp_path / "a.pth"))

    assert len(report.notes) == 1
    assert report.notes[0] == r"timm resized pos_embed from 1 x 101 x 64 to 1 x 197 x 64"
    assert report.notes[0] in caplog.text
    assert torch.equal(large.state_dict()["head.weight"], small.state_dict()["head.weight"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("bn1.weight"), r"1 missing \(bn1\.weight\)"),
        (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
        (
            lambda s: s.update({"conv1.0.weight": torch.ones(2, 2)}),
            r"1 misshapen \(conv1\.0\.weight is 2 x 2 instead of \d+ x 3 x 3 x 3\)",
        ),
        (
            lambda s: s.update({"fc.weight": torch.ones(9, 2)}),
            r"1 misshapen \(fc\.weight is 9 x 2 instead of 5 x \d+\)",
        ),
        (
            lambda s: [s.pop(n) for n in list(s) if n.startswith("layer2")],
            r"\d+ missing \(layer2\.0\S+, layer2\.0\S+, layer2\.0\S+ and \d+ more\)",
        ),
    ],
)
def test_any_other_difference_is_refused_and_nothing_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: object, message: str
) -> None:
    monkeypatch.setattr("core.checkpoints.find_architecture", lambda *_, **__: None)
    state, model = create_model("test_resnet", 5).state_dict(), create_model("test_resnet", 5)
    before = snapshot(model)
    assert callable(edit)
    edit(state)

    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(model, saved(state, tmp_path / "a.pth"))

    assert "does not fit 'test_resnet'" in str(caught.value)
    assert str(caught.value).endswith("a short search found no timm model")
    assert "\n" not in str(caught.value)
    assert_untouched(model, before)


@pytest.mark.parametrize("wanted", ["test_vit", "test_convnext"])
def test_the_architecture_that_would_fit_is_named(tmp_path: Path, wanted: str) -> None:
    path = saved(create_model(wanted, 9).state_dict(), tmp_path / f"{wanted}-9.pth")

    with pytest.raises(InputError, match=rf"fit 'test_resnet': .*; timm's '{wanted}' would fit"):
        load_checkpoint(create_model("test_resnet", 5), path)


@pytest.mark.parametrize(
    ("name", "kwargs", "file", "dtype"),
    [
        ("mobilenetv2_100", {}, "mobilenetv2_100.tv_qat_in1k", "float32, float16"),
        (
            "mobilenetv2_035",
            {"pad_type": "same"},
            "mobilenetv2_035.keras_tm_in1k.headless",
            "float32",
        ),
    ],
)
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the real weights are not beside this checkout")
def test_real_checkpoints_are_loaded(
    name: str, kwargs: dict[str, Any], file: str, dtype: str
) -> None:
    report = load_checkpoint(create_model(name, 7, **kwargs), WEIGHTS / f"{file}.safetensors")

    assert report.dtype == dtype
    assert report.classifier_set_aside is not None and report.notes == ()


def test_arguments_that_do_not_fit_a_file_of_the_same_model_are_named(tmp_path: Path) -> None:
    path = saved(create_model("test_resnet", 5).state_dict(), tmp_path / "a.pt")

    with pytest.raises(InputError, match="'test_resnet' would fit without --model_kwargs"):
        load_checkpoint(create_model("test_resnet", 5, in_chans=1), path)


@pytest.mark.parametrize("name", ["layer1.0.conv1.weight", "conv1.1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_and_nothing_is_loaded(
    tmp_path: Path, value: float, name: str
) -> None:
    source, model = (create_model("test_resnet", 5) for _ in range(2))
    state = source.state_dict()
    state[name][0] = value
    path, before = saved(state, tmp_path / "a.pt"), snapshot(model)

    with pytest.raises(InputError, match=f"holds NaN or infinity in {name}"):
        load_checkpoint(model, path)

    assert_untouched(model, before)


def test_a_classifier_that_is_set_aside_may_hold_anything(tmp_path: Path) -> None:
    state = create_model("test_resnet", 9).state_dict()
    state["fc.weight"][0] = float("nan")

    report = load_checkpoint(create_model("test_resnet", 5), saved(state, tmp_path / "a.pt"))

    assert report.classifier_set_aside
