r"""Kernels of many examples, tile by tile to disk, by several processes or on several devices.

.. math:: K(x, x')_{cd} = \langle \nabla_\theta f_c(x), \nabla_\theta f_d(x') \rangle

The gradients of every example, as factors, go to disk first (`probes.ntk.factor_files`), as long
as they fit there; then rows of tiles are contracted from them. Without the disk a row keeps its
own factors and differentiates the others again.

Shapes: N and M examples, C outputs, R combinations of outputs.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import joblib
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from core.command_line import parse_bytes
from core.device import full_precision, select_device
from core.errors import InputError
from probes.ntk.capture import Weights
from probes.ntk.checks import network_of
from probes.ntk.exact import Kernel, Method
from probes.ntk.examples import (
    Examples,
    examples_digest,
    model_digest,
    text_digest,
    weights_digest,
)
from probes.ntk.factor_files import FactorFiles
from probes.ntk.ledger import Facts, Ledger, begin, begun, mapped, partial_folder
from probes.ntk.plan import Plan
from probes.ntk.tasks import Task, capture_all, fill_all

log = logging.getLogger(__name__)

LEAST_ROWS = 8  # of tiles, so that a killed process loses little,
LEAST_HEIGHT = 16  # as long as they have as many examples, fewer of which would take as long
ROWS_A_TASK = 4  # so that tasks take about the same time, though rows of a triangle do not
SMALL = 128  # examples: a kernel that is computed again rather than continued
READ_AT_ONCE = 16  # examples


@torch.inference_mode(False)
@full_precision()
def stored_ntk(
    model: Module,
    params: Weights,
    x1: Examples,
    x2: Examples | None = None,
    *,
    output: str | Path,
    outputs: Literal["full", "trace", "diagonal"] | Float[Tensor, "C R"] = "full",
    blocks: bool | Mapping[str, str] = False,
    layer: str = "logits",
    method: Method = "auto",
    memory: int | str | None = None,
    disk: int | str = "20GB",
    jobs: int | None = None,
    devices: Sequence[str | torch.device] | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> np.memmap:
    """`empirical_ntk` into a file that need not fit into memory.

    Called again after it was killed, it continues: at most the tiles and the gradients that were
    being computed are lost. The file appears under its name when it is whole.

    Args:
        model: As for `empirical_ntk`, like all that is not listed here.
        params: Weights to differentiate by, by name.
        x1: Examples: a tensor, or anything that has a length and gives a slice of itself as a
            tensor, such as images read from disk. Copied to every process.
        x2: Others; without, the kernel is that of `x1` with itself.
        output: NumPy file (.npy) of float64 to create; with `blocks`, it has one field a block.
        outputs: `full` (N, C, M, C), `trace` (N, M), `diagonal` (N, M, C) or combinations.
        blocks: One field by group of weights.
        layer: `logits`, `features` or the name of a module.
        method: As for `empirical_ntk`.
        memory: Bytes for all processes together, for all but the examples and the result.
        disk: Bytes beside the output for gradients, while the kernel is computed. If those of all
            examples do not fit, they are computed again for every row of tiles.
        jobs: Processes, on the backend that `joblib.parallel_config` sets: loky, dask or ray, with
            `output` on a disk that they share. As many as it says unless given, or one a device.
        devices: Where the tasks run, in turn; where `params` lie unless given.
        dtype: Precision of the network.
        progress: Show bars.

    Returns:
        The file, memory-mapped and read-only.

    Raises:
        InputError: As `empirical_ntk`; if `output` exists or cannot be written; if an unfinished
            kernel beside it is one of other weights, examples or options, was begun with larger
            tiles than `memory` holds now, or is damaged; if the disk is too full.

    Example:
        >>> import tempfile
        >>> layer = torch.nn.Linear(2, 1, bias=False).eval()
        >>> weights, x = dict(layer.named_parameters()), torch.eye(2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kernel = stored_ntk(layer, weights, x, output=f"{folder}/K.npy", outputs="trace")
        ...     kernel.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    output = Path(output)
    folder = partial_folder(output)
    places = [select_device(str(device)) for device in devices or ()]
    room = parse_bytes(disk) if isinstance(disk, str) else disk
    workers = _workers(jobs, places)
    kernel = Kernel(network_of(model, params, layer, dtype), outputs, blocks, method, memory)
    kernel.prepare(x1, x2, workers, places)
    problem = Problem(kernel, x1, x2)
    on_disk = problem.keeps_gradients(room, workers)
    identity = problem.identity(outputs=outputs, layer=layer, method=method)
    kernel.plan = problem.opened(output, identity, workers, on_disk=on_disk)
    factors = FactorFiles(folder / "factors", kernel.plan.width) if on_disk else None
    task = Task(kernel, x1, x2, folder, factors, workers)
    tasks = [
        replace(task, device=places[i % len(places)]) if places else task for i in range(workers)
    ]
    if factors is not None:
        capture_all(tasks, factors, progress=progress)
    ledger = Ledger(folder)
    fill_all(tasks, ledger, progress=progress)
    ledger.finish(output)
    return mapped(output)


def _workers(jobs: int | None, places: Sequence[torch.device]) -> int:
    if jobs == 0:
        raise InputError("jobs is 0; a number of processes, or -1 for all cores, was expected")
    if jobs is None and places:
        return len(places)
    return joblib.effective_n_jobs(jobs)  # type: ignore[arg-type] - None is what joblib is set to


def _check_space(output: Path, needed: int) -> None:
    parent = next(p for p in output.absolute().parents if p.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise InputError(
            f"the kernel and its gradients take {needed / 1e9:.1f} GB, '{parent}' has "
            f"{free / 1e9:.1f} GB left; choose another output, or a smaller disk to keep fewer "
            "gradients"
        )


@dataclass(frozen=True)
class Problem:
    """A kernel of given examples: how large it is, what it depends on, how it is cut."""

    kernel: Kernel
    x1: Examples
    x2: Examples | None

    @property
    def num_others(self) -> int | None:
        """M, if the columns are others than the rows."""
        return None if self.x2 is None else len(self.x2)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.kernel.shape(len(self.x1), len(self.x1 if self.x2 is None else self.x2))

    @property
    def dtype(self) -> np.dtype:
        """Type of its entries: float64, or one for every block."""
        names = dict.fromkeys(self.kernel.groups.values())
        whole = self.kernel.whole
        return np.dtype(np.float64 if whole else [(name, np.float64) for name in names])

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def factor_bytes(self) -> int:
        """Bytes of the gradients of all examples."""
        return (len(self.x1) + (self.num_others or 0)) * self.kernel.budget.need.stored

    def identity(self, **options: object) -> dict[str, str]:
        """Digests of all that the values depend on."""
        network = self.kernel.network
        sides = [x for x in (self.x1, self.x2) if x is not None]
        return {
            "model": model_digest(network.model),
            "weights": weights_digest(network.weights | network.others),
            "examples": text_digest(*(examples_digest(x, READ_AT_ONCE) for x in sides)),
            "blocks": text_digest(sorted(self.kernel.groups.items())),
            **{name: text_digest(option) for name, option in options.items()},
        }

    def keeps_gradients(self, disk: int, workers: int) -> bool:
        """Whether the gradients of all examples lie on the disk; a small kernel needs none."""
        if self.kernel.method == "reference" or self.at_once(workers) is not None:
            return False
        if self.factor_bytes <= disk:
            return True
        needed = self.factor_bytes / 1e9 + 1
        log.info("gradients need disk='%.0fGB' to be computed once", needed)
        return False

    def opened(
        self, output: Path, identity: dict[str, str], workers: int, *, on_disk: bool
    ) -> Plan:
        """The plan of a kernel that is begun now, or was by an earlier process."""
        folder = partial_folder(output)
        self.kernel.plan = self.at_once(workers) or self.plan(workers, captured=on_disk)
        facts = begun(folder, identity)
        if facts is None:
            _check_space(output, self.nbytes + (self.factor_bytes if on_disk else 0))
            facts = self.facts(identity)
            begin(folder, facts, self.shape, self.dtype)
        return self.continued(facts, folder)

    def at_once(self, workers: int) -> Plan | None:
        """A small kernel as one tile, which nothing is kept for and a kill costs little."""
        if self.kernel.method == "reference" or workers > 1 or self.x2 is not None:
            return None
        return self.kernel.budget.one_tile(len(self.x1)) if len(self.x1) <= SMALL else None

    def plan(self, workers: int, *, captured: bool) -> Plan:
        """As large as fits, in rows for all processes that are whole numbers of columns."""
        num, budget = len(self.x1), self.kernel.budget
        if self.kernel.method == "reference":
            return self.kernel.plan_in_memory(num, self.num_others)
        budget.check(captured=captured)
        plan = budget.tiles(num, self.num_others or num, captured=captured)
        rows = max(LEAST_ROWS, ROWS_A_TASK * workers)
        height = min(plan.height, max(LEAST_HEIGHT, -(-num // rows)))
        width = min(plan.width, height)
        return replace(plan, height=height - height % width, width=width)

    def facts(self, identity: dict[str, str]) -> Facts:
        """What a later process has to know."""
        num, plan = len(self.x1), self.kernel.plan
        height, width = plan.height, plan.width
        return Facts(
            identity=identity, num=num, others=self.num_others, height=height, width=width
        )

    def continued(self, facts: Facts, folder: Path) -> Plan:
        """The plan with the tiles that were begun.

        Raises:
            InputError: If they are larger than the budget holds.
        """
        if self.kernel.plan.rounds and facts["height"] == facts["num"]:
            return self.kernel.plan
        plan = replace(self.kernel.plan, height=facts["height"], width=facts["width"], rounds=())
        if self.kernel.method != "reference" and not self.kernel.budget.holds(plan):
            raise InputError(
                f"'{folder}' was begun with tiles of {plan.height} x {plan.width} examples, "
                f"which {self.kernel.memory / 1e6:.0f} MB do not hold in every process; give "
                "more memory, use fewer jobs, or remove the folder to begin again"
            )
        return plan
