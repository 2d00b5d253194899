"""Many runs, several at once: finished ones are skipped, failures reported, none runs twice.

    from finetuning.sweep import Grid, Processes, configurations, sweep

    grid = Grid(options={"data": "PACS"}, vary={"drop_rate": [0, 0.9], "seed": [0, 1, 2]})
    with Processes(2) as backend:
        outcomes = sweep(configurations([grid], Path("runs")), Path("runs"), backend)

`python -m finetuning.sweep` does the same with a grid in a YAML file.
"""

from finetuning.sweep.backends import Backend, Here
from finetuning.sweep.clusters import backend_of
from finetuning.sweep.config import BackendOptions
from finetuning.sweep.grid import Grid, configurations, read_grids
from finetuning.sweep.names import RunConfig, run_name
from finetuning.sweep.processes import Processes
from finetuning.sweep.running import LOCKS, Outcome, is_finished
from finetuning.sweep.schedule import sweep

__all__ = [
    "LOCKS",
    "Backend",
    "BackendOptions",
    "Grid",
    "Here",
    "Outcome",
    "Processes",
    "RunConfig",
    "backend_of",
    "configurations",
    "is_finished",
    "read_grids",
    "run_name",
    "sweep",
]
