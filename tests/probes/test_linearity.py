"""Tests for probes/linearity.py, end to end."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors.torch import load_file, save_file

from core.records import Record
from finetuning.config import TrainConfig
from finetuning.train import train
from probes import linearity
from probes.linearity import measure
from probes.linearity_config import LinearityConfig
from probes.ntk.config import NtkConfig
from probes.ntk.kernel_bench import KernelBench
from probes.ntk.measure import measure as measure_kernels
from probes.pairs import load_pairs
from probes.sources import PairOptions
from tests.image_files import write_domains

TINY = {"samples": 12, "detail_samples": 3, "draws": 1, "alphas": (0.5, 1.0), "device": "cpu"}
TINY |= {"kernel_samples": 0}  # two tests measure kernels
WORDS = [w for k, v in TINY.items() if k != "alphas" for w in (f"--{k}", str(v))]
WORDS += ["--alphas", "0.5", "1.0"]


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """ERM, dropout and scratch, three steps each, of the same seed."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("runs")
    recipes = {"erm": {"drop_rate": 0.0}, "dropout": {}, "scratch": {"pretrained": "none"}}
    options = {"steps": 3, "eval_every": 3, "batch_size": 4, "device": "cpu"}
    return tuple(
        str(train(TrainConfig(output=str(folder / name), **(options | recipe))))
        for name, recipe in recipes.items()
    )


