"""Runs of finetuning.train with the rivals of dropout: options, resuming, tangent, old folders."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from core.checkpoints import read_metadata
from core.errors import InputError
from finetuning.config import TrainConfig, resolve
from finetuning.run_folder import RIVALS, RunFolder
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, files, tiny_config, weights

OPTIONS = {
    **{name: {"noise": name} for name in ("gaussian", "masksembles", "block", "batch")},
    "dropconnect": {"noise": "dropconnect"},
    "mixout": {"noise": "mixout"},
    "stages": {"placement": "stages"},
    "tied blocks": {"placement": "blocks", "tied_masks": True, "noise": "masksembles"},
}
SHARED = {"steps": 4, "eval_every": 2, "drop_rate": 0.5, "freeze_bn": True}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_with_a_rival_resumes_bit_for_bit(
    name: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(data, tmp_path / "whole", **SHARED, **OPTIONS[name])
    whole = train(config)
    killed = replace(config, output=str(tmp_path / "killed"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "save_progress", interrupted_after(2))
        train(killed)

    assert_same_runs(whole, train(killed))
    plain = train(tiny_config(data, tmp_path / "plain", **SHARED))
    assert not torch.equal(weights(whole)["fc.weight"], weights(plain)["fc.weight"])
    said = read_metadata(whole / "final.safetensors")
    assert {n: said[n] for n in RIVALS if n in said} == OPTIONS[name]


def interrupted_after(number: int) -> object:
    """Saves progress so many times; the process ends at the step after."""
    original, saved = RunFolder.save_progress, []

    def save_progress(self: RunFolder, progress: dict) -> None:
        if len(saved) == number:
            raise KeyboardInterrupt
        original(self, progress)
        saved.append(progress["step"])

    return save_progress


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "mixout"])
def test_the_tangent_model_trains_with_a_rival(name: str, tmp_path: Path, data: Path) -> None:
    options = SHARED | {"steps": 1, "eval_every": 1} | OPTIONS[name]
    tangent = train(tiny_config(data, tmp_path / "tangent", tangent=True, **options))
    ordinary = train(tiny_config(data, tmp_path / "ordinary", **options))

    # The first step is taken at the origin, where the expansion has the network's gradient.
    for key, tensor in weights(ordinary).items():
        torch.testing.assert_close(weights(tangent)[key], tensor)


def test_a_run_of_an_older_release_is_resumed(tmp_path: Path, data: Path) -> None:
    config = tiny_config(data, tmp_path / "run", **SHARED)
    before = files(train(config))
    options = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    for name in (*RIVALS, "kept_units", "head_start", "train_fraction"):
        del options[name]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(options))
    (tmp_path / "run" / "final.safetensors").unlink()

    assert files(train(config)) == before
    with pytest.raises(InputError, match="noise was dropout, now gaussian"):
        train(replace(config, noise="gaussian"))


def test_kept_units_are_a_rate() -> None:
    config = resolve(TrainConfig(kept_units=128))  # of glyphnet's 512

    assert config.drop_rate == 0.75
    assert resolve(config) == config


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kept_units": 513}, "glyphnet has 512 penultimate features: keep at most as many"),
        ({"kept_units": 0}, "--kept_units is 0; a positive number"),
        ({"kept_units": 128, "drop_rate": 0.5}, "which is a rate of 0.75; one of them"),
        ({"kept_units": 128, "noise": "mixout"}, "--kept_units was given with --noise mixout"),
        ({"placement": "blocks", "noise": "dropconnect"}, "--placement was given with --noise"),
        ({"tied_masks": True}, "--tied_masks was given with --placement head"),
        ({"tangent": True, "noise": "mixout"}, "--tangent and --noise mixout were both given"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        resolve(TrainConfig(**options))


COMPILED = """
import functools, sys, torch
from finetuning.train import train
from tests.finetuning.tiny import tiny_config
torch.compile = functools.partial(torch.compile, backend="eager")
options = {"steps": 2, "freeze_bn": True, "drop_rate": 0.5}
for name, own in {"plain": {}, "tied": {"placement": "blocks", "tied_masks": True},
                  "masks": {"noise": "masksembles"}, "mixout": {"noise": "mixout"}}.items():
    for compiled in (False, True):
        output = f"{sys.argv[2]}/{name}-{compiled}"
        train(tiny_config(sys.argv[1], output, compile=compiled, **options, **own))
"""


@pytest.mark.slow
def test_compiled_networks_have_their_noise_one_run_after_the_other(
    tmp_path: Path, data: Path
) -> None:
    # In a process of its own, without the checks of annotations.
    subprocess.run([sys.executable, "-c", COMPILED, data, tmp_path], check=True)
    for name in ("plain", "tied", "masks", "mixout"):
        plain, compiled = (weights(tmp_path / f"{name}-{on}") for on in (False, True))
        torch.testing.assert_close(compiled, plain)
