"""Tests for scripts/linear_study: its plan, and one tiny study from end to end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pypdf
import pytest
import torch

from core.errors import InputError
from core.records import Record
from finetuning.linear.config import LinearConfig
from finetuning.sweep import Backend, Here, Outcome, RunConfig, sweep
from reports.linear_study import claim_lines
from scripts.linear_study.__main__ import study
from scripts.linear_study.config import LinearStudyConfig
from scripts.linear_study.plan import comparison, configs, grid
from scripts.study_options import held_out, linear
from tests.finetuning.tiny import write_images


@pytest.fixture(autouse=True)
def single_precision() -> None:
    """As the command runs; the shared fixture puts back what it found."""
    torch.set_default_dtype(torch.float32)


def test_every_cell_has_its_twins_and_every_run_a_folder_of_its_own() -> None:
    config = LinearStudyConfig(seeds=(0, 1), drop_rates=(0.0, 0.9))
    trained = comparison(config, ("ink", "photo")) + grid(config, "photo")
    compared = [one for one in trained if one.group != "grid"]
    assert len(compared) == 2 * 2 * 2
    for one in compared:
        tangent, linear = one.twins
        assert tangent == replace(one.run, output=tangent.output, tangent=True)
        assert isinstance(linear, LinearConfig)
        assert (linear.seed, linear.drop_rate) == (one.run.seed, one.run.drop_rate)
        assert one.run.test_env == linear.test_env == (one.group.removesuffix(" held out"),)
    outputs = [run.output for run in configs(trained)]
    assert len(set(outputs)) == len(outputs)


def test_the_grid_holds_every_combination_and_ends_with_scratch() -> None:
    config = LinearStudyConfig(
        seeds=(3,), lr=0.1, steps=8, milestones=(4,), lr_factors=(1, 2), step_factors=(0.5, 1)
    )
    trained = grid(config, "ink")
    runs = [one.run for one in trained]
    tuned = {(r.lr, r.steps, r.train_fraction, r.milestones) for r in runs[:-1]}
    assert tuned == {
        (lr, steps, fraction, (steps // 2,))
        for lr in (0.1, 0.2)
        for steps in (4, 8)
        for fraction in (0.1, 1.0)
    }
    assert runs[-1].from_scratch and runs[-1].freeze_bn is False and not trained[-1].twins
    assert all(run.seed == 3 and run.drop_rate == 0 for run in runs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": ()}, "--seeds is empty"),
        ({"drop_rates": (0.9, 0.9)}, "none twice"),
        ({"lr_factors": (0.0,)}, "not positive"),
        ({"pretrained": "none"}, "starts from pretrained weights"),
        ({"samples": -1}, "--samples is -1"),
        ({"kernel_train": 1}, "--kernel_train is 1"),
        ({"memory": "much"}, "is not a size"),
        ({"train_fractions": (2.0,)}, "at most 1"),
        ({"lr": -1.0}, "--lr is -1.0"),
    ],
)
def test_options_that_make_no_sense_are_a_sentence(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LinearStudyConfig(**options)


def test_environments_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="environment 'moon' is not in 'digits'"):
        held_out(LinearStudyConfig(test_env=("moon",)))
    with pytest.raises(InputError, match="environment 'moon' is not in 'digits'"):
        study(LinearStudyConfig(grid_env="moon", output=str(tmp_path / "study")), Here())
    assert not list(tmp_path.iterdir())


def test_what_a_typo_would_cost_is_not_trained(tmp_path: Path) -> None:
    output = str(tmp_path / "study")
    with pytest.raises(InputError, match="bogus"):
        study(LinearStudyConfig(linear_layers=("bogus",), output=output), Here())
    with pytest.raises(InputError, match="--test_env is ink ink"):
        LinearStudyConfig(test_env=("ink", "ink"))
    assert not list(tmp_path.iterdir())


def test_adamw_leaves_the_linear_model_its_own_rate() -> None:
    assert linear(LinearStudyConfig(optimizer="adamw", lr=1e-4)).lr is None
    assert linear(LinearStudyConfig(lr=1e-4)).lr == (1e-4,)


def tiny(tmp_path: Path, **options: object) -> LinearStudyConfig:
    """Two steps of two images, on images that differ in brightness."""
    shared = {
        "data": str(tmp_path / "data"),
        "output": str(tmp_path / "study"),
        "cache": str(tmp_path / "cache"),
        "test_env": ("photo",),
        "batch_size": 2,
        "lr": 1e-3,
        "steps": 2,
        "milestones": (1,),
        "eval_every": 1,
        "kernel_train": 4,
        "lr_factors": (1.0, 1e30),
        "step_factors": (1.0,),
        "train_fractions": (1.0,),
        "device": "cpu",
    }
    return LinearStudyConfig(**(shared | options))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_study_ends_with_a_report_and_is_not_done_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path / "data")
    config = tiny(tmp_path, samples=10)
    pdf = study(config, Here())
    assert pdf.read_bytes().startswith(b"%PDF")
    assert "left out of the grid" in caplog.text and "lr1e+27" in caplog.text

    runs = pd.read_parquet(pdf.parent / "record" / "runs.parquet")
    methods = ["dropout", "erm", "kernel", "linear", "network_on_kernel_images", "tangent"]
    assert sorted(runs["method"].unique()) == methods
    record = Record.read(pdf.parent / "record")
    for method, measured in (("kernel", "kernel"), ("network_on_kernel_images", "ordinary")):
        last = runs.query(f"method == '{method}' and seed == 0 and drop_rate == 0")["ood"]
        of = record.values.query(f"metric == '{measured}_accuracy' and split == 'ood'")
        of = of.query("run == 'photo-s0-r0' and env == 'all'")
        assert of["value"].tolist() == last.tolist() and of["num_examples"].tolist() == [10]
    lines = {line["name"][:3]: line for line in claim_lines(runs)}
    assert list(lines) == ["C13", "C15"]
    assert {line["word"] for line in lines.values()} <= {
        "supported",
        "contradicted",
        "inconclusive",
    }
    said = " ".join(page.extract_text() for page in pypdf.PdfReader(pdf).pages)
    assert "C13" in said and "C15" in said and "not tested" not in said

    weights = {path: path.stat().st_mtime_ns for path in pdf.parent.rglob("*.safetensors")}
    pdf.unlink()
    study(config, Here())
    assert {path: path.stat().st_mtime_ns for path in weights} == weights and pdf.exists()
    with pytest.raises(InputError, match="a study is only resumed with the same ones"):
        study(tiny(tmp_path, samples=10, steps=3), Here())


@pytest.mark.slow
def test_a_run_of_the_grid_that_ends_well_later_enters_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "data")
    config = tiny(tmp_path, samples=10, seeds=(0,), drop_rates=(0.0,), lr_factors=(1.0, 2.0))
    with monkeypatch.context() as patch:
        patch.setattr("scripts.linear_study.__main__.sweep", _without_lr("0.002"))
        pdf = study(config, Here())
    before = pdf.read_bytes()
    assert not any("lr0.002" in run for run in _runs_in(pdf.parent / "record"))
    study(config, Here())
    entered = {run for run in _runs_in(pdf.parent / "record") if "lr0.002" in run}
    assert entered and pdf.read_bytes() != before
    assert entered < set(_runs_in(pdf.parent / "records" / "linearity" / "grid"))


def _without_lr(lr: str) -> Callable[..., list[Outcome]]:
    def swept(configs: Sequence[RunConfig], root: Path, backend: Backend) -> list[Outcome]:
        outcomes = sweep(configs, root, backend)
        stopped = [f"lr{lr}-" in str(outcome.folder) for outcome in outcomes]
        return [
            replace(outcome, failure="was stopped") if stop else outcome
            for outcome, stop in zip(outcomes, stopped, strict=True)
        ]

    return swept


def _runs_in(record: Path) -> list[str]:
    return [entry["run"] for entry in Record.read(record).provenance["runs"]]


@pytest.mark.slow
def test_a_run_of_the_comparison_that_fails_stops_the_study(tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    with pytest.raises(InputError, match="a run of the study failed: .*learning rate"):
        study(tiny(tmp_path, lr=1e25, grid=False), Here())
