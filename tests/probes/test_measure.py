"""Tests for `measure` of probes/linearity.py: what its numbers may depend on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.models import create_model
from core.records import Record
from probes import linearity_bench
from probes.linearity import measure
from probes.linearity_bench import Bench
from probes.linearity_config import LinearityConfig
from probes.pairs import load_pairs
from probes.sources import example_runs
from reports.linearity import verdict_table
from tests.image_files import write_domains

ERM, DROPOUT, SCRATCH = example_runs()
TINY = {"samples": 5, "detail_samples": 2, "draws": 1, "alphas": (0.5, 1.5), "device": "cpu"}
TINY |= {"kernel_samples": 0}  # tests/probes/test_linearity.py measures kernels


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


def measured(output: Path, *finetuned: str, **options: object) -> Record:
    words = {"finetuned": finetuned, "output": str(output)}
    return measure(LinearityConfig(**(TINY | words | options)))  # type: ignore[arg-type]


def changed(place: Path, change: dict[str, Tensor]) -> str:
    """A copy of the ERM run with the initial weights and a few others at its end."""
    shutil.copytree(ERM, place)
    init = load_file(place / "init.safetensors")
    save_file(init | change, place / "final.safetensors")
    return str(place)


def values(record: Record, metric: str, **where: object) -> pd.DataFrame:
    rows = record.values
    for column, value in {"metric": metric, **where}.items():
        rows = rows.loc[rows[column] == value, :]
    assert len(rows)
    return rows


def test_the_ends_of_the_interpolation_are_the_checkpoints_own_accuracies(tmp_path: Path) -> None:
    record = measured(tmp_path / "r", ERM, samples=40, alphas=(1.0,))
    comparison = load_pairs(LinearityConfig(finetuned=(ERM,)))
    bench = Bench(LinearityConfig(device="cpu"), comparison)
    (pair,) = comparison.pairs
    for alpha, weights in ((0.0, pair.weights0), (1.0, pair.weights1)):
        comparison.model.load_state_dict(weights, strict=False)
        for env, images in pair.images.items():
            x, y = next(iter(bench.loader(comparison.domains, env, images[:40])))
            with torch.no_grad():
                accuracy = comparison.model(x).argmax(1).eq(y).double().mean()
            for metric in ("weight_accuracy", "representation_accuracy"):
                row = values(record, metric, at=alpha, env=env)
                assert row["value"].item() == pytest.approx(accuracy.item())


def test_the_batch_does_not_change_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision: in single, kernels chosen by batch size round differently."""
    options = {"envs": ("ink", "rotated"), "dtype": "float64"}
    whole = measured(tmp_path / "whole", SCRATCH, **options)
    monkeypatch.setattr(linearity_bench, "LARGEST_BATCH", 2)
    parts = measured(tmp_path / "parts", SCRATCH, **options)
    assert parts.provenance["batch_size"] == 2
    rest = whole.values["metric"] != "float64_gap"  # looks at one batch
    assert_frame_equal(whole.values[rest], parts.values[rest], rtol=1e-6, atol=1e-6)


def test_the_seed_draws_the_nulls_and_the_resamples_and_nothing_else(tmp_path: Path) -> None:
    first, again, other = (
        measured(tmp_path / str(i), ERM, envs=("rotated",), seed=seed)
        for i, seed in enumerate((0, 0, 1))
    )
    assert_frame_equal(first.values, again.values)
    drawn = {"random_explained_displacement", "permuted_explained_displacement"}
    same = ~first.values["metric"].isin(drawn)
    np.testing.assert_array_equal(first.values[same]["value"], other.values[same]["value"])
    assert (first.values[~same]["value"] != other.values[~same]["value"]).all()
    bootstrapped = values(first, "explained_displacement", at=1.0)["low"]
    assert (bootstrapped != values(other, "explained_displacement", at=1.0)["low"]).any()


def test_a_run_that_moved_its_classifier_alone_is_exactly_linear(tmp_path: Path) -> None:
    final = load_file(Path(ERM) / "final.safetensors")
    run = changed(tmp_path / "head", {n: final[n] for n in ("fc.weight", "fc.bias")})
    record = measured(tmp_path / "r", run, dtype="float64")
    r2 = values(record, "explained_displacement", layer="logits")
    np.testing.assert_allclose(r2["value"], 1, rtol=0, atol=1e-10)
    assert (values(record, "curvature_ratio", layer="logits")["value"] == 0).all()
    assert np.isposinf(values(record, "lazy_radius", layer="logits")["value"]).all()
    assert values(record, "explained_displacement", layer="features")["value"].isna().all()
    assert not set(record.values["metric"]) & {"block_share", "block_explained_displacement"}
    assert "inconclusive" in verdict_table(record)


