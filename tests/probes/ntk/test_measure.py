"""Tests for probes/ntk/measure.py and the command, end to end on a tiny run."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors.torch import load_file

from analysis.estimates import select
from core.errors import InputError
from core.models import weight_groups
from core.records import Record
from finetuning.config import TrainConfig
from finetuning.train import train
from probes.kernel_space import (
    centred,
    effective_rank,
    kernel_distance,
    label_alignment,
    one_hot,
)
from probes.ntk import __main__ as command
from probes.ntk import empirical_ntk, stored
from probes.ntk.config import NtkConfig
from probes.ntk.ledger import Ledger
from probes.ntk.measure import KernelBench, measure
from probes.pairs import load_pairs
from probes.partial import PartialResults

TINY = {"samples": 6, "permutations": 5, "device": "cpu"}
WORDS = ["--samples", "6", "--permutations", "5", "--device", "cpu"]


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of three steps that kept the weights after each."""
    torch.set_default_dtype(torch.float32)
    output = str(tmp_path_factory.mktemp("runs") / "erm")
    options = {"steps": 3, "eval_every": 3, "batch_size": 4, "checkpoint_every": 1}
    return str(train(TrainConfig(output=output, device="cpu", drop_rate=0.0, **options)))


@pytest.fixture(scope="module")
def folder(run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of that run, as the command writes it."""
    torch.set_default_dtype(torch.float32)
    output = tmp_path_factory.mktemp("record") / "r"
    with pytest.MonkeyPatch.context() as patch:
        assert call(["--finetuned", run, "--output", str(output)], patch) == 0
    return output


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    return Record.read(folder)


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["ntk", *WORDS, *words])
    with pytest.raises(SystemExit) as exit_:
        command.main()
        sys.exit(0)
    return exit_.value.code  # type: ignore[return-value]


def measured(run: str, output: Path, **options: object) -> Record:
    return measure(NtkConfig(**(TINY | {"finetuned": (run,), "output": str(output)} | options)))


def value(record: Record, metric: str, at: float | None = None, **where: str) -> float:
    where = {"env": "all", "split": "iid", "layer": record.config["layer"]} | where
    return select(record.values, metric, at=at, **where)["value"].item()


def test_the_command_writes_a_record_with_its_report_and_nothing_else(folder: Path) -> None:
    names = {"record.json", "values.parquet", "arrays.safetensors", "kernels.pdf"}
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in folder.parent.iterdir()} == {"r"}


def test_every_metric_is_declared_and_has_its_interval(record: Record) -> None:
    values = record.values
    assert set(values["metric"]) == set(record.metrics)
    measured = values[values["metric"] != "kernel_float64_gap"]
    energy = measured["metric"] == "label_energy"
    few = energy & (measured["num_examples"] <= 10)  # no more images than classes
    assert measured[few]["value"].isna().all()
    measured = measured[~few]
    assert measured[["stderr", "low", "high"]].notna().all(axis=None)
    assert ((measured["low"] <= measured["value"]) & (measured["value"] <= measured["high"])).all()
    assert set(values["env"]) == {"ink", "outline", "photo", "rotated", "all"}


def test_the_arrays_give_the_values_back(record: Record) -> None:
    k0, k1, labels = (record.arrays[f"erm|iid|{name}"] for name in ("K0", "K1", "labels"))
    onehot = one_hot(labels, 10)
    assert value(record, "kernel_distance") == pytest.approx(kernel_distance(k0, k1))
    for at, kernel in ((0.0, k0), (1.0, k1)):
        assert value(record, "label_alignment", at) == pytest.approx(
            label_alignment(kernel, onehot)
        )
        assert value(record, "effective_rank", at) == pytest.approx(effective_rank(kernel))
        assert value(record, "kernel_trace", at) == pytest.approx(kernel.diagonal().mean())
    place = record.provenance["kernels"]["environments"].index("photo")
    kept = np.flatnonzero(record.arrays["erm|iid|envs"] == place)
    part = np.ix_(kept, kept)
    found = value(record, "kernel_distance", env="photo")
    assert found == pytest.approx(kernel_distance(k0[part], k1[part]))


def test_the_spectra_are_those_of_the_centred_kernels(record: Record) -> None:
    for name in ("0", "1"):
        kernel, found = (record.arrays[f"erm|iid|{key}{name}"] for key in ("K", "spectrum"))
        expected = np.linalg.svd(centred(kernel), compute_uv=False)  # of a symmetric matrix
        np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-12)
    assert record.arrays["erm|iid|spectrum_random"].shape == (1, len(kernel))


def test_the_arrays_are_ordered_by_class_and_environment(record: Record) -> None:
    labels, envs = (record.arrays[f"erm|iid|{name}"] for name in ("labels", "envs"))
    assert (np.lexsort((envs, labels)) == np.arange(18)).all()
    assert np.bincount(envs, minlength=4).tolist().count(6) == 3


def test_the_kernels_are_those_of_the_checkpoints_under_one_head(
    run: str, record: Record, tmp_path: Path
) -> None:
    config = NtkConfig(finetuned=(run,), **TINY)
    comparison = load_pairs(config)
    bench = KernelBench(config, comparison, PartialResults(tmp_path))
    x = bench.examples(comparison.pairs[0], ["ink", "outline", "photo"]).x[:3]
    init, final = (load_file(Path(run) / f"{end}.safetensors") for end in ("init", "final"))
    for name, weights in (("K0", {**init, **_head(final)}), ("K1", final)):
        weights = {n: w for n, w in weights.items() if w.is_floating_point()}
        kernel = empirical_ntk(comparison.model, weights, x, outputs="trace", method="reference")
        assert isinstance(kernel, torch.Tensor)
        np.testing.assert_allclose(record.arrays[f"erm|iid|{name}"][:3, :3], kernel, rtol=1e-4)
    assert record.provenance["runs"][0]["head"] == "fine-tuned head on both sides"


def _head(state: dict) -> dict:
    return {n: w for n, w in state.items() if n.startswith("fc.")}


def test_the_blocks_share_the_trace(run: str, record: Record) -> None:
    shares = select(record.values, "block_trace_share", env="all", split="iid")
    groups = weight_groups(load_pairs(NtkConfig(finetuned=(run,))).model)
    assert list(shares["layer"]) == list(groups)
    assert shares["value"].sum() == pytest.approx(1)
    for metric in ("kernel_distance", "random_kernel_distance"):
        distances = select(record.values, metric, env="all", split="iid")
        assert set(distances["layer"]) == {"logits", *groups}
        assert (distances["value"] > 0).all()


def test_the_velocity_follows_the_checkpoints(record: Record) -> None:
    rows = select(record.values, "kernel_velocity", env="all", split="iid")
    assert list(rows["at"]) == [1, 2, 3]
    assert (rows["value"] > 0).all()
    angles = (np.arccos(1 - rows["value"])).sum()  # the angle is a metric: no way is shorter
    assert angles >= np.arccos(1 - value(record, "kernel_distance")) - 1e-6


def test_few_checkpoints_are_chosen_and_the_ends_complete_the_path(
    run: str, tmp_path: Path
) -> None:
    record = measured(run, tmp_path / "r", checkpoints=1, envs=("ink",), dtype="float64")
    rows = select(record.values, "kernel_velocity", env="all")
    assert list(rows["at"]) == [3]  # the last checkpoint is the fine-tuned end
    expected = value(record, "kernel_distance") / 3
    assert rows["value"].item() == pytest.approx(expected)
    assert "kernel_float64_gap" not in set(record.values["metric"])


def test_the_head_is_the_fine_tuned_one_unless_the_own_one_is_asked_for(
    run: str, tmp_path: Path
) -> None:
    for head, end in (("finetuned", "final"), ("own", "init")):
        config = NtkConfig(finetuned=(run,), head=head, **TINY)
        comparison = load_pairs(config)
        bench = KernelBench(config, comparison, PartialResults(tmp_path))
        before, after = bench.ends(comparison.pairs[0])
        expected = load_file(Path(run) / f"{end}.safetensors")["fc.weight"]
        assert torch.equal(before["fc.weight"], expected)
        init, final = (load_file(Path(run) / f"{name}.safetensors") for name in ("init", "final"))
        block = "layer1.0.conv1.weight"
        assert torch.equal(before[block], init[block])
        assert torch.equal(after["fc.weight"], final["fc.weight"])


@pytest.mark.slow  # a backward pass for each of 512 features
def test_features_have_a_kernel_that_no_head_enters(run: str, tmp_path: Path) -> None:
    options = {"layer": "features", "envs": ("rotated",), "checkpoints": 0, "samples": 3}
    record = measured(run, tmp_path / "r", dtype="float64", **options)
    assert "classifier" not in set(record.values["layer"])
    assert 0 < value(record, "kernel_distance", split="ood") < 1


@pytest.mark.slow  # four runs of the command
def test_the_same_seed_gives_the_same_numbers_and_another_moves_nulls_and_groups(
    run: str, tmp_path: Path
) -> None:
    first, again, other = (
        measured(run, tmp_path / str(i), envs=("photo",), checkpoints=0, seed=seed)
        for i, seed in enumerate((0, 0, 1))
    )
    assert_frame_equal(first.values, again.values)
    drawn = {"random_kernel_distance", "permuted_label_alignment"}
    values, others = first.values["value"], other.values["value"]
    moved = ~(values.eq(others) | (values.isna() & others.isna()))
    assert set(first.values["metric"][moved]) == drawn


NUM_TILES = 6 * 7 // 2  # of a kernel of six images, one by one


def test_a_killed_probe_continues_within_a_kernel(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "LEAST_HEIGHT", 1)
    monkeypatch.setattr(stored, "SMALL", 0)
    write, seen = Ledger.write, []

    def killed(self: Ledger, *args: object) -> None:
        seen.append(args)
        if len(seen) == NUM_TILES + 2:
            raise KeyboardInterrupt
        write(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "write", killed)
    options = {"envs": ("ink",), "checkpoints": 0, "dtype": "float64"}
    with pytest.raises(KeyboardInterrupt):
        measured(run, tmp_path / "r", **options)
    record = measured(run, tmp_path / "r", **options)
    assert len(seen) == 3 * NUM_TILES + 1  # of three kernels, and the one that was lost
    assert not list(tmp_path.iterdir())
    assert_frame_equal(record.values, measured(run, tmp_path / "r", **options).values)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--samples", "1"], "at least 2"),
        (["--permutations", "0"], "at least 1"),
        (["--checkpoints", "-1"], "at least 0"),
        (["--memory", "much"], "not a size"),
        (["--disk", "much"], "not a size"),
        (["--jobs", "0"], "at least 1"),
        (["--memory", "1KB"], "run 'erm': the memory budget"),
        (["--envs", "sketch"], "sketch"),
    ],
)
def test_wrong_input_is_a_sentence_and_leaves_nothing(
    words: list[str],
    sentence: str,
    run: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    output = ["--finetuned", run, "--output", str(tmp_path / "r")]
    assert call([*output, *words], monkeypatch) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and sentence in error
    assert not list(tmp_path.iterdir())


def test_an_existing_output_is_refused_before_any_work(
    run: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "measure_with", lambda *_: pytest.fail("measured"))
    assert call(["--finetuned", run, "--output", str(folder)], monkeypatch) == 2


def test_a_missing_run_is_an_input_error() -> None:
    with pytest.raises(InputError, match="nowhere"):
        measure(NtkConfig(finetuned=("nowhere",)))
