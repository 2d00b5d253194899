"""Tests for core/command_line.py."""

import sys
from dataclasses import dataclass

import pytest
import yaml

from core.command_line import as_yaml, parse, parse_bytes, run
from core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a command."""

    envs: tuple[str, ...] = ()
    """Environments."""
    milestones: tuple[int, ...] | None = None
    """Steps."""
    compile: bool = False
    """Compile."""
    freeze: bool | None = None
    """Freeze."""
    rate: float = 0.5
    """Rate."""

    def __post_init__(self) -> None:
        if self.rate >= 1:
            raise InputError(f"rate is {self.rate}")


def test_words_flags_and_lists() -> None:
    words = ["--envs", "a b", "c,d", "--milestones", "1", "2", "--compile", "--freeze", "false"]
    expected = Options(envs=("a b", "c,d"), milestones=(1, 2), compile=True, freeze=False)
    assert parse(Options, words) == expected


def test_a_printed_configuration_is_read_back(tmp_path: pytest.TempPathFactory) -> None:
    options = Options(envs=("a",), rate=0.25, milestones=(3,))
    file = tmp_path / "run.yaml"  # type: ignore[operator]
    file.write_text(as_yaml(options))
    assert parse(Options, ["--config", str(file)]) == options
    assert parse(Options, ["--config", str(file), "--rate", "0.5"]).rate == 0.5


def test_print_config_is_yaml(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(Options, ["--rate", "0.75", "--print_config"])
    assert exit_.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["rate"] == 0.75


@pytest.mark.parametrize("words", [["--nonsense", "1"], ["--rate", "many"], ["--rate", "1.5"]])
def test_wrong_input_exits_with_2(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *words])
    with pytest.raises(SystemExit) as exit_:
        run(lambda _: None, Options)
    assert exit_.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(_: Options) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as exit_:
        run(interrupted, Options)
    assert exit_.value.code == 130
    assert "resumes" in capsys.readouterr().err


def test_our_own_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(_: Options) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(ZeroDivisionError):
        run(defect, Options)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0MB", "3 parsecs"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="is not a size"):
        parse_bytes(text)
    assert parse_bytes("2GB") == 2 * parse_bytes("1000 MB")
