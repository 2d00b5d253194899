"""Tests for core/command_line.py."""

import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

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


def test_a_printed_configuration_is_read_back(tmp_path: Path) -> None:
    options = Options(envs=("a",), rate=0.25, milestones=(3,))
    file = tmp_path / "run.yaml"
    file.write_text(as_yaml(options))
    assert parse(Options, ["--config", str(file)]) == options
    assert parse(Options, ["--config", str(file), "--rate", "0.5"]) == replace(options, rate=0.5)


def test_print_config_is_yaml(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(Options, ["--rate", "0.75", "--print_config"])
    assert exit_.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["rate"] == pytest.approx(0.75)


def test_a_configuration_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match="no text"):
        parse(Options, ["--config", str(tmp_path / "run.yaml")])


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


def test_being_terminated_ends_like_an_interrupt_with_143(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    cleaned = []

    def terminated(_: Options) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as exit_:
        run(terminated, Options)
    assert exit_.value.code == 143
    assert capsys.readouterr().err == "interrupted; the same command resumes where it stopped\n"
    assert cleaned and signal.getsignal(signal.SIGTERM) is before


IMPATIENT = """
import os, signal, sys, tempfile
from dataclasses import dataclass
from core.command_line import run

@dataclass(frozen=True, kw_only=True)
class Nothing:
    '''No options.'''

def action(_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)

class Closing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

sys.closing = Closing()
sys.argv = ["command"]
run(action, Nothing)
"""


def test_a_second_and_a_third_interrupt_still_end_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        # A shell that starts the tests in the background makes their children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted; the same command resumes where it stopped\n"


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


def test_wrong_input_that_an_action_finds_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refusing(_: Options) -> None:
        raise InputError("no images in 'x'; expected some")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as exit_:
        run(refusing, Options)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: no images in 'x'; expected some\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--envs"], Options(envs=())),
        (["--envs", "a"], Options(envs=("a",))),
        (["--envs=[a, b]"], Options(envs=("a", "b"))),
        (["--envs", "[a, b]"], Options(envs=("a", "b"))),
        (["--envs", "1", "yes", "null"], Options(envs=("1", "yes", "null"))),  # words, not YAML
        (["--envs", "it's", 'a "b"', "c: d"], Options(envs=("it's", 'a "b"', "c: d"))),
        (["--compile", "--envs", "a"], Options(envs=("a",), compile=True)),
        (["--compile", "false"], Options()),
        (["--compile=true"], Options(compile=True)),
        (["--freeze"], Options(freeze=True)),
        (["--rate", "-1e-3"], Options(rate=-1e-3)),
        (["--milestones", "7"], Options(milestones=(7,))),
    ],
)
def test_ways_to_write_an_option(words: list[str], expected: Options) -> None:
    assert parse(Options, words) == expected


@pytest.mark.parametrize(
    "words", [["stray"], ["--milestones", "1", "two"], ["--compile", "maybe"]]
)
def test_values_of_the_wrong_type_exit_with_2(
    words: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(Options, words)
    assert exit_.value.code == 2
    assert "error" in capsys.readouterr().err


def test_the_configuration_that_is_printed_is_the_one_that_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["--envs", "a b", "c", "--milestones", "1", "2", "--compile"]
    with pytest.raises(SystemExit):
        parse(Options, [*words, "--print_config"])
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)

    assert parse(Options, ["--config", str(file)]) == parse(Options, words)


def test_help_explains_every_option(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(Options, ["--help"], about="What it does.\n\nDetails.")
    said = capsys.readouterr().out

    assert exit_.value.code == 0
    assert "What it does." in said and "Details" not in said
    assert "Environments." in said and "Rate." in said


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1), ("2gb", 2 * 10**9), (" 1.5 MB ", 1_500_000), ("3k", None)]
)
def test_sizes_in_bytes(text: str, expected: int | None) -> None:
    if expected is None:
        with pytest.raises(InputError, match="such as 2GB"):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == expected


def test_an_equals_sign_works_for_lists_too() -> None:
    options = parse(Options, ["--envs=ink", "--milestones=5", "--compile", "--rate=0.25"])
    assert options == Options(envs=("ink",), milestones=(5,), compile=True, rate=0.25)
