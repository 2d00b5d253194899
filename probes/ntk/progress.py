"""A bar for work that other processes do, of which only the outcome can be seen."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS = 0.5  # between two looks


@contextmanager
def watched(
    total: int, done: Callable[[], int], unit: str, *, shown: bool
) -> Generator[None, None, None]:
    """A bar beside the block that begins at what is done, and looks again and again.

    Args:
        total: All there is to do.
        done: How much of it is done now.
        unit: What is counted.
        shown: Whether there is a bar at all.
    """
    if not shown:
        yield
        return
    stopped = threading.Event()
    with tqdm(total=total, initial=done(), unit=unit, leave=None) as bar:

        def look() -> None:
            while not stopped.wait(SECONDS):
                bar.update(done() - bar.n)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopped.set()
            watcher.join()
            bar.update(done() - bar.n)
