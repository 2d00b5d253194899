r"""Make a grid of runs, several at once; the same command goes on where one was interrupted.

    python -m finetuning.sweep                                       # the embedded digits
    python -m finetuning.sweep --grid grid.yaml --output runs/pacs --dry_run
    python -m finetuning.sweep --grid grid.yaml --output runs/pacs --jobs 2
    python -m finetuning.sweep --grid grid.yaml --output runs/pacs --backend dask \
        --scheduler HOST:8786
    python -m finetuning.sweep --grid grid.yaml --output runs/pacs --backend slurm \
        --slurm '{slurm_partition: gpu, gpus_per_node: 1, timeout_min: 240}'

What a grid is: `finetuning.sweep.grid`. Several such commands may share a folder, from several
machines that see it. Exit status 1: some run failed, all others are finished.

::

    runs.csv        which options each folder stands for, and how its run stands
    runs.parquet    accuracies of the finished runs, for analysis
    1f0c.../        run folders, named by a hash of their options
    failures/       tracebacks of runs that ended with a defect
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from core.command_line import run
from core.outputs import check_writable
from finetuning.sweep.backends import Backend
from finetuning.sweep.clusters import backend_of
from finetuning.sweep.config import EXAMPLE, SweepConfig
from finetuning.sweep.grid import Grid, configurations, read_grids
from finetuning.sweep.names import RunConfig, command_of, differing_options
from finetuning.sweep.running import ELSEWHERE, Outcome, is_finished, wait_for_one
from finetuning.sweep.schedule import sweep
from finetuning.sweep.table import INDEX, check_tables, write_frame, write_index

FAILED = 1  # exit status

log = logging.getLogger(__name__)


def run_sweep(config: SweepConfig) -> list[Outcome]:
    """Make all runs of the grids, write the tables, and return the runs that failed.

    Raises:
        InputError: If a grid, the backend or the output makes no sense, before any run is made.
    """
    root = Path(config.output)
    if config.grid == EXAMPLE:
        log.info("no --grid was given: two runs on the embedded digits")
        grids = [Grid(vary={"drop_rate": [0.0, 0.9]})]
    else:
        grids = read_grids(Path(config.grid))
    configs = configurations(grids, root)
    check_writable(root)
    check_tables(root)
    if config.dry_run:
        _list(configs)
        return []
    with backend_of(config) as backend:
        outcomes = _sweep_all(configs, root, backend)
    write_frame(root)
    return [outcome for outcome in outcomes if outcome.failure]


def _list(configs: Sequence[RunConfig]) -> None:
    differing = differing_options(configs)
    for config in configs:
        standing = "finished" if is_finished(config) else "waiting"
        options = [
            f"{name}={getattr(config, name)}" for name in differing if hasattr(config, name)
        ]
        print(Path(config.output).name, standing, command_of(config), *options)
    print(f"{len(configs)} runs")


def _sweep_all(configs: Sequence[RunConfig], root: Path, backend: Backend) -> list[Outcome]:
    """Outcomes of all runs, those that other processes are at waited for."""
    outcomes: dict[Path, Outcome] = {}

    def tell(outcome: Outcome) -> None:
        outcomes[outcome.folder] = outcome
        write_index(configs, outcomes, root / INDEX)

    left = list(configs)
    write_index(configs, outcomes, root / INDEX, parents=True)
    while left:
        done = sweep(left, root, backend, tell)
        outcomes |= {outcome.folder: outcome for outcome in done}
        left = [config for config in left if outcomes[Path(config.output)].failure == ELSEWHERE]
        if left:
            log.info("waiting for %d runs that other processes are at", len(left))
        wait_for_one(left, root)
    write_index(configs, outcomes, root / INDEX)
    return [outcomes[Path(config.output)] for config in configs]


def main() -> None:
    """Entry point of `python -m finetuning.sweep`."""
    run(_command, SweepConfig)


def _command(config: SweepConfig) -> None:
    failed = run_sweep(config)
    for outcome in failed:
        log.error("failed: %s: %s", outcome.folder, outcome.failure)
    if failed:
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
