"""Tests for finetuning/run_folder.py."""

import json
import logging
import resource
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.command_line import parse
from core.errors import InputError
from finetuning.config import TrainConfig, resolve
from finetuning.run_folder import RunFolder, read_metrics
from finetuning.train import train
from tests.finetuning.tiny import files, tiny_config

FACTS = {"data_fingerprint": "d", "pretrained_sha256": None}
INIT = {"fc.weight": torch.ones(2, 3)}


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return resolve(tiny_config("nowhere", tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_folder_holds_options_facts_and_first_weights(config: TrainConfig) -> None:
    run = RunFolder.open(config, FACTS, INIT)

    assert set(contents(run.path)) == {"config.yaml", "run.json", "init.safetensors"}
    assert parse(TrainConfig, ["--config", str(run.path / "config.yaml")]) == config
    assert json.loads((run.path / "run.json").read_text()) == FACTS
    assert not run.finished
    assert run.load_progress(torch.device("cpu")) is None


def test_opening_it_again_changes_nothing(config: TrainConfig) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    before = contents(run.path)

    RunFolder.check(config)
    RunFolder.open(config, FACTS, {"fc.weight": torch.zeros(2, 3)})

    assert contents(run.path) == before


@pytest.mark.parametrize("name", FACTS)
def test_other_images_and_other_pretrained_weights_are_refused(
    config: TrainConfig, name: str
) -> None:
    before = contents(RunFolder.open(config, FACTS, INIT).path)

    with pytest.raises(InputError, match=f"another {name.replace('_', ' ')} .*now other"):
        RunFolder.open(config, FACTS | {name: "other"}, INIT)

    assert contents(Path(config.output)) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("drop_rate", 0.5), ("lr", 0.1), ("seed", 9), ("test_env", ("art",)), ("amp", "bf16")],
)
def test_other_options_are_refused_by_name(config: TrainConfig, name: str, value: object) -> None:
    RunFolder.open(config, FACTS, INIT)

    with pytest.raises(InputError, match=f"other options .{name} was .*choose another --output"):
        RunFolder.check(replace(config, **{name: value}))  # type: ignore[arg-type]


def test_a_run_may_move_and_may_use_other_workers(config: TrainConfig, tmp_path: Path) -> None:
    RunFolder.open(config, FACTS, INIT)
    moved = Path(config.output).rename(tmp_path / "moved")

    RunFolder.check(replace(config, output=str(moved), workers=3))


@pytest.mark.parametrize(
    ("name", "value"), [("device", "cuda:7"), ("channels_last", True), ("compile", True)]
)
def test_an_interrupted_run_goes_on_with_its_own_rounding_and_says_how(
    config: TrainConfig, name: str, value: object
) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    other, own = replace(config, **{name: value}), getattr(config, name)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=f"finish it with {name} {own}, or remove the folder"):
        RunFolder.check(other)

    (run.path / "final.safetensors").touch()  # a finished run is the same run
    RunFolder.check(other)


def test_kept_units_are_the_rate_that_they_are(config: TrainConfig) -> None:
    RunFolder.open(replace(config, kept_units=4, drop_rate=0.5), FACTS, INIT)

    RunFolder.check(replace(config, kept_units=None, drop_rate=0.5))
    with pytest.raises(InputError, match=r"drop_rate was 0\.5, now 0\.25"):
        RunFolder.check(replace(config, kept_units=6, drop_rate=0.25))


def test_a_folder_that_is_no_run_is_left_alone(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("five years")

    with pytest.raises(InputError, match="is no run folder; nothing in it is overwritten"):
        RunFolder.check(config)

    assert contents(tmp_path / "run") == {"thesis.tex": b"five years"}


@pytest.mark.parametrize(
    "damaged", [b"lr: [1", b"- 1\n- 2\n", b"", b"\xff\xfe\x00", b"a: 2024-99-99"]
)
def test_damaged_options_are_one_sentence_with_the_file(
    config: TrainConfig, damaged: bytes
) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    (run.path / "config.yaml").write_bytes(damaged)
    before = contents(run.path)

    with pytest.raises(InputError, match=r"run/config\.yaml' .*restore the file") as error:
        RunFolder.check(config)

    assert "\n" not in str(error.value)
    assert contents(run.path) == before


def test_a_folder_named_like_the_embedded_images_is_no_place_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder.check(resolve(TrainConfig(output="digits/erm")))


def test_a_place_below_a_file_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")

    with pytest.raises(InputError, match="is a file; choose another --output"):
        RunFolder.check(replace(config, output=str(tmp_path / "run" / "deep" / "er")))
    with pytest.raises(InputError, match="is no run folder"):
        RunFolder.check(config)


def test_progress_comes_back_as_it_was_and_only_the_latest(config: TrainConfig) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    for step in (2, 4):
        average = {1: (step, {"w": torch.rand(3)})}
        run.save_progress({"optimizer": optimizer.state_dict(), "averages": average, "step": step})

    loaded = run.load_progress(torch.device("cpu"))

    assert loaded is not None
    assert loaded["step"] == 4 and loaded["averages"][1][0] == 4
    assert torch.equal(loaded["averages"][1][1]["w"], average[1][1]["w"])
    assert loaded["optimizer"] == optimizer.state_dict()


def test_an_evaluation_replaces_those_of_its_step_or_later(config: TrainConfig) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    for step in (0, 2, 4, 6, 4):  # killed after 6, resumed from 2
        run.append_metrics({"step": step, "iid_accuracy": step / 10})

    lines = read_metrics(run.path / "metrics.jsonl")

    assert [line["step"] for line in lines] == [0, 2, 4]
    assert lines[-1] == {"step": 4, "iid_accuracy": 0.4}


def damaged(tmp_path: Path, data: Path, name: str, content: bytes) -> TrainConfig:
    """A run that stopped just before its end, with a file that is not as the run wrote it."""
    config = tiny_config(data, tmp_path / "run", steps=2, eval_every=2)
    run = RunFolder(train(config))
    (run.path / "final.safetensors").unlink()
    run.save_progress({"step": 2})
    (run.path / name).write_bytes(content)
    return config


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b'{"data_finger'),
        ("run.json", b"[1]"),
        ("run.json", b"{}"),
        ("run.json", b'{"data_fingerprint": 5, "pretrained_sha256": null}'),
        ("resume.pt", b""),
        ("resume.pt", b"hello"),
        ("resume.pt", b"PK\x03\x04aaaa"),
    ],
)
def test_a_damaged_file_is_one_sentence_when_the_run_is_resumed(
    name: str, content: bytes, tmp_path: Path, data: Path
) -> None:
    config = damaged(tmp_path, data, name, content)
    before = contents(tmp_path / "run")
    with pytest.raises(InputError, match=rf"run/{name}' .*restore") as error:
        train(config)
    assert "\n" not in str(error.value)
    assert contents(tmp_path / "run") == before


