"""Files and folders that appear whole or not at all, whatever kills the process.

Both are written under a hidden name beside their own and renamed. A folder that a killed process
left unfinished is removed by the next one that writes the same output.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from core.errors import InputError
from core.permissions import usual_permissions

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing swept
    fcntl = None

UNFINISHED = ".unfinished"
_GRACE = 60.0  # seconds that a folder may take from its creation to its lock
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

log = logging.getLogger(__name__)


def check_new(output: Path) -> None:
    """Refuse a folder that already exists or cannot be created.

    Raises:
        InputError: If `output` exists, or its nearest existing parent is not writable.
    """
    if os.path.lexists(output):
        raise InputError(
            f"'{output}' already exists and is never overwritten; a new folder was expected: "
            "choose another --output or move the old one away"
        )
    check_writable(output)


def check_writable(output: Path) -> None:
    """Refuse a path below a file or below a folder without write permission.

    Raises:
        InputError: If nothing can be created at `output`.
    """
    parent = next(p for p in [output, *output.absolute().parents] if os.path.exists(p))
    if not parent.is_dir():
        raise InputError(
            f"cannot create '{output}': '{parent}' is a file; choose another --output"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", suffix=UNFINISHED, dir=parent):
            return
    except OSError as error:
        raise InputError(
            f"cannot write to '{parent}' ({error.strerror}); a writable folder was expected: "
            "choose another --output"
        ) from error


@contextmanager
def new_folder(output: Path) -> Generator[Path, None, None]:
    """A temporary folder beside `output` that becomes `output` when the block succeeds.

    Raises:
        InputError: If `output` exists or cannot be created, or the disk is full.
    """
    check_new(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(output)
        with tempfile.TemporaryDirectory(
            prefix=f".{output.name}.", suffix=UNFINISHED, dir=output.parent
        ) as parent:
            folder = Path(parent) / output.name
            folder.mkdir()
            with _locked(Path(parent)):
                yield folder
                check_new(output)
                folder.rename(output)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise _not_written(output, error) from error


@contextmanager
def whole_file(path: Path, *, parents: bool = False) -> Generator[Path, None, None]:
    """A hidden name beside `path` for the block to write, which then replaces `path`.

    Args:
        path: The file to write or replace.
        parents: Create the folder that it lies in.

    Raises:
        InputError: If it cannot be written, such as on a full disk; `path` stays as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with usual_permissions(unfinished):
            yield unfinished
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        raise _not_written(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _not_written(path: Path, error: Exception) -> InputError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return InputError(
        f"'{path}' cannot be written ({reason}); an existing, writable folder with space left was "
        "expected: make room and run the same command again, or choose another --output"
    )


def remove_abandoned(output: Path) -> None:
    """Remove what processes left of this output that were killed while they created it.

    Such a folder bears the output's name and ours (`.NAME.XXXXXXXX.unfinished`), and nobody holds
    its lock, which the system takes back from a process that dies, on whatever machine it ran.
    """
    ours = re.compile(rf"\.{re.escape(output.name)}\.\w{{8}}{re.escape(UNFINISHED)}")
    for folder in output.parent.iterdir():
        if ours.fullmatch(folder.name) and _is_abandoned(folder):
            log.info("removing '%s', which a killed process left unfinished", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        if folder.is_symlink() or time.time() - folder.stat().st_mtime < _GRACE:
            return False
        with _locked(folder) as was_free:
            return was_free
    except OSError:  # removed meanwhile, or somebody else's
        return False


@contextmanager
def held(lock: Path) -> Generator[bool, None, None]:
    """Hold a lock file for the block, and say whether nobody else held it.

    The file stays. The system frees the lock when its process ends, however that ends.
    """
    lock.touch()
    with _locked(lock) as was_free:
        yield was_free or fcntl is None


@contextmanager
def _locked(folder: Path) -> Generator[bool, None, None]:
    """Hold the lock of a folder or a file, and say whether it was free.

    Some network file systems lock no folder; there it counts as held, and nothing is removed.
    """
    if fcntl is None:
        yield False
        return
    # Over NFS only what is open for writing can be locked, and no folder can be.
    handle = os.open(folder, os.O_RDONLY if folder.is_dir() else os.O_RDWR)
    try:
        was_free = False
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            was_free = True
        yield was_free
    finally:
        os.close(handle)


def free_name(folder: Path) -> Path:
    """`folder` if nothing is there, otherwise `folder-2`, `folder-3` or the first one free."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in range(2, 1_000_000))
    return folder if not folder.exists() else next(path for path in numbered if not path.exists())
