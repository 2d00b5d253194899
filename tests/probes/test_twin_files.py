"""Tests for probes/twin_files.py: what twins hold is read back, or refused in a sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module

from core.domains import Domains, load_domains
from core.errors import InputError
from core.models import create_model, float_state
from probes.sources import Source
from probes.twin_files import read_linear_twin, read_tangent_twin, read_weights
from tests.image_files import write_domains

CLASSES, NUM = 2, 6  # images of an environment


@pytest.fixture
def model() -> Module:
    return create_model("glyphnet", CLASSES).eval()


@pytest.fixture
def run(tmp_path: Path, model: Module) -> Source:
    folder(tmp_path / "run", dict(model.state_dict()))
    return Source(tmp_path / "run", tmp_path / "run" / "final.safetensors", None)


def folder(path: Path, init: dict[str, Tensor], fingerprint: str = "f") -> Path:
    path.mkdir()
    save_file(init, path / "init.safetensors")
    moved = {n: w + 1 if w.is_floating_point() else w for n, w in init.items()}
    save_file(moved, path / "final.safetensors")
    facts = {"data_fingerprint": fingerprint, "classes": ["cat", "dog"], "train_envs": ["art"]}
    (path / "run.json").write_text(json.dumps(facts))
    return path


def test_a_tangent_twin_holds_its_trained_weights(run: Source, model: Module) -> None:
    begun, _ = read_weights(model, run.path / "init.safetensors")
    twin = folder(run.path.parent / "twin", dict(model.state_dict()))
    trained, digest = read_tangent_twin(twin, run, begun, model, "final")
    assert len(digest) == 64
    assert trained.keys() == begun.keys() == float_state(model).keys()
    for name, weight in trained.items():
        torch.testing.assert_close(weight, begun[name] + 1)


def test_a_twin_that_began_elsewhere_is_refused(run: Source, model: Module) -> None:
    begun, _ = read_weights(model, run.path / "init.safetensors")
    init = load_file(run.path / "init.safetensors")
    init["fc.bias"][0] += 1e-6
    twin = folder(run.path.parent / "twin", init)
    with pytest.raises(InputError, match=r"did not begin .*\(1 tensors differ, such as fc.bias\)"):
        read_tangent_twin(twin, run, begun, model, "final")


def test_a_twin_of_other_images_is_refused(run: Source, model: Module) -> None:
    begun, _ = read_weights(model, run.path / "init.safetensors")
    twin = folder(run.path.parent / "twin", dict(model.state_dict()), fingerprint="g")
    with pytest.raises(InputError, match="made of other images than .*/run'.*: make it again"):
        read_tangent_twin(twin, run, begun, model, "final")


@pytest.mark.parametrize("name", ["init", "final"])
def test_a_truncated_twin_is_refused(run: Source, model: Module, name: str) -> None:
    begun, _ = read_weights(model, run.path / "init.safetensors")
    twin = folder(run.path.parent / "twin", dict(model.state_dict()))
    file = twin / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"twin/{name}.safetensors"):
        read_tangent_twin(twin, run, begun, model, "final")


def test_a_classifier_of_other_classes_is_refused(run: Source) -> None:
    with pytest.raises(InputError, match=r"a classifier of the 5 classes .*: check --twins and"):
        read_weights(create_model("glyphnet", 5).eval(), run.path / "init.safetensors")


@pytest.fixture
def domains(tmp_path: Path) -> Domains:
    return load_domains(str(write_domains(tmp_path / "data", num=NUM // 2)))


@pytest.fixture
def linear(run: Source) -> Path:
    """The linear twin's folder, its predictions not written yet."""
    twin = run.path.parent / "linear"
    twin.mkdir()
    (twin / "run.json").write_text((run.path / "run.json").read_text())
    return twin


def predictions(**changes: Tensor) -> dict[str, Tensor]:
    whole = {
        f"{iteration}|{env}": torch.randn(NUM, CLASSES)
        for iteration in ("best", "final")
        for env in ("art", "sketch")
    }
    return whole | changes


def test_a_linear_twin_holds_logits_of_all_images(
    run: Source, linear: Path, domains: Domains
) -> None:
    saved = predictions()
    save_file(saved, linear / "predictions.safetensors")
    twin = read_linear_twin(linear, run, domains)
    assert len(twin.sha256) == 64
    for iteration, by_env in twin.logits.items():
        for env, logits in by_env.items():
            assert torch.equal(logits, saved.pop(f"{iteration}|{env}"))
    assert not saved


def test_wrong_predictions_are_refused(run: Source, linear: Path, domains: Domains) -> None:
    path = linear / "predictions.safetensors"

    def refused(saved: dict[str, Tensor], sentence: str) -> None:
        save_file(saved, path)
        with pytest.raises(InputError, match=sentence):
            read_linear_twin(linear, run, domains)

    missing = predictions()
    del missing["final|sketch"]
    refused(missing, r"lacks final\|sketch; the file as the command wrote it was expected")
    few = {"best|sketch": torch.zeros(NUM - 1, CLASSES)}
    refused(predictions(**few), r"logits of \(5, 2\) in best\|sketch, the images ask for \(6, 2\)")
    bad = {"final|art": torch.full((NUM, CLASSES), torch.nan)}
    refused(predictions(**bad), r"holds NaN or infinity in final\|art")
    save_file(predictions(), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="predictions.safetensors"):
        read_linear_twin(linear, run, domains)
    (linear / "run.json").write_text('{"classes": []}')
    with pytest.raises(InputError, match="run.json' lacks data_fingerprint"):
        read_linear_twin(linear, run, domains)