def test_progress_of_another_kind_is_refused_and_may_be_deleted(
    tmp_path: Path, data: Path
) -> None:
    config = damaged(tmp_path, data, "unrelated", b"")
    with pytest.raises(InputError, match="delete it to begin with the first step again"):
        train(config)
    (tmp_path / "run" / "resume.pt").unlink()
    train(config)
    whole = train(replace(config, output=str(tmp_path / "whole")))
    assert files(tmp_path / "run") == files(whole) | {"unrelated": b""}


@pytest.mark.parametrize("content", [b'{"step": 0}\n{"st', b"[1]", b'{"step": "x"}', b"{}"])
def test_damaged_metrics_are_one_sentence(config: TrainConfig, content: bytes) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    (run.path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.jsonl.*restore the file"):
        run.append_metrics({"step": 4})
    assert (run.path / "metrics.jsonl").read_bytes() == content


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on the size of a file")
def test_progress_that_finds_no_space_leaves_the_last_one(config: TrainConfig) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    run.save_progress({"step": 2})
    before = contents(run.path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(
            InputError, match=r"resume.pt' cannot be written .File too large.*room"
        ):
            run.save_progress({"step": 4, "model": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(run.path) == before


def test_finishing_removes_what_only_resuming_needs(config: TrainConfig) -> None:
    run = RunFolder.open(config, FACTS, INIT)
    run.append_metrics({"step": 0})
    run.save_weights("final", INIT, config, 6)
    kept = set(contents(run.path))
    run.save_progress({"step": 6})
    for leftover in (".resume.pt.17.tmp", ".metrics.jsonl.17.tmp", ".best.safetensors.17.tmp"):
        (run.path / leftover).write_text("half")  # of a process that was killed while writing

    run.finish()

    assert run.finished
    assert set(contents(run.path)) == kept
    run.finish()


class Killed(Exception):
    """Stands for the power cut."""


@contextmanager
def killed_at_write(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> Generator[list[str], None, None]:
    """Every file appears by a rename; the given one does not happen any more."""
    written: list[str] = []

    def counted(rename: str) -> None:
        original = getattr(Path, rename)

        def replacement(self: Path, target: Path) -> Path:
            if len(written) == number:
                raise Killed
            written.append(Path(target).name)
            return original(self, target)

        patch.setattr(Path, rename, replacement)

    with monkeypatch.context() as patch:
        counted("replace")
        counted("rename")
        yield written


def test_a_run_killed_at_any_write_ends_with_the_same_files(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"steps": 3, "eval_every": 2, "average": (1,), "average_from": 1}
    whole = tiny_config(data, tmp_path / "whole", checkpoint_every=2, **options)
    with killed_at_write(1_000, monkeypatch) as writes:
        expected = files(train(whole))

    assert {"whole", "step_000002.safetensors", "resume.pt", "final.safetensors"} <= set(writes)
    for number, name in enumerate(writes):
        config = replace(whole, output=str(tmp_path / f"killed{number}"))
        with pytest.raises(Killed), killed_at_write(number, monkeypatch):
            train(config)
        assert files(train(config)) == expected, f"killed before {name} was written"


def test_the_scale_of_fp16_gradients_is_resumed_too(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_default_dtype(torch.float32)
    whole = tiny_config(data, tmp_path / "whole", amp="fp16", optimizer="adamw")
    with killed_at_write(1_000, monkeypatch) as writes:
        expected = files(train(whole))
    third = [number for number, name in enumerate(writes) if name == "resume.pt"][2]
    config = replace(whole, output=str(tmp_path / "killed"))
    with pytest.raises(Killed), killed_at_write(third, monkeypatch):
        train(config)

    with caplog.at_level(logging.INFO):
        assert files(train(config)) == expected
    assert "resuming" in caplog.text and "at step 2" in caplog.text
