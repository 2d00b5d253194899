"""Tests for probes/sources.py: what a run folder says about its images."""

import shutil
from pathlib import Path

import pytest
import torch

from core.errors import InputError
from finetuning.config import TrainConfig
from finetuning.train import train
from probes.pairs import load_pairs
from probes.sources import PairOptions, example_runs
from tests.image_files import write_domains


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


def test_the_embedded_example_is_complete() -> None:
    pairs = load_pairs(PairOptions(finetuned=example_runs())).pairs
    assert [pair.run for pair in pairs] == ["erm-s0", "dropout0.9-s0", "scratch-s0"]
    assert [pair.facts["from_scratch"] for pair in pairs] == [False, False, True]


def test_only_environments_that_were_trained_on_are_iid(tmp_path: Path) -> None:
    options = {"steps": 2, "eval_every": 2, "batch_size": 4, "device": "cpu"}
    config = TrainConfig(output=str(tmp_path / "r"), envs=("ink", "rotated"), **options)
    run = str(train(config))
    assert load_pairs(PairOptions(finetuned=(run,))).pairs[0].splits == {
        "ink": "iid",
        "rotated": "ood",
    }
    more = load_pairs(PairOptions(finetuned=(run,), envs=("ink", "photo", "rotated"))).pairs[0]
    assert more.splits == {"ink": "iid", "photo": "given", "rotated": "ood"}


def test_images_that_changed_since_training_are_refused(tmp_path: Path) -> None:
    data = write_domains(tmp_path / "data")
    options = {"steps": 1, "eval_every": 1, "batch_size": 2, "device": "cpu"}
    run = str(
        train(
            TrainConfig(
                output=str(tmp_path / "r"), data=str(data), test_env=("sketch",), **options
            )
        )
    )
    load_pairs(PairOptions(finetuned=(run,)))
    shutil.copy(data / "art" / "cat" / "0.png", data / "art" / "cat" / "9.png")
    with pytest.raises(InputError, match="not those that"):
        load_pairs(PairOptions(finetuned=(run,)))