@pytest.fixture(scope="module")
def folder(runs: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of these runs, as the command writes it."""
    torch.set_default_dtype(torch.float32)
    output = tmp_path_factory.mktemp("record") / "r"
    with pytest.MonkeyPatch.context() as patch:
        assert probe(["--finetuned", *runs, "--output", str(output)], patch) == 0
    return output


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    return Record.read(folder)


def test_every_metric_is_declared_and_has_its_interval(record: Record) -> None:
    values = record.values
    assert set(values["metric"]) <= set(record.metrics)
    exact = {"buffer_share", "weight_displacement", "float64_gap"}
    undefined_on_a_resample = {"linear_gain_share"}
    others = values[~values["metric"].isin(exact | undefined_on_a_resample)]
    assert others["low"].notna().all()
    assert (others["low"] <= others["value"] + 1e-9).all()
    assert (others["value"] <= others["high"] + 1e-9).all()
    assert values[values["metric"].isin(exact)]["low"].isna().all()


def test_the_arrays_give_the_values_back(record: Record) -> None:
    numerator, denominator = record.arrays["erm|rotated|explained_displacement|features|1.0"]
    rows = record.values
    row = rows[
        (rows["run"] == "erm")
        & (rows["env"] == "rotated")
        & (rows["layer"] == "features")
        & (rows["metric"] == "explained_displacement")
        & (rows["at"] == 1.0)
    ]
    assert row["value"].item() == pytest.approx(1 - numerator.sum() / denominator.sum())
    assert row["num_examples"].item() == 12


@pytest.mark.slow
def test_the_kernels_are_those_of_the_kernel_probe(runs: tuple[str, ...], tmp_path: Path) -> None:
    options = {"finetuned": runs[:1], "envs": ("rotated",)}
    config = LinearityConfig(
        output=str(tmp_path / "r"), **options, **(TINY | {"kernel_samples": 3})
    )
    record = measure(config)
    words = {"samples": 3, "draws": 1, "device": "cpu", "output": str(tmp_path / "k")}
    alone = measure_kernels(NtkConfig(**options, **words))
    rows = record.values[record.values["metric"].isin(list(alone.metrics))]
    kernels, expected = (frame.drop(columns="probe") for frame in (rows, alone.values))
    assert_frame_equal(kernels.reset_index(drop=True), expected)
    assert record.provenance["kernels"] == alone.provenance["kernels"]
    assert {name: record.metrics[name] for name in alone.metrics} == alone.metrics
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(record.arrays[name], array)


def test_no_kernels_leave_no_trace(record: Record) -> None:
    assert not any("kernel" in name for name in record.metrics)
    assert not any(name.endswith("|K0") for name in record.arrays)
    assert "kernels" not in record.provenance


def test_running_statistics_that_moved_are_part_of_the_displacement(record: Record) -> None:
    share = record.values[record.values["metric"] == "buffer_share"].set_index("run")["value"]
    assert share["erm"] == share["dropout"] == 0  # BatchNorm frozen
    assert share["scratch"] > 0


def test_runs_of_one_seed_are_compared_on_the_same_images(record: Record) -> None:
    rows = record.values
    differences = rows[rows["metric"] == "explained_displacement_difference"]
    assert set(differences["run"]) == {"dropout - erm", "scratch - erm"}
    whole = rows[
        (rows["metric"] == "explained_displacement")
        & (rows["layer"] == "features")
        & (rows["at"] == 1.0)
        & (rows["env"] == "all")
        & (rows["split"] == "ood")
    ].set_index("run")["value"]
    found = differences[(differences["env"] == "all") & (differences["split"] == "ood")]
    found = found.set_index("run")["value"]
    assert found["dropout - erm"] == pytest.approx(whole["dropout"] - whole["erm"])


def test_the_splits_are_the_runs_own(record: Record) -> None:
    splits = record.values.dropna(subset=["split"]).groupby("env")["split"].unique()
    assert {env: list(split) for env, split in splits.items() if env != "all"} == {
        "ink": ["iid"],
        "outline": ["iid"],
        "photo": ["iid"],
        "rotated": ["ood"],
    }


def test_float32_is_close_to_float64(record: Record) -> None:
    gaps = record.values[record.values["metric"] == "float64_gap"]["value"]
    assert (gaps < 1e-3).all()


def test_a_killed_probe_continues(
    runs: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TINY | {"kernel_samples": 3, "envs": ("rotated",)}
    config = LinearityConfig(finetuned=runs[:1], output=str(tmp_path / "r"), **options)
    kernel, kernels = KernelBench._computed, []
    monkeypatch.setattr(
        KernelBench, "_computed", lambda *a, **k: kernels.append(a) or kernel(*a, **k)
    )
    compute, seen = linearity.Bench._compute, []

    def killed(self: linearity.Bench, *args: object) -> dict:
        seen.append(args)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return compute(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(linearity.Bench, "_compute", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(config)
    measured = measure(config)
    assert len(seen) == 2 + 1  # one part of two was kept
    checks = 2 * 4  # two precisions at both ends, in each process
    assert len(kernels) - checks == 3  # before, after and a random move, once
    assert not list(tmp_path.iterdir())  # and are gone when all is measured
    assert_frame_equal(measured.values, measure(config).values)


@pytest.mark.slow
def test_a_probe_whose_report_fails_does_not_measure_again(
    runs: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    words = ["--finetuned", runs[0], "--output", str(tmp_path / "r")]
    with monkeypatch.context() as patch:
        patch.setattr(linearity, "write_report", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            probe(words, monkeypatch)
    monkeypatch.setattr(linearity.Bench, "_compute", lambda *_: pytest.fail("measured again"))
    assert probe(words, monkeypatch) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"r"}
    assert str(tmp_path / "r" / "linearity.pdf") in capsys.readouterr().out


def probe(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["linearity", *WORDS, *words])
    with pytest.raises(SystemExit) as exit_:
        linearity.main()
        sys.exit(0)
    return exit_.value.code  # type: ignore[return-value]


def test_the_command_writes_a_record_and_its_report_and_replaces_none(
    runs: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"record.json", "values.parquet", "arrays.safetensors", "linearity.pdf"}
    assert {p.name for p in folder.iterdir()} == files
    assert {p.name for p in folder.parent.iterdir()} == {"r"}
    before = (folder / "record.json").read_bytes()
    assert probe(["--finetuned", *runs, "--output", str(folder)], monkeypatch) == 2
    assert (folder / "record.json").read_bytes() == before


def test_a_foreign_checkpoint_has_the_fine_tuned_head_on_both_sides(
    runs: tuple[str, ...],
) -> None:
    file = str(Path(runs[0]) / "final.safetensors")
    options = PairOptions(finetuned=(file,), pretrained="glyphnet.rich", data="digits")
    pair = load_pairs(options).pairs[0]
    assert pair.facts["head"] == "fine-tuned head on both sides"
    assert torch.equal(pair.weights0["fc.weight"], pair.weights1["fc.weight"])
    assert set(pair.splits.values()) == {"given"}
    own = load_pairs(PairOptions(finetuned=(runs[0],))).pairs[0]
    assert own.facts["head"] == "own initial head"
    assert not torch.equal(own.weights0["fc.weight"], own.weights1["fc.weight"])
    assert torch.equal(
        own.weights0["layer1.0.conv1.weight"], pair.weights0["layer1.0.conv1.weight"]
    )


def broken(case: str, final: Path, folder: Path) -> str:
    """A file that is no checkpoint of the network."""
    if case == "truncated":
        (folder / "t.safetensors").write_bytes(final.read_bytes()[:1000])
        return str(folder / "t.safetensors")
    if case == "code":
        torch.save({"model": shutil.rmtree}, folder / "c.pt")
        return str(folder / "c.pt")
    state = load_file(final)
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:2].clone()
    save_file(state, folder / "m.safetensors")
    return str(folder / "m.safetensors")


def wrong(case: str, runs: tuple[str, ...], folder: Path) -> tuple[list[str], str]:
    """Words of a command that cannot work, and what its sentence must say."""
    final = Path(runs[0]) / "final.safetensors"
    inside = folder / "in"
    inside.mkdir()
    if case in {"truncated", "code", "mismatched"}:
        file = broken(case, final, inside)
        expected = "misshapen" if case == "mismatched" else Path(file).name
        return ["--finetuned", file, "--pretrained", "glyphnet.rich"], expected
    if case == "unfinished":
        shutil.copy(Path(runs[0]) / "config.yaml", inside)
    if case == "classes":
        write_domains(inside / "data")
    data = str(inside / "data")
    return {
        "no images": (["--finetuned", *runs, "--data", str(inside)], "no images"),
        "unfinished": (["--finetuned", str(inside)], "finished run folder"),
        "classes": (["--finetuned", runs[0], "--data", data, "--transform", "paper"], "classes"),
        "missing": (["--finetuned", str(inside / "typo")], "there is no"),
        "model": (["--finetuned", *runs, "--model", "resnet5"], "not a model"),
        "environment": (["--finetuned", *runs, "--envs", "moon"], "'moon' is not in"),
        "test environment": (["--finetuned", *runs, "--test_env", "moon"], "moon"),
        "before": (["--finetuned", str(final)], "--pretrained"),
        "same": (["--finetuned", str(final), "--pretrained", str(final)], "same weights"),
        "twice": (["--finetuned", runs[0], runs[0]], "twice"),
        "memory": (["--finetuned", runs[0], "--memory", "1KB"], "needs at least"),
        "samples": (["--samples", "0"], "at least 1"),
        "kernel": (["--kernel_samples", "1"], "at least 2 were expected, or 0"),
    }[case]


CASES = (
    *["truncated", "mismatched", "code", "classes", "unfinished", "model", "environment"],
    *["before", "same", "twice", "memory", "samples", "missing", "kernel"],
)


@pytest.mark.parametrize("case", [*CASES, "no images", "test environment"])
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    case: str,
    runs: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    words, expected = wrong(case, runs, tmp_path)
    assert probe([*words, "--output", str(tmp_path / "r")], monkeypatch) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert expected in error[0]
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


def test_an_unwritable_output_is_refused_before_the_work(
    runs: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    words = ["--finetuned", *runs, "--output", str(tmp_path / "file" / "r")]
    assert probe(words, monkeypatch) == 2
    assert "is a file" in capsys.readouterr().err


def test_the_record_names_the_images_of_the_run(record: Record, tmp_path: Path) -> None:
    assert record.provenance["data"] == "digits"
    data = write_domains(tmp_path / "data", num=5)
    options = {"steps": 1, "eval_every": 1, "batch_size": 2, "device": "cpu"}
    output, probed = str(tmp_path / "r"), str(tmp_path / "p")
    config = TrainConfig(output=output, data=str(data), test_env=("sketch",), **options)
    found = measure(LinearityConfig(finetuned=(str(train(config)),), output=probed, **TINY))
    assert found.provenance["data"] == str(data)
