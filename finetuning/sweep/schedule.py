"""All runs of a sweep, on a backend, with the time to go."""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from core.errors import InputError
from finetuning.sweep.backends import Backend, Joblib
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.names import RunConfig
from finetuning.sweep.running import LOCKS, Outcome, is_finished


def sweep(
    configs: Sequence[RunConfig],
    root: Path,
    backend: Backend | None = None,
    tell: Callable[[Outcome], object] = lambda outcome: None,
    forecast: Forecast | None = None,
) -> list[Outcome]:
    """Run everything that is not finished, in the order given.

    A run holds a lock while it trains, so that a second sweep over the same folder leaves it to
    the first; the system takes the lock back from a process that dies, and the next sweep resumes
    the run where it stopped.

    Args:
        configs: Runs with distinct outputs.
        root: A folder that every process sees; locks lie in it.
        backend: Where; by default what `joblib.parallel_config` sets.
        tell: Called with every outcome as it comes.
        forecast: Of this sweep and of others that follow; by default of this one alone.

    Returns:
        One outcome a run, in the order of `configs`. A run that another sweep is at has failed
        here, and says so.

    Raises:
        InputError: If two runs have the same output.
    """
    outputs = [Path(config.output) for config in configs]
    _check_distinct(outputs)
    backend = backend or Joblib()
    (root / LOCKS).mkdir(parents=True, exist_ok=True)
    waiting = [config for config in configs if not is_finished(config)]
    found = {}
    if waiting:
        forecast = forecast or Forecast(waiting, backend.jobs)
        forecast.sweeping(waiting, backend.jobs)
        for outcome in _with_time_to_go(backend.outcomes(waiting, root), forecast):
            found[outcome.folder] = outcome
            tell(outcome)
    return [found.get(output, Outcome(output, 0.0)) for output in outputs]


def _check_distinct(outputs: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for output in outputs:
        if output in seen:
            raise InputError(f"two runs have the output '{output}'; a folder each was expected")
        seen.add(output)


def _with_time_to_go(outcomes: Iterable[Outcome], forecast: Forecast) -> Generator[Outcome]:
    shown = "{desc}: {n_fmt}/{total_fmt} runs in {elapsed}{postfix}"
    total, done = len(forecast.kinds), len(forecast.done)
    with _quiet_bars(), tqdm(total=total, initial=done, desc="sweep", bar_format=shown) as bar:
        for outcome in outcomes:
            forecast.ended(outcome)
            bar.set_postfix_str(forecast.sentence(), refresh=False)
            bar.update(len(forecast.done) - bar.n)
            yield outcome


@contextmanager
def _quiet_bars() -> Generator[None]:
    """No bar for every single run in the processes that are started meanwhile."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before
