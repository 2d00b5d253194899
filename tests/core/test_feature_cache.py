"""Tests for core/feature_cache.py."""

import logging
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from core.feature_cache import FeatureCache, cache_key, default_folder

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
KEY = cache_key({"layer": "features"})


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def write(cache: FeatureCache, rows: np.ndarray = ROWS, batch: int = 3) -> None:
    with cache.writing(KEY, len(rows)) as writer:
        for start in range(0, len(rows), batch):
            writer.append(rows[start : start + batch])


def left_over(cache: FeatureCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_rows_come_back_as_they_were(cache: FeatureCache, dtype: type, batch: int) -> None:
    write(cache, ROWS.astype(dtype), batch)
    matrix = cache.read(KEY)
    assert isinstance(matrix, np.memmap)
    assert matrix.dtype == dtype
    np.testing.assert_array_equal(matrix, ROWS)
    np.testing.assert_array_equal(np.load(cache.path(KEY)), ROWS)  # by anybody else, too
    assert left_over(cache) == [f"{KEY}.npy"]


def test_rows_of_another_memory_order_come_back_as_they_were(cache: FeatureCache) -> None:
    with cache.writing(KEY, 3) as writer:
        writer.append(ROWS.T)
    np.testing.assert_array_equal(cache.read(KEY), ROWS.T)


def test_what_was_never_written_is_not_there(cache: FeatureCache) -> None:
    assert cache.read(KEY) is None
    assert not cache.folder.exists()  # reading alone makes no folder


def test_a_matrix_in_use_does_not_change_the_file(cache: FeatureCache) -> None:
    write(cache)
    matrix = cache.read(KEY)
    assert matrix is not None
    matrix[:] = 0
    np.testing.assert_array_equal(cache.read(KEY), ROWS)


@pytest.mark.parametrize("size", [0, 10, 128, -1, -32, -33])
def test_a_truncated_file_is_noticed(
    cache: FeatureCache, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(cache)
    whole = cache.path(KEY).read_bytes()
    cache.path(KEY).write_bytes(whole[:size])
    with caplog.at_level(logging.WARNING):
        assert cache.read(KEY) is None
    assert "damaged" in caplog.text
    write(cache)
    np.testing.assert_array_equal(cache.read(KEY), ROWS)


def test_every_flipped_bit_is_noticed(cache: FeatureCache) -> None:
    write(cache)
    whole = cache.path(KEY).read_bytes()
    for position in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        cache.path(KEY).write_bytes(flipped)
        assert cache.read(KEY) is None, position


def test_an_appended_byte_is_noticed(cache: FeatureCache) -> None:
    write(cache)
    with cache.path(KEY).open("ab") as file:
        file.write(b"x")
    assert cache.read(KEY) is None


def test_an_error_in_the_middle_leaves_nothing(cache: FeatureCache) -> None:
    with pytest.raises(KeyboardInterrupt), cache.writing(KEY, 4) as writer:
        writer.append(ROWS[:3])
        raise KeyboardInterrupt
    assert left_over(cache) == []
    assert cache.read(KEY) is None


@pytest.mark.parametrize("num_rows", [3, 5])
def test_another_number_of_rows_than_announced_leaves_nothing(
    cache: FeatureCache, num_rows: int
) -> None:
    with pytest.raises(ValueError, match="4 rows were written"), cache.writing(KEY, num_rows) as w:
        w.append(ROWS)
    assert left_over(cache) == []


def test_rows_of_another_width_or_type_are_refused(cache: FeatureCache) -> None:
    for other in (ROWS[:, :2], ROWS.astype(np.float64)):
        with pytest.raises(ValueError, match="the first ones were"), cache.writing(KEY, 8) as w:
            w.append(ROWS)
            w.append(other)
    assert left_over(cache) == []


SCRIPT = """
import os, signal, sys
import numpy as np
from core.feature_cache import FeatureCache

folder, key, action, value = sys.argv[1:]
rows = np.full((2000, 50), float(value), np.float32)
for _ in range(1 if action == "kill" else 15):
    with FeatureCache(folder).writing(key, 4000) as writer:
        writer.append(rows)
        if action == "kill":
            writer.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        writer.append(rows)
"""


def process(cache: FeatureCache, action: str, value: int) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    arguments = [str(cache.folder), KEY, action, str(value)]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(cache: FeatureCache) -> None:
    with process(cache, "kill", 1) as killed:
        assert killed.wait() == -signal.SIGKILL
    (unfinished,) = cache.folder.iterdir()
    assert unfinished.name.startswith(".")
    assert cache.read(KEY) is None

    write(cache)  # what is left may still be growing in another process
    assert unfinished.exists()
    day_before = time.time() - 25 * 3600
    os.utime(unfinished, (day_before, day_before))
    write(cache)
    assert left_over(cache) == [f"{KEY}.npy"]
    np.testing.assert_array_equal(cache.read(KEY), ROWS)


def test_processes_that_write_the_same_entry_at_once_do_not_damage_it(
    cache: FeatureCache, caplog: pytest.LogCaptureFixture
) -> None:
    processes = [process(cache, "write", value) for value in (1, 2)]
    num_read = 0
    while any(p.poll() is None for p in processes):
        matrix = cache.read(KEY)
        if matrix is not None:
            assert matrix.shape == (4000, 50)
            assert matrix.min() == matrix.max() in {1, 2}
            num_read += 1
    assert [p.wait() for p in processes] == [0, 0]
    assert num_read
    assert cache.read(KEY) is not None
    assert "damaged" not in caplog.text
    assert left_over(cache) == [f"{KEY}.npy"]


def test_no_more_than_a_batch_is_in_memory(cache: FeatureCache) -> None:
    batch = np.ones((100, 1000), np.float32)
    tracemalloc.start()
    with cache.writing(KEY, 100 * len(batch)) as writer:
        for _ in range(100):
            writer.append(batch)
    matrix = cache.read(KEY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert matrix is not None
    assert matrix.nbytes == 40_000_000
    assert peak < 4_000_000


def test_the_default_folder_follows_the_xdg_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/lazyrich") == FeatureCache().folder
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/anyone")
    assert default_folder() == Path("/home/anyone/.cache/lazyrich")


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file" / "cache")
    assert cache.read(KEY) is None
    with pytest.raises(InputError, match="cannot be written .*choose another --cache"):
        write(cache)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_a_sentence(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = Path.open
    monkeypatch.setattr(Path, "open", lambda _path, _mode: open_file(Path("/dev/full"), "wb"))
    with pytest.raises(InputError, match="No space left on device.*choose another --cache"):
        write(cache, np.ones((1000, 100), np.float32))


def test_errors_of_others_inside_the_block_stay_what_they_are(cache: FeatureCache) -> None:
    with pytest.raises(FileNotFoundError, match="image"), cache.writing(KEY, 4):
        raise FileNotFoundError("an image is gone")
    assert left_over(cache) == []


def test_equal_identities_have_equal_keys_and_others_others() -> None:
    identities = [{}, {"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1]}, {"a": {"b": 1}}]
    assert len({cache_key(identity) for identity in identities}) == len(identities)
    assert cache_key({"a": 1, "b": (2, 3)}) == cache_key({"b": [2, 3], "a": 1})


def test_another_schema_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key({"a": 1})
    monkeypatch.setattr("core.feature_cache.SCHEMA_VERSION", 2)
    assert cache_key({"a": 1}) != before
