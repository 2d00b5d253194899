"""Feature matrices on disk, each of them whole or not there at all.

An entry is one file, `<key>.npy`, which `numpy.load` reads as usual. The last 32 bytes, behind the
array, are the SHA-256 of everything before them: a truncated or altered file is noticed, and one
rename publishes array and checksum together, whoever else writes the same entry.

Shapes: N examples, D features, B examples in a batch.
"""

import hashlib
import io
import json
import logging
import os
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from core.errors import InputError

SCHEMA_VERSION = 1  # raised whenever the same identity would give other numbers
_DIGEST = hashlib.sha256().digest_size
_CHUNK = 1 << 20
_ABANDONED = 24 * 3600.0  # seconds without a write

log = logging.getLogger(__name__)


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/lazyrich`, or `~/.cache/lazyrich`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lazyrich"


def cache_key(identity: Mapping[str, object]) -> str:
    """SHA-256 over all that a matrix depends on, as 64 hexadecimal digits.

    Args:
        identity: What JSON can hold; anything else counts as its text.

    Example:
        >>> cache_key({"layer": "features", "dtype": "float32"})[:8]
        'd79acb13'
    """
    document = {"schema_version": SCHEMA_VERSION, **identity}
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


class FeatureCache:
    """A folder of feature matrices by key.

    Args:
        folder: Where they lie (default: `default_folder()`); made when first written to.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder)

    def path(self, key: str) -> Path:
        """Where the entry of a key lies, or would lie."""
        return self.folder / f"{key}.npy"

    def read(self, key: str) -> Float[np.memmap, "N D"] | None:
        """The matrix of a key, mapped and not read; None where it must be (re)made.

        The map is private ("copy on write"): the file is never changed through it, and PyTorch
        takes it without the warning that it has for read-only arrays.

        Raises:
            InputError: If the folder or the file may not be read.
        """
        path = self.path(key)
        with _explained(self.folder, "read"):
            if not path.is_file():
                return None
            if not _is_intact(path):
                log.warning("'%s' is damaged (its checksum differs); it is made again", path)
                return None
            return np.load(path, mmap_mode="c")

    @contextmanager
    def writing(self, key: str, num_rows: int) -> Generator["EntryWriter", None, None]:
        """A writer whose rows become the entry when the block succeeds, and nothing otherwise.

        Raises:
            InputError: If the folder cannot be written, or has no space left.
        """
        # Unique among processes, threads and machines that share the folder.
        unfinished = self.folder / f".{key}.{uuid.uuid4().hex}.tmp"
        with _explained(self.folder, "written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            file = unfinished.open("xb")
        try:
            writer = EntryWriter(file, num_rows)
            yield writer
            writer.finish()
            with _explained(self.folder, "written"):
                file.close()
                unfinished.replace(self.path(key))
        finally:
            with suppress(OSError):  # of a full disk, which has been reported already
                file.close()
            unfinished.unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        """Delete what killed processes left; a living one writes far more often than daily."""
        for file in self.folder.glob(".*.tmp"):
            try:
                if time.time() - file.stat().st_mtime > _ABANDONED:
                    file.unlink()
            except FileNotFoundError:  # another process was quicker
                continue


class EntryWriter:
    """Rows to a .npy file as they come; neither the matrix nor a second pass is needed."""

    def __init__(self, file: BinaryIO, num_rows: int) -> None:
        self.file, self.num_rows = file, num_rows
        self.num_written, self.digest = 0, hashlib.sha256()
        self._row: tuple[np.dtype, int] | None = None

    def append(self, rows: Float[np.ndarray, "B D"]) -> None:
        """Write the next rows; the first ones say how many columns there are, and their type."""
        row = (rows.dtype, rows.shape[1])
        if self._row is None:
            self._row = row
            self._write(_header(rows.dtype, (self.num_rows, rows.shape[1])))
        if row != self._row:
            raise ValueError(f"rows are {row}, the first ones were {self._row}")
        self._write(np.ascontiguousarray(rows).tobytes())
        self.num_written += len(rows)

    def finish(self) -> None:
        """Write the checksum.

        Raises:
            ValueError: If there were fewer or more rows than announced.
            InputError: If the disk is full.
        """
        if self.num_written != self.num_rows:
            raise ValueError(f"{self.num_written} rows were written, {self.num_rows} announced")
        with _explained(Path(self.file.name).parent, "written"):
            self.file.write(self.digest.digest())
            self.file.flush()

    def _write(self, content: bytes) -> None:
        with _explained(Path(self.file.name).parent, "written"):
            self.file.write(content)
        self.digest.update(content)


@contextmanager
def _explained(folder: Path, verb: str) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the feature cache '{folder}' cannot be {verb} ({error.strerror or error}); a folder "
            "of one's own with space left was expected: choose another --cache"
        ) from error


def _header(dtype: np.dtype, shape: tuple[int, int]) -> bytes:
    """What a .npy file begins with."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    facts = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def _is_intact(path: Path) -> bool:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - _DIGEST
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        return digest.digest() == file.read()
