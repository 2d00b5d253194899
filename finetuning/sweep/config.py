"""Options of `python -m finetuning.sweep`."""

from dataclasses import dataclass
from typing import Any, Literal

from core.errors import InputError

EXAMPLE = "example"


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Options of `python -m finetuning.sweep`."""

    grid: str = EXAMPLE
    """YAML file with a grid of runs, or several; `example` is two runs on the embedded digits."""
    output: str = "runs/sweep"
    """Folder of the runs; one that holds some is added to, and nothing in it is made again."""
    backend: Literal["loky", "dask", "ray", "slurm"] = "loky"
    """Where runs are made: processes of this machine, a dask or ray cluster, or SLURM."""
    jobs: int = 0
    """Runs at a time (default: one a GPU, or else one a core; on a cluster one a worker; 100 tasks
    of SLURM)."""
    scheduler: str | None = None
    """Address of the dask scheduler or the ray cluster (default: a cluster on this machine)."""
    slurm: dict[str, Any] | None = None
    """Parameters of submitit's executor as YAML: '{slurm_partition: gpu, timeout_min: 240}'."""
    dry_run: bool = False
    """List the runs and make none."""

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise InputError(f"--jobs is {self.jobs}; at least 0 was expected")
        if self.scheduler is not None and self.backend not in {"dask", "ray"}:
            raise InputError(
                f"--scheduler was given with --backend {self.backend}, which has none; dask or "
                "ray was expected: leave one out"
            )
        if self.scheduler is not None and self.jobs and self.backend == "dask":
            raise InputError(
                "--scheduler and --jobs were both given; the workers of a dask scheduler decide "
                "how many runs are made at a time: leave --jobs out"
            )
        if self.slurm is not None and self.backend != "slurm":
            raise InputError(
                f"--slurm was given with --backend {self.backend}; slurm was expected: leave one "
                "out"
            )
