"""Tests for scripts/study/ingredients.py: a study begins with what fits, and goes on with it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.command_line import as_yaml
from core.documents import read_json
from core.errors import InputError
from core.glyphnet import WEIGHTS
from core.outputs import held
from finetuning.config import TrainConfig, resolve
from finetuning.sweep import LOCKS, Here
from scripts.study.__main__ import PROBE, begin, study
from scripts.study.config import StudyConfig
from scripts.study.ingredients import (
    BEFORE,
    FILE,
    Ingredients,
    check_facts,
    check_unchanged,
    ingredients,
)
from scripts.study.plan import environments, plan
from scripts.study.protocols import PROTOCOLS
from tests.finetuning.tiny import write_images


@pytest.fixture(autouse=True)
def single_precision() -> None:
    """As the command runs; the shared fixture puts back what it found."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    """A study of images and weights that a test can replace."""
    write_images(tmp_path / "data")
    for name in ("rich", "plain"):
        shutil.copy(WEIGHTS[f"glyphnet.{name}"], tmp_path / f"{name}.safetensors")
    return StudyConfig(
        data=str(tmp_path / "data"),
        output=str(tmp_path / "study"),
        pretrained=str(tmp_path / "rich.safetensors"),
        poorer=str(tmp_path / "plain.safetensors"),
        device="cpu",
    )


def checked(config: StudyConfig) -> None:
    """What a study does before its first run."""
    planned = plan(config, environments(config))
    found = ingredients(config, planned)
    if not Path(config.output).exists():
        begin(config, found)
    check_unchanged(Path(config.output), found, planned)


def test_a_study_begun_before_protocols_told_something_goes_on(config: StudyConfig) -> None:
    checked(replace(config, protocol="mini"))
    file = Path(config.output) / FILE
    begun = json.loads(file.read_text())
    assert all(begun["protocol"].pop(name) == value for name, value in BEFORE.items())
    file.write_text(json.dumps(begun))
    checked(replace(config, protocol="mini"))


def test_what_is_made_elsewhere_may_need_a_gpu_that_is_not_here(config: StudyConfig) -> None:
    checked(replace(config, device="cuda", backend="slurm"))


def write_run(config: StudyConfig, **changed: object) -> None:
    """The first run of a study, as far as it says what it was made of."""
    planned = plan(config, environments(config))
    (run, *_) = [one.config for one in planned if one.group == "main"]
    assert isinstance(run, TrainConfig)
    found = ingredients(config, planned)
    facts = {
        "data_fingerprint": found["data_fingerprint"],
        "pretrained_sha256": found["pretrained_sha256"][run.pretrained],
    }
    Path(run.output).mkdir(parents=True)
    run = replace(resolve(run), **{k: v for k, v in changed.items() if k not in facts})
    (Path(run.output) / "config.yaml").write_text(as_yaml(run))
    facts |= {name: value for name, value in changed.items() if name in facts}
    (Path(run.output) / "run.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": "missing.safetensors"}, "missing.safetensors"),
        ({"poorer": "missing.safetensors"}, "missing.safetensors"),
        ({"linear_layers": ("nosuch",)}, "layer 'nosuch' is not in"),
        ({"model": "resnet18"}, "rich.safetensors|plain.safetensors"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_created(
    config: StudyConfig, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        study(replace(config, **options), Here())
    assert not Path(config.output).exists()


def other_protocol(config: StudyConfig, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(PROTOCOLS, "smoke", replace(PROTOCOLS["smoke"], samples=8))


def other_images(config: StudyConfig, _: pytest.MonkeyPatch) -> None:
    next(Path(config.data).rglob("*.png")).unlink()


def other_weights(config: StudyConfig, _: pytest.MonkeyPatch) -> None:
    assert config.poorer is not None
    shutil.copy(config.pretrained, config.poorer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_protocol, "the protocol's samples was 64, now 8"),
        (other_images, "its images was"),
        (other_weights, "the weights .*plain.safetensors was"),
    ],
)
def test_a_study_goes_on_with_what_it_began_with(
    config: StudyConfig,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[StudyConfig, pytest.MonkeyPatch], None],
    message: str,
) -> None:
    checked(config)
    checked(config)
    change(config, monkeypatch)
    with pytest.raises(InputError, match=f"holds a study of something else.*{message}"):
        study(config, Here())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 7}, "a run with other options .steps was 7, now 20"),
        ({"data_fingerprint": "0123"}, "begun with another data fingerprint"),
        ({"pretrained_sha256": "0123"}, "begun with another pretrained sha256"),
    ],
)
def test_a_study_of_an_older_release_goes_on_if_its_runs_are_its_own(
    config: StudyConfig, changed: dict, message: str
) -> None:
    checked(config)
    (Path(config.output) / FILE).unlink()
    write_run(config)
    checked(config)
    assert read_json(Path(config.output) / FILE, Ingredients)["protocol"]["seeds"] == [0, 1]

    shutil.rmtree(Path(config.output) / "runs")
    (Path(config.output) / FILE).unlink()
    write_run(config, **changed)
    with pytest.raises(InputError, match=message):
        study(config, Here())


def test_files_that_are_replaced_while_a_study_runs_are_noticed(config: StudyConfig) -> None:
    planned = plan(config, environments(config))
    begun = ingredients(config, planned)
    write_run(config)
    there = [one for one in planned if Path(one.config.output).exists()]
    check_facts(there, begun)
    other_images(config, pytest.MonkeyPatch())
    with pytest.raises(InputError, match="begun with another data fingerprint"):
        check_facts(there, ingredients(config, planned))


def test_one_process_at_a_time_is_at_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StudyConfig(output=str(tmp_path / "study"))
    (tmp_path / "study" / LOCKS).mkdir(parents=True)
    (tmp_path / "study" / "config.yaml").write_text(as_yaml(config))
    monkeypatch.setattr("scripts.study.__main__.environments", None)  # nothing is loaded
    with held(tmp_path / "study" / LOCKS / PROBE) as is_ours:
        assert is_ours
        with pytest.raises(InputError, match="another process is at the study in"):
            study(config, Here())
