"""What runs and measurements share in whatever process they land: a lock, a GPU, a way to fail.

A task that begins says so in its lock file, where it stands until the task has ended, whatever
becomes of the process. That tells which tasks a process that died was at.
"""

import os
import re
import socket
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch

from core.errors import InputError
from core.outputs import held, whole_file

LOCKS = ".locks"
FAILURES = "failures"
_BEGUN = "begun"
_LOOK_EVERY = 1.0  # seconds between looks at a lock that another process holds

Result = TypeVar("Result")
Returned = TypeVar("Returned", covariant=True)


@runtime_checkable
class Task(Protocol[Returned]):
    """What a backend does, mostly in a process of its own."""

    @property
    def lock(self) -> Path:
        """The file that is locked meanwhile, in a folder that exists."""
        ...

    def __call__(self) -> Returned:
        """Do it."""
        ...

    def failed(self, reason: str) -> Returned:
        """What to say in place of a result."""
        ...


@dataclass(frozen=True)
class Placed(Generic[Result]):
    """A task as it is sent to another process, wherever that is.

    Attributes:
        task: What is to be done there.
        threads: Threads that it may compute with; None for those that the process has.
        directory: Where relative paths start.
    """

    task: Task[Result]
    threads: int | None = None
    directory: str = field(default_factory=os.getcwd)

    def __call__(self) -> Result:
        """Do it.

        Raises:
            InputError: If this process does not see the directory.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if not Path(self.directory).is_dir():
            raise InputError(
                f"there is no folder '{self.directory}' on {socket.gethostname()}; one that all "
                "machines see was expected: start the command in such a folder"
            )
        with chdir(self.directory):
            return self.task()


@contextmanager
def begun(lock: Path) -> Generator[bool]:
    """Hold a task's lock for the block, and say whether nobody else held it."""
    with held(lock) as is_ours:
        if is_ours:
            lock.write_text(_BEGUN)
        yield is_ours
        if is_ours:
            lock.write_text("")


@contextmanager
def begun_when_free(lock: Path) -> Generator[None]:
    """Hold a task's lock for the block, as soon as no other process does.

    Another one is the last of a killed command, which ends with its task.
    """
    while True:
        with begun(lock) as is_ours:
            if is_ours:
                yield
                return
        time.sleep(_LOOK_EVERY)


def has_begun(lock: Path) -> bool:
    """Whether a process began with the task and has not ended it, perhaps because it died."""
    return lock.is_file() and lock.read_text() == _BEGUN


@contextmanager
def own_gpu(root: Path) -> Generator[None]:
    """The block computes on the GPU of this machine that fewest tasks of the folder are on.

    The options still say `auto`, so that a resumed task may land on another one.
    """
    num_gpus = torch.cuda.device_count()
    places = ((place, gpu) for place in count() for gpu in range(num_gpus))
    for place, gpu in places if num_gpus > 1 else ():
        with held(root / LOCKS / f"{socket.gethostname()} gpu {gpu} {place}") as is_free:
            if is_free:
                with torch.cuda.device(gpu):
                    yield
                return
    yield


def attempted(action: Callable[[], Result], report: Path) -> tuple[Result | None, str]:
    """What an action returns, and why it returns nothing: empty where it does.

    A defect of ours, or memory that does not suffice, leaves its traceback in `report`: other
    tasks may still be done. What ends the process goes on to end it.
    """
    try:
        return action(), ""
    except InputError as error:
        return None, str(error)
    except Exception as error:
        return None, _reported(error, report)


def _reported(error: Exception, file: Path) -> str:
    """A sentence, with the traceback in a file of its own."""
    with whole_file(file, parents=True) as path:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what:.200}; an end without a defect was expected: see the traceback in '{file}'"


def death(error: Exception) -> str:
    """What to say of a task whose process has died again when it was tried once more."""
    codes = re.search(r"exit codes of the workers are .*", str(error))
    reason = codes[0] if codes else " ".join(str(error).split())
    return (
        f"its process died at every attempt ({reason:.200}); a process that ends was expected: "
        "give it more memory, or less to do at once"
    )
