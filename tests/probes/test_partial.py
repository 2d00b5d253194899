"""Tests for probes/partial.py."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from core.errors import InputError
from probes.partial import Arrays, PartialResults


class Counter:
    """A part that counts how often it is computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"0000|a||None": np.array([[1.5, np.nan], [2.0, 0.0]]), "0001|b||1.0": np.eye(2)}


@pytest.fixture
def partial(tmp_path: Path) -> PartialResults:
    return PartialResults.beside(tmp_path / "record")


def test_a_part_is_computed_once_and_comes_back_bit_for_bit(partial: PartialResults) -> None:
    part = Counter()
    first = partial.load_or_compute({"env": "ink"}, part)
    again = PartialResults(partial.folder).load_or_compute({"env": "ink"}, part)
    assert part.calls == 1
    assert first.keys() == again.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize(
    "other", [{"env": "ink", "seed": 1}, {"env": "photo", "seed": 0}, {"env": "ink"}]
)
def test_another_identity_is_another_part(partial: PartialResults, other: dict) -> None:
    part = Counter()
    partial.load_or_compute({"env": "ink", "seed": 0}, part)
    partial.load_or_compute(other, part)
    partial.load_or_compute({"seed": 0, "env": "ink"}, part)  # the order does not matter
    assert part.calls == 2


def test_a_killed_part_leaves_nothing(partial: PartialResults) -> None:
    def killed() -> Arrays:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partial.load_or_compute({"env": "ink"}, killed)
    assert not partial.folder.exists()


def test_a_part_that_was_killed_while_it_was_written_is_computed_again(
    partial: PartialResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Counter()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            partial.load_or_compute({"env": "ink"}, part)
    assert not list(partial.folder.glob("*.safetensors"))
    partial.load_or_compute({"env": "ink"}, part)
    assert part.calls == 2
    assert [path.suffix for path in partial.folder.iterdir()] == [".safetensors"]


def test_a_part_may_be_read_by_whom_the_umask_lets(partial: PartialResults) -> None:
    partial.load_or_compute({"env": "ink"}, Counter())
    plain = partial.folder / "plain"
    plain.touch()
    assert {path.stat().st_mode for path in partial.folder.iterdir()} == {plain.stat().st_mode}


@pytest.mark.parametrize("damage", [b"", b"half", b"\xff" * 100])
def test_a_damaged_part_is_computed_again_and_says_so(
    partial: PartialResults, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    part = Counter()
    expected = partial.load_or_compute({"env": "ink"}, part)
    (file,) = partial.folder.iterdir()
    file.write_bytes(damage)
    again = partial.load_or_compute({"env": "ink"}, part)
    assert part.calls == 2 and "is computed again" in caplog.text
    np.testing.assert_array_equal(again["0001|b||1.0"], expected["0001|b||1.0"])
    partial.load_or_compute({"env": "ink"}, part)
    assert part.calls == 2


def test_a_full_disk_is_one_sentence(
    partial: PartialResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("probes.partial.save_file", full)
    with pytest.raises(InputError, match="cannot be written .*No space left.*make room"):
        partial.load_or_compute({"env": "ink"}, Counter())
    assert not list(partial.folder.iterdir())


def test_removing_forgets_everything(partial: PartialResults) -> None:
    partial.remove()  # nothing there yet
    part = Counter()
    partial.load_or_compute({"env": "ink"}, part)
    partial.remove()
    assert not partial.folder.exists()
    partial.load_or_compute({"env": "ink"}, part)
    assert part.calls == 2


def test_parts_lie_hidden_beside_their_record(tmp_path: Path) -> None:
    folder = PartialResults.beside(tmp_path / "record").folder
    assert folder.parent == tmp_path
    assert folder.name.startswith(".")
    assert folder != PartialResults.beside(tmp_path / "record-2").folder
