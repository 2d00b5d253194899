"""Tests for core/outputs.py."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.errors import InputError
from core.outputs import check_new, check_writable, free_name, new_folder, whole_file

ROOT = Path(__file__).parents[2]
CREATE = """
import pathlib, sys, time
from core.outputs import new_folder
with new_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def age(folder: Path) -> None:
    """Makes a folder older than any process needs from creation to lock."""
    then = time.time() - 3600
    os.utime(folder, (then, then))


def start_creating(output: Path) -> subprocess.Popen:
    """A process in the middle of creating a folder."""
    command = [sys.executable, "-c", CREATE, str(output)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def create(output: Path) -> None:
    with new_folder(output) as folder:
        (folder / "file").write_text("x")


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "r") as inside:
        (inside / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    create(tmp_path / "r")
    with pytest.raises(InputError, match="already exists"), new_folder(tmp_path / "r"):
        pass
    assert (tmp_path / "r" / "file").read_text() == "x"


def test_a_link_to_nothing_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "r").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="already exists"):
        check_new(tmp_path / "r")


def test_below_a_file_nothing_can_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_new(tmp_path / "file" / "deep" / "r")


def test_a_name_that_no_file_system_takes_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name too long.*choose another --output"):
        check_writable(tmp_path / ("n" * 300))


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already exists"), new_folder(tmp_path / "r") as inside:
        (inside / "ours").write_text("ours")
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "theirs").write_text("theirs")

    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert (tmp_path / "r" / "theirs").read_text() == "theirs"


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "r") as inside:
        (inside / "file").write_text("x")
        assert not (tmp_path / "deep" / "r").exists()

    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r"]
    assert (tmp_path / "deep" / "r" / "file").read_text() == "x"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    sentence = "No space left on device.*make room and run the same command again"
    with pytest.raises(InputError, match=sentence), new_folder(tmp_path / "r") as inside:
        (inside / "half").write_text("half")
        full()
    assert list(tmp_path.iterdir()) == []


def test_another_error_in_the_block_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "r"):
        (tmp_path / "nowhere").read_text()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process = start_creating(tmp_path / "r")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (left,) = hidden(tmp_path)
    age(left)

    create(tmp_path / "other")
    assert hidden(tmp_path) == [left]  # only the same output's
    create(tmp_path / "r")
    assert hidden(tmp_path) == []


def test_what_another_process_is_creating_stays(tmp_path: Path) -> None:
    process = start_creating(tmp_path / "r")
    try:
        (theirs,) = hidden(tmp_path)
        age(theirs)
        create(tmp_path / "r")
        assert (theirs / "r" / "half").read_text() == "half"
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_what_may_still_be_on_its_way_to_its_lock_and_what_is_not_ours_stays(
    tmp_path: Path,
) -> None:
    young = tmp_path / ".r.abcdefgh.unfinished"
    others = [tmp_path / name for name in (".r.abcdefgh", ".r.git", ".r.x.abcdefgh.unfinished")]
    (tmp_path / "precious").mkdir()
    link = tmp_path / ".r.linklink.unfinished"
    link.symlink_to(tmp_path / "precious")
    for folder in (young, *others):
        folder.mkdir()
    for folder in others:
        age(folder)

    create(tmp_path / "r")

    assert {*hidden(tmp_path)} == {young, link, *others}


def test_a_file_is_replaced_whole_with_the_permissions_of_the_umask(tmp_path: Path) -> None:
    plain, file = tmp_path / "plain", tmp_path / "file"
    plain.touch()
    file.write_text("old")
    with whole_file(file) as unfinished:
        save_file({"a": np.ones(2)}, unfinished)  # which only its owner may read
        assert file.read_text() == "old"

    assert file.stat().st_mode == plain.stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "file"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_file_that_is_not_finished_leaves_the_old_one(
    error: type[BaseException], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(error), whole_file(tmp_path / "file") as unfinished:
        unfinished.write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_file_on_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    sentence = "file' cannot be written .No space left on device.*make room"
    with pytest.raises(InputError, match=sentence), whole_file(tmp_path / "file") as unfinished:
        unfinished.write_text("half")
        full()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_folders_are_created_for_a_file_where_asked_for(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a" / "b" / "file", parents=True) as unfinished:
        unfinished.write_text("x")
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"
    with (
        pytest.raises(InputError, match="existing, writable folder"),
        whole_file(tmp_path / "c" / "file"),
    ):
        pass


def test_free_names_are_numbered(tmp_path: Path) -> None:
    assert free_name(tmp_path / "r") == tmp_path / "r"
    (tmp_path / "r").mkdir()
    (tmp_path / "r-2").mkdir()
    assert free_name(tmp_path / "r") == tmp_path / "r-3"
