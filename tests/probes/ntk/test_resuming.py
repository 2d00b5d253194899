"""Tests for probes/ntk/stored.py: what an interrupted kernel left, and how it goes on."""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from core.errors import InputError
from probes.ntk import empirical_ntk, stored, stored_ntk
from probes.ntk.exact import Kernel
from probes.ntk.ledger import Ledger
from probes.ntk.tiles import rows_of_tiles
from tests.probes.ntk.stored_kernels import NUM, assert_near

pytestmark = pytest.mark.usefixtures("small_tiles")
KILLED = """
import os, signal, sys
import torch
from stored_kernels import network
from probes.ntk import stored, stored_ntk
from probes.ntk.ledger import Ledger

torch.set_default_dtype(torch.float64)
stored.LEAST_HEIGHT, stored.SMALL, write, left = 2, 0, Ledger.write, [5]

def then_die(self, tile, parts):
    if not left[0]:  # in the middle of a tile
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    write(self, tile, parts)

Ledger.write = then_die
model, x = network(), torch.load(sys.argv[1])
options = {"outputs": "trace", "disk": int(sys.argv[3])}
stored_ntk(model, dict(model.named_parameters()), x, output=sys.argv[2], **options)
"""


@pytest.mark.parametrize("disk", [10**9, pytest.param(0, marks=pytest.mark.slow)])
def test_a_killed_process_loses_one_tile(
    disk: int, problem: tuple, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(problem[2], output.with_name("x.pt"))
    words = [sys.executable, "-c", KILLED, str(output.with_name("x.pt")), str(output), str(disk)]
    killed = subprocess.run(words, env=_environment(), capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not output.exists()
    before = np.load(output.with_name(".K.npy.partial") / "kernel.npy")
    assert 0 < np.count_nonzero(before) < before.size

    tiles = _counted(monkeypatch, Ledger, "write")
    passes = _counted(monkeypatch, Kernel, "factors")
    found = stored_ntk(*problem, output=output, outputs="trace", disk=disk)
    assert len(tiles) == sum(map(len, rows_of_tiles(NUM, None, 2, 2))) - 5
    assert not (disk and passes)  # all gradients were on disk
    assert np.array_equal(found[before != 0], before[before != 0])
    assert_near(found, empirical_ntk(*problem, outputs="trace"))


def _environment() -> dict[str, str]:
    path = [str(Path(__file__).parent), str(Path(__file__).parents[2]), *filter(None, sys.path)]
    return {"PYTHONPATH": ":".join(path), "OMP_NUM_THREADS": "1"}


def _counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list:
    """Calls of a method from now on."""
    calls, method = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: calls.append(args) or method(*args))
    return calls


@pytest.fixture
def interrupted(problem: tuple, output: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Starts a kernel that stops after two tiles."""

    def start(**options: object) -> Path:
        with monkeypatch.context() as patch:
            calls, write = itertools.count(), Ledger.write
            stop = lambda *args: write(*args) if next(calls) < 2 else _stop()
            patch.setattr(Ledger, "write", stop)
            with pytest.raises(KeyboardInterrupt):
                stored_ntk(*problem, output=output, outputs="trace", **options)
        return output.with_name(".K.npy.partial")

    return start


def _stop() -> None:
    raise KeyboardInterrupt


def test_more_jobs_and_another_disk_may_continue(
    interrupted: Callable, problem: tuple, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted()
    tiles = _counted(monkeypatch, Ledger, "write")
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = stored_ntk(*problem, output=output, outputs="trace", disk=0)
    assert_near(found, empirical_ntk(*problem, outputs="trace"))
    assert len(tiles) == sum(map(len, rows_of_tiles(NUM, None, 2, 2))) - 2


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"params": lambda p: {n: 2 * w for n, w in p.items()}}, "weights"),
        ({"x1": lambda x: x + 1e-9}, "examples"),
        ({"x1": lambda x: x[:-1]}, "examples"),
        ({"outputs": "diagonal"}, "outputs"),
        ({"blocks": True}, "blocks"),
        ({"layer": "4"}, "layer"),
        ({"method": "dense"}, "method"),
        ({"dtype": torch.float32}, "weights"),
    ],
)
def test_another_kernel_is_refused(
    other: dict, name: str, interrupted: Callable, problem: tuple, output: Path
) -> None:
    folder = interrupted()
    before = (folder / "kernel.npy").read_bytes()
    model, params, x = problem
    call = {"params": params, "x1": x, "outputs": "trace"}
    call |= {n: value(call[n]) if callable(value) else value for n, value in other.items()}
    with pytest.raises(InputError, match=f"unfinished kernel with another {name}; the same"):
        stored_ntk(model, output=output, **call)
    assert (folder / "kernel.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("facts.json", lambda path: path.write_text("{")),
        ("facts.json", lambda path: path.write_text(json.dumps({"num": 3}))),
        ("kernel.npy", lambda path: path.write_bytes(path.read_bytes()[:300])),
        ("done.npy", lambda path: path.write_bytes(b"")),
        ("done.npy", lambda path: np.save(path, np.zeros(3, bool))),
        ("factors/0_00000002.safetensors", lambda path: path.write_bytes(b"")),
    ],
)
def test_damaged_files_are_said_and_not_used(
    name: str, spoil: Callable, interrupted: Callable, problem: tuple, output: Path
) -> None:
    spoil(interrupted() / name)
    with pytest.raises(InputError, match="remove it and run the same command again"):
        stored_ntk(*problem, output=output, outputs="trace")


def test_gradients_that_were_removed_come_again(
    interrupted: Callable, problem: tuple, output: Path
) -> None:
    (interrupted() / "factors/0_00000002.safetensors").unlink()
    found = stored_ntk(*problem, output=output, outputs="trace")
    assert_near(found, empirical_ntk(*problem, outputs="trace"))


def test_what_a_finished_kernel_left_is_removed(
    interrupted: Callable, problem: tuple, output: Path
) -> None:
    (interrupted() / "kernel.npy").unlink()  # killed right after the rename
    found = stored_ntk(*problem, output=output, outputs="trace")
    assert_near(found, empirical_ntk(*problem, outputs="trace"))


def test_larger_tiles_than_the_budget_holds_are_refused(
    interrupted: Callable, problem: tuple, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "LEAST_HEIGHT", 6)
    interrupted()
    with pytest.raises(InputError, match="give at least") as error:
        stored_ntk(*problem, output=output, outputs="trace", memory=1)
    least = str(error.value).rpartition(" ")[2]
    monkeypatch.setattr("probes.ntk.plan.Budget.holds", lambda *_: False)
    with pytest.raises(InputError, match="begun with tiles of 6 x 6 examples.*fewer jobs"):
        stored_ntk(*problem, output=output, outputs="trace", memory=least)
