"""Tests for probes/sources.py: what a run folder says about its images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from core.domains import load_domains
from core.errors import InputError
from finetuning.config import TrainConfig
from finetuning.train import train
from probes.pairs import load_pairs
from probes.sources import PairOptions, RunOptions, Source, example_runs
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


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of an embedded run, to be damaged."""
    return Path(shutil.copytree(example_runs()[0], tmp_path / "run"))


WRONG_OPTIONS = {
    "model": 3,
    "model_kwargs": [1],
    "data": None,
    "image_size": "big",
    "transform": "none",
    "envs": "ink",
    "skip_unreadable": 1,
    "drop_rate": "high",
    "seed": 0.5,
    "steps": [1],
    "optimizer": "lbfgs",
    "lr": "fast",
    "pretrained": 3,
    "test_env": [1],
    "split_seed": None,
    "train_fraction": "half",
}


def test_a_run_on_fewer_images_was_trained_on_those_only(run: Path) -> None:
    domains = load_domains("digits")
    trained, others = Source.find(str(run), "final").parts(domains, "ink", "iid")
    file = run / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"train_fraction": 0.25}))
    fewer, same = Source.find(str(run), "final").parts(domains, "ink", "iid")
    assert np.array_equal(fewer, trained[:90]) and np.array_equal(same, others)


@pytest.mark.parametrize("name", RunOptions.__annotations__)
def test_an_option_of_the_wrong_type_is_named_with_the_file(name: str, run: Path) -> None:
    file = run / "config.yaml"
    options = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(options | {name: WRONG_OPTIONS[name]}))
    with pytest.raises(InputError, match=rf"config\.yaml' says {name}: .*restore the file"):
        Source.find(str(run), "final")


@pytest.mark.parametrize("name", sorted(RunOptions.__required_keys__))
def test_a_missing_option_is_named_with_the_file(name: str, run: Path) -> None:
    file = run / "config.yaml"
    options = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({k: v for k, v in options.items() if k != name}))
    with pytest.raises(InputError, match=rf"config\.yaml' lacks {name};"):
        Source.find(str(run), "final")


@pytest.mark.parametrize(
    "content", ['{"data_finger', "", "[1]", "{}", '{"data_fingerprint": 1, "classes": 2}']
)
def test_a_damaged_run_json_is_one_sentence(content: str, run: Path) -> None:
    (run / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json' .*restore the file"):
        load_pairs(PairOptions(finetuned=(str(run),)))


@pytest.mark.parametrize("content", ['{"train_lo', "[1]", "{}", '{"train_loss": "low"}'])
def test_a_damaged_metrics_file_is_one_sentence(content: str, run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(content)
    with pytest.raises(InputError, match=r"metrics\.jsonl.*restore the file"):
        load_pairs(PairOptions(finetuned=(str(run),)))
