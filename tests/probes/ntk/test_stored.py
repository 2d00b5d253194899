"""Tests for probes/ntk/stored.py: kernels on disk, by several processes and devices."""

import importlib
import itertools
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import InputError
from probes.ntk import empirical_ntk, stored, stored_ntk
from probes.ntk.exact import Kernel
from probes.ntk.ledger import Ledger
from probes.ntk.progress import watched
from probes.ntk.tiles import num_pairs, rows_of_tiles
from tests.probes.ntk.stored_kernels import NUM, Images, assert_near, network

pytestmark = pytest.mark.usefixtures("small_tiles")


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("disk", ["1GB", 0])
@pytest.mark.parametrize("rectangular", [False, True])
@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
def test_the_file_holds_the_kernel(
    outputs: str, rectangular: bool, disk: str | int, blocks: bool, problem: tuple, output: Path
) -> None:
    x2 = problem[2][3:8] if rectangular else None
    options = {"outputs": outputs, "blocks": blocks}
    truth = empirical_ntk(*problem, x2, **options)  # type: ignore[call-issue]
    found = stored_ntk(*problem, x2, output=output, disk=disk, **options)  # type: ignore[call-issue]
    assert_near(found, truth)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    if blocks:
        assert isinstance(truth, dict) and found.dtype.names == tuple(truth)
    assert [path.name for path in output.parent.iterdir()] == ["K.npy"]


def test_a_small_kernel_is_one_tile(
    problem: tuple, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "SMALL", NUM)
    tiles = []
    write = Ledger.write
    monkeypatch.setattr(
        Ledger, "write", lambda self, *args: tiles.append(args) or write(self, *args)
    )
    assert_near(
        stored_ntk(*problem, output=output, blocks=True), empirical_ntk(*problem, blocks=True)
    )
    assert len(tiles) == 1


