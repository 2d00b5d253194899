"""All runs of a sweep, on a backend, with the time to go."""

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from core.errors import InputError
from finetuning.sweep.backends import Backend, Here
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.names import RunConfig
from finetuning.sweep.running import LOCKS, Job, Outcome, is_finished


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
        backend: Where; by default in this process, one after the other.
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
    (root / LOCKS).mkdir(parents=True, exist_ok=True)
    waiting = [config for config in configs if not is_finished(config)]
    found = {output: Outcome(output, 0.0) for output in outputs}
    if waiting:
        backend = backend or Here()
        forecast = forecast or Forecast(waiting, backend.jobs)
        forecast.sweeping(waiting, backend.jobs)
        results = backend.results([Job(one, root) for one in waiting])
        for outcome in with_time_to_go(results, forecast):
            found[outcome.folder] = outcome
            tell(outcome)
    return [found[output] for output in outputs]


def _check_distinct(outputs: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for output in outputs:
        if output in seen:
            raise InputError(f"two runs have the output '{output}'; a folder each was expected")
        seen.add(output)


def with_time_to_go(outcomes: Iterable[Outcome], forecast: Forecast) -> Generator[Outcome]:
    """The same outcomes, of which the forecast and a progress bar take note."""
    shown = "{desc}: {n_fmt}/{total_fmt} runs in {elapsed}{postfix}"
    total, done = len(forecast.kinds), len(forecast.done)
    with tqdm(total=total, initial=done, desc="sweep", bar_format=shown) as bar:
        for outcome in outcomes:
            forecast.ended(outcome)
            bar.set_postfix_str(forecast.sentence(), refresh=False)
            bar.update(len(forecast.done) - bar.n)
            yield outcome
