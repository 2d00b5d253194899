"""Tests for `python -m finetuning.train`: killed, interrupted, and given wrong input."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core.command_line import run
from finetuning.config import TrainConfig
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, files, write_images

ROOT = Path(__file__).parents[2]
EIGHT_STEPS = ["--steps", "8", "--eval_every", "4", "--batch_size", "4", "--device", "cpu"]


@pytest.fixture(autouse=True)
def single_precision() -> None:
    """As the command runs; the shared fixture puts back what it found."""
    torch.set_default_dtype(torch.float32)


def start(output: Path) -> subprocess.Popen:
    """Fine-tunes on the digits; evaluations and checkpoints fall on different steps."""
    options = {"steps": 24, "eval_every": 6, "checkpoint_every": 5, "average_from": 4}
    flags = [f"--{name}={value}" for name, value in options.items()]
    words = ["-m", "finetuning.train", *flags, "--device", "cpu", "--average", "1", "2"]
    return subprocess.Popen(
        [sys.executable, *words, "--output", str(output)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background makes their children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stop_at(process: subprocess.Popen, file: Path, how: signal.Signals) -> str:
    """Sends the signal as soon as the file is there; returns what the process said."""
    while not file.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(how)
    return process.communicate(timeout=120)[1]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with start(whole) as undisturbed:
        kill_and_resume(killed)
        said = undisturbed.communicate(timeout=120)[1]

    assert undisturbed.returncode == 0, said
    assert_same_runs(whole, killed)


def kill_and_resume(output: Path) -> None:
    """Three processes that come to grief and a fourth that reaches the end."""
    # Every signal falls between two evaluations, so that there are steps to lose.
    for step, how, status in (
        (5, signal.SIGKILL, -signal.SIGKILL),
        (10, signal.SIGINT, 130),
        (15, signal.SIGKILL, -signal.SIGKILL),
    ):
        process = start(output)
        said = stop_at(process, output / f"step_{step:06d}.safetensors", how)
        assert process.returncode == status, said
        assert (output / "resume.pt").is_file()
        assert not (output / "final.safetensors").exists()
        assert "Traceback" not in said
        assert status != 130 or "interrupted; the same command resumes where it stopped" in said
    last = start(output)
    assert "resuming" in last.communicate(timeout=120)[1]
    assert last.returncode == 0


def command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs the command in this process and returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["train", *EIGHT_STEPS, *words])
    try:
        run(train, TrainConfig)
    except SystemExit as exit_:
        assert isinstance(exit_.code, int)
        return exit_.code
    return 0


def assert_one_sentence(stderr: str, expected: str) -> None:
    sentences = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, stderr
    assert expected in sentences[0]
    assert "Traceback" not in stderr


WRONG = {
    "rate": (["--drop_rate", "1.0"], "the dropout rate is 1.0; expected 0 <= rate < 1"),
    "model": (["--model", "resnet5"], "'resnet5' is not a model"),
    "tag": (["--model", "resnet18.mine"], "Invalid pretrained tag (mine) for resnet18"),
    "model_kwargs": (["--model_kwargs", "{wings: 2}"], "does not take the arguments"),
    "classes": (["--model_kwargs", "{num_classes: 9}"], "num_classes"),
    "timm's": (["--model_kwargs", "{pretrained: true}"], "pretrained"),
    "two heads": (
        ["--model", "deit_tiny_distilled_patch16_224", "--pretrained", "none"],
        "has 2 classifiers ['head', 'head_dist']",
    ),
    "environment": (["--envs", "ink", "moon"], "environment 'moon' is not in digits"),
    "test environment": (["--test_env", "moon"], "'moon' is not in 'digits'"),
    "data": (["--data", "nowhere"], "no folder 'nowhere'"),
    "checkpoint": (["--pretrained", "nowhere.pt"], "nowhere.pt"),
    "device": (["--device", "abacus"], "device 'abacus' cannot be used"),
    "no device": (["--device", "meta"], "device 'meta' cannot be used (it holds no numbers)"),
    "lr": (["--lr", "-1"], "--lr is -1"),
    "no number": (["--lr", ".nan"], "--lr is nan; a positive number was expected"),
    "infinity": (["--weight_decay", ".inf"], "--weight_decay is inf; zero or a positive"),
    "steps": (["--steps", "0"], "--steps is 0; a positive number was expected"),
    "milestones": (["--milestones", "-1"], "--milestones is -1; zero or a positive number"),
    "seed": (["--seed", str(2**63)], "a number below 2**63 was expected"),
    "huge": (
        ["--image_size", "1000000", "--transform", "paper"],
        "cannot read an image of 3 x 1000000 x 1000000",
    ),
    "amp": (["--tangent", "--amp", "bf16"], "--tangent and --amp bf16 were both given"),
    "image size": (["--image_size", "64"], "--image_size is 64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_sentence_and_writes_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words, expected = WRONG[case]
    status = command(["--output", str(tmp_path / "deep" / "run"), *words], monkeypatch)

    assert status == 2
    assert_one_sentence(capsys.readouterr().err, expected)
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_run_names_step_and_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = ["--lr", "1e30", "--drop_rate", "0", "--output", str(tmp_path / "run")]
    status = command(words, monkeypatch)

    assert status == 2
    assert_one_sentence(capsys.readouterr().err, "at step 2 with learning rate 1e+30")
    assert not (tmp_path / "run" / "final.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lr", "1e200"], "overflowed at step 1 with learning rate 1e+200"),
        (
            ["--lr", "1e38", "--optimizer", "adamw"],
            "overflowed at step 1 with learning rate 1e+38",
        ),
        (["--weight_decay", "1e200"], "overflowed at step 1 with learning rate 0.01"),
    ],
)
def test_an_update_that_no_float32_holds_is_a_diverging_run(
    words: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    status = command([*words, "--output", str(tmp_path / "run")], monkeypatch)

    assert status == 2
    assert_one_sentence(capsys.readouterr().err, expected)
    assert not (tmp_path / "run" / "final.safetensors").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The words and the folder of a run that reached its end."""
    folder = tmp_path_factory.mktemp("finished")
    data, output = write_images(folder / "data"), folder / "run"
    words = ["--data", str(data), "--test_env", "photo", "--output", str(output)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert command(words, monkeypatch) == 0
    return words, output


def test_the_same_command_on_a_finished_run_changes_nothing(
    finished: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words, output = finished
    before = files(output)
    with caplog.at_level(logging.INFO):
        assert command(words, monkeypatch) == 0

    assert "is finished already" in caplog.text
    assert files(output) == before


def test_the_file_of_a_run_is_its_command(
    finished: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output = finished
    words = ["--config", str(output / "config.yaml"), "--output", str(tmp_path / "copy")]
    assert command(words, monkeypatch) == 0

    for name in ("final", "best", "init"):
        copied = (tmp_path / "copy" / f"{name}.safetensors").read_bytes()
        assert copied == (output / f"{name}.safetensors").read_bytes()


def test_an_output_that_holds_something_else_is_left_alone(
    finished: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    words, output = finished
    before = files(output)
    cases = {
        "drop_rate was 0.9, now 0.5": ["--drop_rate", "0.5"],
        "is no run folder": ["--output", str(output.parent)],
        "where only images were expected": ["--output", str(output.parent / "data" / "run")],
        "is a file; choose another": ["--output", str(output / "config.yaml" / "run")],
    }
    for expected, more in cases.items():
        assert command([*words, *more], monkeypatch) == 2
        assert_one_sentence(capsys.readouterr().err, expected)

    assert files(output) == before
    assert {path.name for path in output.parent.iterdir()} == {"data", "run"}


def test_a_run_is_not_resumed_on_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data, output = write_images(tmp_path / "data"), tmp_path / "run"
    words = ["--data", str(data), "--test_env", "none", "--output", str(output)]
    assert command(words, monkeypatch) == 0
    (output / "final.safetensors").unlink()  # as if it had been killed just before
    before = files(output)
    (data / "art" / "cat" / "0.png").rename(data / "art" / "cat" / "00.png")

    assert command(words, monkeypatch) == 2
    assert_one_sentence(capsys.readouterr().err, "begun with another data fingerprint")
    assert files(output) == before
