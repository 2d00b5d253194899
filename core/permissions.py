"""Who may read a new file."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def usual_permissions(path: Path) -> Generator[None, None, None]:
    """The block writes `path`, which then has the permissions that the umask gives a new file.

    safetensors lets nobody but the owner read what it writes, so that colleagues and other
    machines on a shared disk could not.
    """
    path.touch()  # the umask itself cannot be read without changing it for all threads
    mode = path.stat().st_mode
    yield
    path.chmod(mode)
