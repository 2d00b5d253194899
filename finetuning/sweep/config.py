"""Options of `python -m finetuning.sweep`, and those of all that makes many runs."""

from dataclasses import dataclass
from typing import Any, Literal

from core.errors import InputError

EXAMPLE = "example"


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Where tasks are done, and how many at a time."""

    backend: Literal["loky", "dask", "ray", "slurm"] = "loky"
    """Processes of this machine (loky), a dask or ray cluster, or SLURM."""
    jobs: int = 0
    """Tasks at a time (default: one a GPU, or else one a core; on a cluster one a worker; 100 of
    SLURM)."""
    scheduler: str | None = None
    """Address of the dask scheduler or the ray cluster (default: a cluster on this machine)."""
    slurm: dict[str, Any] | None = None
    """Parameters of submitit's executor as YAML: '{slurm_partition: gpu, timeout_min: 240}'."""

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
                "how many tasks are done at a time: leave --jobs out"
            )
        if self.slurm is not None and self.backend != "slurm":
            raise InputError(
                f"--slurm was given with --backend {self.backend}; slurm was expected: leave one "
                "out"
            )

    @property
    def is_here(self) -> bool:
        """Whether all tasks are done on this machine."""
        return self.backend != "slurm" and self.scheduler is None


@dataclass(frozen=True, kw_only=True)
class SweepConfig(BackendOptions):
    """Options of `python -m finetuning.sweep`."""

    grid: str = EXAMPLE
    """YAML file with a grid of runs, or several; `example` is two runs on the embedded digits."""
    output: str = "runs/sweep"
    """Folder of the runs; one that holds some is added to, and nothing in it is made again."""
    dry_run: bool = False
    """List the runs and make none."""