def test_a_variance_that_turns_negative_beyond_the_end_harms_nothing_else(tmp_path: Path) -> None:
    init = load_file(Path(ERM) / "init.safetensors")
    shrunk = {n: 0.2 * w for n, w in init.items() if "running_var" in n}
    record = measured(tmp_path / "r", changed(tmp_path / "shrunk", shrunk), envs=("rotated",))
    r2 = values(record, "explained_displacement", layer="features", env="rotated")
    assert r2[r2["at"] <= 1][["value", "low", "high"]].notna().all(axis=None)
    assert r2[r2["at"] == 1.5][["value", "low", "high"]].isna().all(axis=None)
    assert values(record, "buffer_share")["value"].item() == 1
    others = record.values[record.values["metric"].isin(["curvature_ratio", "weight_accuracy"])]
    assert others["value"].notna().all()
    assert "shrunk" in verdict_table(record)


def test_running_statistics_count_in_the_first_order_change(tmp_path: Path) -> None:
    """A small move of them alone is explained by the expansion, so J delta holds them."""
    init = load_file(Path(ERM) / "init.safetensors")
    moved = {n: (1 + 1e-5) * w for n, w in init.items() if "running_var" in n}
    run = changed(tmp_path / "moved", moved)
    record = measured(tmp_path / "r", run, envs=("rotated",), dtype="float64", alphas=(1.0,))
    r2 = values(record, "explained_displacement", layer="features", env="rotated")
    assert (r2["value"] > 0.999).all()
    assert values(record, "block_share", env="rotated")["value"].sum() == pytest.approx(1)


def test_checkpoint_files_of_any_network_on_image_folders(tmp_path: Path) -> None:
    write_domains(tmp_path / "data", num=2)
    torch.manual_seed(0)
    before, after = (create_model("test_vit", classes) for classes in (5, 2))
    state = before.state_dict()
    near = {n: w + 1e-3 * torch.randn_like(w) for n, w in state.items()}
    save_file(state, tmp_path / "before.safetensors")
    save_file(
        near | {n: w for n, w in after.state_dict().items() if n.startswith("head.")},
        tmp_path / "after.safetensors",
    )
    record = measured(
        tmp_path / "r",
        str(tmp_path / "after.safetensors"),
        pretrained=str(tmp_path / "before.safetensors"),
        model="test_vit",
        data=str(tmp_path / "data"),
        test_env=("sketch",),
        alphas=(1.0,),
    )
    assert set(record.values["env"].dropna()) == {"art", "sketch", "all"}
    assert set(record.values["split"].dropna()) == {"given", "ood"}
    r2 = values(record, "explained_displacement", layer="features", env="all", at=1.0)
    assert (r2["value"] > 0.9).all()
    assert set(r2["num_examples"]) == {4}
    assert record.provenance["runs"][0]["head"] == "fine-tuned head on both sides"
    assert "given" in verdict_table(record)


def identity(part: str = "path", **options: object) -> str:
    config = LinearityConfig(**(TINY | {"finetuned": (ERM,)} | options))  # type: ignore[arg-type]
    comparison = load_pairs(config)
    bench = Bench(config, comparison)
    return json.dumps(bench._identity(comparison.pairs[0], "rotated", part))


@pytest.mark.parametrize(
    "options",
    [
        {"alphas": (0.5, 1.0)},
        {"draws": 2},
        {"dtype": "float64"},
        {"finetuned": (DROPOUT,)},
        {"memory": "100MB"},
        {"model_kwargs": {"drop_path_rate": 0.1}},
        {"part": "detail"},
        {"pretrained": "glyphnet.rich"},
        {"samples": 4},
        {"seed": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_part_of_other_numbers_is_not_taken_for_finished(options: dict) -> None:
    assert identity(**options) != identity()


def test_what_changes_no_number_of_a_part_does_not_begin_it_again() -> None:
    assert identity(workers=1, detail_samples=1, output="elsewhere") == identity()
