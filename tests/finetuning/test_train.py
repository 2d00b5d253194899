"""Tests for finetuning/: the loop, its run folder, and what happens when it is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from core.command_line import run
from core.domains import load_domains
from core.errors import InputError
from core.models import classifier
from finetuning.averaging import RunningAverage
from finetuning.config import TrainConfig, resolve
from finetuning.evaluation import evaluate, summary
from finetuning.noise import dropout
from finetuning.setup import prepare
from finetuning.train import build_optimizer, train
from tests.image_files import write_domains

SHORT = {"steps": 12, "eval_every": 4, "batch_size": 4, "device": "cpu"}
WORDS = ["--steps", "12", "--eval_every", "4", "--batch_size", "4", "--device", "cpu"]


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


def weights(folder: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def assert_same(a: Path, b: Path) -> None:
    names = sorted(p.name for p in a.glob("*.safetensors"))
    assert names == sorted(p.name for p in b.glob("*.safetensors"))
    for name in names:
        first, second = load_file(a / name), load_file(b / name)
        assert all(torch.equal(first[key], second[key]) for key in first), name


def test_a_run_folder_holds_what_it_promises(tmp_path: Path) -> None:
    output = train(TrainConfig(output=str(tmp_path / "r"), average=(1,), average_from=2, **SHORT))

    names = {p.name for p in output.iterdir()}
    weights_files = {f"{n}.safetensors" for n in ("init", "best", "final", "average_every_1")}
    assert names == weights_files | {"config.yaml", "run.json", "metrics.jsonl"}
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 4, 8, 12]
    assert lines[-1]["train_loss"] < lines[1]["train_loss"] * 1.5
    assert not torch.equal(weights(output)["fc.weight"], weights(output, "init")["fc.weight"])


def started(output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "finetuning.train", *WORDS, "--average", "1", "3"]
    command += ["--average_from", "2", "--output", str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def wait_for_step(output: Path, step: int) -> None:
    metrics = output / "metrics.jsonl"
    for _ in range(2400):
        if metrics.is_file() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.05)
    raise TimeoutError(f"no step {step} in {metrics}")


def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert started(whole).wait() == 0
    for step, how in ((0, signal.SIGKILL), (4, signal.SIGINT), (8, signal.SIGKILL)):
        process = started(killed)
        wait_for_step(killed, step)
        process.send_signal(how)
        assert process.wait() in {-signal.SIGKILL, 130, 0}
    assert started(killed).wait() == 0
    assert_same(whole, killed)


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    config = TrainConfig(output=str(tmp_path / "r"), **SHORT)
    output = train(config)
    before = {p.name: p.stat().st_mtime_ns for p in output.iterdir()}
    train(config)
    assert {p.name: p.stat().st_mtime_ns for p in output.iterdir()} == before


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    one, two, other = (
        train(TrainConfig(output=str(tmp_path / name), seed=seed, **SHORT))
        for name, seed in (("one", 5), ("two", 5), ("other", 6))
    )
    assert_same(one, two)
    assert not torch.equal(weights(one)["fc.weight"], weights(other)["fc.weight"])


def test_averages_are_means_over_the_steps(tmp_path: Path) -> None:
    options = SHORT | {"checkpoint_every": 1, "average": (1, 2), "average_from": 9}
    output = train(TrainConfig(output=str(tmp_path / "r"), **options))
    for period, steps in ((1, (9, 10, 11, 12)), (2, (10, 12))):
        mean = torch.stack([weights(output, f"step_{s:06d}")["fc.weight"] for s in steps]).mean(0)
        assert_close(weights(output, f"average_every_{period}")["fc.weight"], mean)


def test_running_average_keeps_integer_counters() -> None:
    average = RunningAverage()
    for count in (1, 2):
        average.update({"num_batches_tracked": torch.tensor(count)})
    assert average.state["num_batches_tracked"] == 2


def test_frozen_batchnorm_keeps_its_statistics_and_live_one_does_not(tmp_path: Path) -> None:
    frozen = train(TrainConfig(output=str(tmp_path / "f"), **SHORT))
    live = train(TrainConfig(output=str(tmp_path / "l"), pretrained="none", **SHORT))
    name = "layer4.2.bn3.running_mean"
    assert torch.equal(weights(frozen)[name], weights(frozen, "init")[name])
    assert not torch.equal(weights(live)[name], weights(live, "init")[name])
    gain = "layer4.2.bn3.weight"  # its affine part is trained all the same
    assert not torch.equal(weights(frozen)[gain], weights(frozen, "init")[gain])


def test_workers_do_not_change_the_weights(tmp_path: Path) -> None:
    write_domains(tmp_path / "data")
    options = SHORT | {"data": str(tmp_path / "data"), "test_env": ("none",)}
    runs = [
        train(TrainConfig(output=str(tmp_path / f"w{n}"), workers=n, **(options | {"steps": 4})))
        for n in (0, 2)
    ]
    assert_same(*runs)


@pytest.mark.parametrize(
    "options", [{"optimizer": "adamw", "lr": 1e-3}, {"amp": "bf16"}, {"channels_last": True}]
)
def test_the_loss_falls_under_every_option(tmp_path: Path, options: dict) -> None:
    longer = SHORT | {"steps": 40, "eval_every": 20, "drop_rate": 0.0}
    output = train(TrainConfig(output=str(tmp_path / "r"), **(longer | options)))
    losses = [json.loads(s)["train_loss"] for s in (output / "metrics.jsonl").read_text().splitlines()]
    assert losses[2] < losses[1]


def test_the_head_has_its_own_learning_rate() -> None:
    config = resolve(TrainConfig(head_lr_factor=10, optimizer="adamw", lr=1e-3, device="cpu"))
    model = prepare(config).model
    body, head = build_optimizer(config, model).param_groups
    assert [body["lr"], head["lr"]] == pytest.approx([1e-3, 1e-2])
    assert {id(p) for p in head["params"]} == {id(p) for p in classifier(model).parameters()}
    assert len(body["params"]) + len(head["params"]) == len(list(model.parameters()))


def test_accuracy_is_measured_on_the_right_images() -> None:
    config = resolve(TrainConfig(device="cpu", seed=3))
    setup = prepare(config)

    class Zero(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[torch.zeros(len(x), dtype=torch.long)]

    correct = evaluate(config, setup, Zero())
    environments = load_domains("digits").environments
    assert len(correct["ink"]) == len(setup.held_out["ink"]) == len(environments["ink"]) // 5
    assert not set(setup.train["ink"]) & set(setup.held_out["ink"])
    expected = environments["ink"].labels[setup.held_out["ink"]] == 0
    np.testing.assert_array_equal(correct["ink"], expected)
    assert len(correct["rotated"]) == len(environments["rotated"])
    line = summary(correct, setup)
    inside = np.delete(environments["rotated"].labels, setup.held_out["rotated"]) == 0
    assert line["ood_in_accuracy"] == pytest.approx(inside.mean())


def test_the_released_protocol() -> None:
    config = resolve(TrainConfig(preset="vld-v1", data="PACS", seed=2))
    assert (config.optimizer, config.lr, config.batch_size, config.drop_rate) == ("sgd", 1e-3, 32, 0.9)
    assert (config.steps, config.milestones, config.eval_every) == (10_001, (5_000, 10_000), 300)
    assert (config.split_seed, config.augment_iid, config.average) == (0, True, (1,))
    assert (config.freeze_bn, config.transform) == (True, "paper")
    fixed = resolve(TrainConfig(data="PACS", seed=2))
    assert (fixed.split_seed, fixed.augment_iid, fixed.average) == (2, False, ())
    assert not resolve(TrainConfig(pretrained="none")).freeze_bn


def test_dropout_is_unbiased_and_its_noise_is_known() -> None:
    features = torch.full((1, 200_000), 2.0)
    noisy = dropout(0.9)(features)
    assert set(noisy.unique().tolist()) == {0.0, pytest.approx(20.0)}
    assert noisy.mean().item() == pytest.approx(2, rel=0.03)  # 3 standard errors: 2 % of 2


WRONG = {
    "rate": (["--drop_rate", "1.0"], "0 <= rate < 1"),
    "model": (["--model", "resnet5"], "not a model"),
    "environment": (["--test_env", "moon"], "'moon' is not in"),
    "data": (["--data", "nowhere"], "no folder 'nowhere'"),
    "checkpoint": (["--pretrained", "nowhere.pt"], "nowhere.pt"),
    "device": (["--device", "abacus"], "device 'abacus'"),
    "loss": (["--lr", "1e9", "--drop_rate", "0"], "at step .* with learning rate"),
    "transform": (["--transform", "paper", "--lr", "-1"], "positive"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    words, expected = WRONG[case]
    output = tmp_path / "r"
    monkeypatch.setattr(sys, "argv", ["train", *WORDS, "--output", str(output), *words])
    with pytest.raises(SystemExit) as exit_:
        run(train, TrainConfig)
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert exit_.value.code == 2
    assert len(error) == 1
    assert re.search(expected, error[0])
    assert case == "loss" or not output.exists()
    assert not (output / "final.safetensors").exists()


def test_an_output_that_is_something_else_is_refused(tmp_path: Path) -> None:
    output = train(TrainConfig(output=str(tmp_path / "r"), **SHORT))
    with pytest.raises(InputError, match="drop_rate was 0.9, now 0.5"):
        train(TrainConfig(output=str(output), drop_rate=0.5, **SHORT))
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="is no run folder"):
        train(TrainConfig(output=str(tmp_path / "mine"), **SHORT))
    with pytest.raises(InputError, match="is a file"):
        train(TrainConfig(output=str(output / "config.yaml" / "r"), **SHORT))


def test_a_run_is_not_resumed_on_other_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_domains(data)
    config = TrainConfig(
        output=str(tmp_path / "r"), data=str(data), test_env=("none",), **(SHORT | {"steps": 4})
    )
    output = train(config)
    (output / "final.safetensors").unlink()  # as if it had been killed before the end
    environment = sorted(p for p in data.iterdir() if p.is_dir())[0]
    image = next(p for p in sorted(environment.rglob("*")) if p.is_file())
    shutil.copy(image, image.with_name("one_more" + image.suffix))
    with pytest.raises(InputError, match="another data fingerprint"):
        train(config)