def test_too_small_a_disk_says_how_much_it_takes(
    problem: tuple, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        stored_ntk(*problem, output=output, outputs="trace", disk="1B")
    assert "gradients need disk='1GB' to be computed once" in caplog.text


@pytest.mark.parametrize("method", ["reference", "dense"])
def test_methods_and_combinations(method: str, problem: tuple, output: Path) -> None:
    options = {"outputs": torch.randn(3, 2), "method": method}
    assert_near(stored_ntk(*problem, output=output, **options), empirical_ntk(*problem, **options))


@pytest.mark.slow
def test_several_processes_give_the_same(problem: tuple, output: Path) -> None:
    truth = stored_ntk(*problem, output=output, outputs="trace")
    threads = torch.get_num_threads()
    found = stored_ntk(*problem, output=output.with_name("2.npy"), outputs="trace", jobs=2)
    assert_near(found, truth)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("disk", ["1GB", 0])
def test_devices_take_rows_in_turn(
    disk: str | int, problem: tuple, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, on = [], Kernel.on
    monkeypatch.setattr(
        Kernel, "on", lambda self, device: moved.append(device) or on(self, device)
    )
    with joblib.parallel_config(backend="threading"):
        found = stored_ntk(*problem, output=output, disk=disk, devices=["cpu", "cpu"])
    assert_near(found, empirical_ntk(*problem))
    assert len(moved) == (4 if disk else 2)  # two tasks, gradients first where they are kept


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus(problem: tuple, output: Path) -> None:
    found = stored_ntk(*problem, output=output, devices=["cuda:0", "cuda:1"])
    assert_near(found, empirical_ntk(*problem))


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_clusters(backend: str, problem: tuple, output: Path) -> None:
    options = {"output": output, "outputs": "trace", "jobs": 2}
    if backend == "dask":
        distributed = pytest.importorskip("dask.distributed")
        cluster = distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, joblib.parallel_config(backend="dask"):
            found = stored_ntk(*problem, **options)
    else:
        pytest.importorskip("ray")
        importlib.import_module("ray.util.joblib").register_ray()
        with joblib.parallel_config(backend="ray"):
            found = stored_ntk(*problem, **options)
    assert_near(found, empirical_ntk(*problem, outputs="trace"))


@pytest.mark.parametrize("disk", ["1GB", 0])
def test_examples_are_read_a_few_at_a_time(disk: str | int, problem: tuple, output: Path) -> None:
    model, params, x = problem
    x = x.repeat(6, 1, 1, 1) + torch.randn(66, 1, 1, 1)
    lazy = Images(x), Images(x[:40])
    found = stored_ntk(model, params, *lazy, output=output, outputs="trace", disk=disk)
    assert_near(found, empirical_ntk(model, params, x, x[:40], outputs="trace"))
    assert max(images.most for images in lazy) <= stored.READ_AT_ONCE


def test_examples_of_the_wrong_number_are_said(problem: tuple, output: Path) -> None:
    class Short(Images):
        def __getitem__(self, part: slice) -> Tensor:
            return self.x[part][:9]

    model, params, x = problem
    with pytest.raises(InputError, match=r"0 to 11 of Short are \(9, 2, 6, 6\); a tensor of 11"):
        stored_ntk(model, params, Short(x), output=output)


def test_an_existing_output_stays(problem: tuple, output: Path) -> None:
    output.write_text("mine")
    with pytest.raises(InputError, match="already exists and is never overwritten"):
        stored_ntk(*problem, output=output)
    assert output.read_text() == "mine"


def test_wrong_places_leave_nothing(problem: tuple, output: Path) -> None:
    (output.parent / "file").write_text("")
    with pytest.raises(InputError, match="is a file; choose another"):
        stored_ntk(*problem, output=output.parent / "file" / "K.npy")
    for options, sentence in (
        ({"memory": "1MB"}, "does not hold one pair of examples; give at least"),
        ({"memory": "1MB", "jobs": 2}, "1 MB for 2 processes does not hold"),
        ({"jobs": 0}, "jobs is 0"),
        ({"devices": ["gpu9"]}, "device 'gpu9' cannot be used"),
        ({"disk": "much"}, "not a size"),
    ):
        with pytest.raises(InputError, match=sentence):
            stored_ntk(*problem, output=output, **options)
    assert [path.name for path in output.parent.iterdir()] == ["file"]


def test_a_full_disk_is_said_first(
    problem: tuple, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(stored.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"take 0\.0 GB, .* has 0\.0 GB left"):
        stored_ntk(*problem, output=output)
    assert not list(output.parent.iterdir())


def test_values_that_are_no_numbers_are_said(problem: tuple, output: Path) -> None:
    model, params, x = problem
    x[8] = torch.nan
    with pytest.raises(InputError, match=r"examples 0 to 2 with 8 to 10 holds NaN"):
        stored_ntk(model, params, x, output=output, outputs="trace")


@pytest.mark.parametrize("others", [None, 5])
@pytest.mark.parametrize(("height", "width"), [(11, 4), (4, 2), (3, 3), (1, 1)])
def test_tiles_cover_every_pair_once(others: int | None, height: int, width: int) -> None:
    seen = np.zeros((NUM, others or NUM), int)
    pairs = 0
    for tile in itertools.chain(*rows_of_tiles(NUM, others, height, width)):
        seen[tile.rows, tile.cols] += 1
        if others is None and tile.rows != tile.cols:
            seen.T[tile.rows, tile.cols] += 1
        pairs += num_pairs(tile, symmetric=others is None)
    assert (seen == 1).all()
    assert pairs == (NUM * (NUM + 1) // 2 if others is None else seen.size)


def test_the_bar_begins_at_what_is_done(capsys: pytest.CaptureFixture) -> None:
    done = [4]
    with watched(10, lambda: done[0], "pair", shown=True):
        done[0] = 10
    shown = capsys.readouterr().err
    assert " 4/10" in shown.partition("\r")[2].split("\r")[0] and "10/10" in shown


def test_weights_made_for_inference_are_differentiated_all_the_same(output: Path) -> None:
    with torch.inference_mode():
        frozen = network()
        x = torch.randn(3, 2, 6, 6)
    model = network()
    truth = empirical_ntk(model, dict(model.named_parameters()), x.clone())
    weights = dict(frozen.named_parameters())
    assert_near(empirical_ntk(frozen, weights, x), truth)
    assert_near(stored_ntk(frozen, weights, x, output=output), truth)
