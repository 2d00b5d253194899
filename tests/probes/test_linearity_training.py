"""Tests for the training-space section of `python -m probes.linearity`, end to end."""

import json
import logging
import sys
from pathlib import Path

import pytest
import torch

from core.errors import InputError
from core.records import Record, tidy
from probes import counterparts, linearity, run_kernel
from probes.linearity_bench import Bench
from probes.linearity_config import LinearityConfig
from probes.linearity_section import Section
from probes.linearity_training import training_section
from probes.pairs import load_pairs
from probes.partial import PartialResults
from reports.linearity import verdict_table
from tests.probes.tiny_runs import Runs, linearity_config, make_runs

ALL = 1000  # images: more than there are


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    torch.set_default_dtype(torch.float32)
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def record(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """As the command writes it."""
    torch.set_default_dtype(torch.float32)
    output = tmp_path_factory.mktemp("record") / "r"
    linearity.probe(linearity_config(runs, output))
    assert (output / "linearity.pdf").is_file()
    assert [path.name for path in output.parent.iterdir()] == ["r"]
    return Record.read(output)


def section(config: LinearityConfig) -> Section:
    """The section alone."""
    partial = PartialResults.beside(Path(config.output or ""))
    return training_section(config, Bench(config, load_pairs(config)), partial)


def value(found: Record | Section, metric: str, env: str) -> float:
    values = found.values if isinstance(found, Record) else tidy(found.rows)
    return values[(values["metric"] == metric) & (values["env"] == env)]["value"].item()


def last_accuracies(folder: Path) -> dict[str, float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["accuracy"]


def test_accuracies_are_those_that_training_measured(runs: Runs, tmp_path: Path) -> None:
    found = section(linearity_config(runs, tmp_path / "r", samples=ALL, kernel_train=0))
    for env in ("ink", "rotated"):
        for method, folder in {"ordinary": runs.ordinary, "tangent": runs.tangent}.items():
            expected = last_accuracies(folder)[env]
            assert value(found, f"{method}_accuracy", env) == pytest.approx(expected)
    lines = [json.loads(line) for line in (runs.linear / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["step"] == 12]
    for name, candidates in {"best": lines, "final": last}.items():
        best = max(candidates, key=lambda line: line["iid_accuracy"])
        for env in ("ink", "rotated"):
            accuracy = value(found, f"linear_model_{name}_accuracy", env)
            assert accuracy == pytest.approx(best["accuracy"][env])


def test_every_method_has_rows_in_every_environment_and_over_all(record: Record) -> None:
    rows = record.values[record.values["metric"] == "kernel_agreement"]
    assert list(zip(rows["split"], rows["env"], strict=True)) == [
        *[("iid", "ink"), ("ood", "rotated"), ("iid", "all"), ("ood", "all")]
    ]
    assert rows[["low", "high", "stderr"]].notna().all(axis=None)
    for method in ("tangent", "transplanted", "linear_model_best", "linear_model_final", "kernel"):
        for what in ("accuracy", "agreement", "accuracy_difference"):
            assert f"{method}_{what}" in record.metrics
        difference = value(record, f"{method}_accuracy_difference", "rotated")
        both = [value(record, f"{name}_accuracy", "rotated") for name in (method, "ordinary")]
        assert difference == pytest.approx(both[0] - both[1])


def test_the_arrays_give_the_values_back(record: Record) -> None:
    names = ("labels", "ordinary", "tangent", "kernel")
    labels, ordinary, tangent, kernel = (
        record.arrays[f"run|rotated|decisions|{name}"] for name in names
    )
    expected = {
        "tangent_accuracy": tangent == labels,
        "kernel_agreement": kernel == ordinary,
        "kernel_to_tangent_agreement": kernel == tangent,
    }
    for metric, share in expected.items():
        assert value(record, metric, "rotated") == pytest.approx(share.mean())


def test_the_record_says_what_was_compared(runs: Runs, record: Record) -> None:
    facts = record.provenance["training_space"]["runs"]["run"]
    assert facts["tangent"] == str(runs.tangent)
    assert facts["linear"] == str(runs.linear)
    assert facts["kernel"]["kind"] == "exact"
    assert facts["kernel"]["images"] == {"ink": 6}
    assert len(facts["tangent_sha256"]) == 64


def test_a_ridge_at_the_end_of_its_grid_is_said(
    runs: Runs,
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ridge = record.provenance["training_space"]["runs"]["run"]["kernel"]["ridge"]
    for ridges, said in (((0.0, ridge, 1e9), 0), ((ridge, 1e9), 1)):
        monkeypatch.setattr(run_kernel, "RIDGES", ridges)
        section(linearity_config(runs, tmp_path / str(said), envs=("rotated",)))
        assert caplog.text.count("at an end of the grid") == said


def test_the_terminal_and_the_page_have_the_comparison(record: Record) -> None:
    lines = [line for line in verdict_table(record).splitlines() if line.startswith("run  ")]
    assert sum("model (1), best" in line for line in lines) == 2  # both splits


def test_what_is_left_out_leaves_no_trace(runs: Runs, tmp_path: Path) -> None:
    assert section(linearity_config(runs, tmp_path / "r", twins=("none",))) == Section()
    options = {"twins": (str(runs.linear),), "kernel_train": 0}
    one = section(linearity_config(runs, tmp_path / "r", **options))
    assert {m for m in one.metrics if m.endswith("_agreement")} == {
        *["linear_model_best_agreement", "linear_model_final_agreement"]
    }
    assert one.facts["training_space"]["runs"]["run"].keys() == {"linear", "linear_sha256"}


def test_a_subset_of_environments_changes_no_number(runs: Runs, tmp_path: Path) -> None:
    """The kernel needs the training environment, though the probe looks at another."""
    found = section(linearity_config(runs, tmp_path / "r", envs=("rotated",)))
    assert found.facts["training_space"]["runs"]["run"]["kernel"]["images"] == {"ink": 6}
    whole = section(linearity_config(runs, tmp_path / "w"))
    for metric in ("kernel_accuracy", "tangent_accuracy", "linear_model_best_accuracy"):
        assert value(found, metric, "rotated") == value(whole, metric, "rotated")


def test_other_images_have_no_twins(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = linearity_config(runs, tmp_path / "r", image_size=40, transform="timm")
        assert section(config) == Section()
    assert "--image_size is 40" in caplog.text
    assert "on its own images, and not on these" in caplog.text


def test_a_killed_probe_fits_no_kernel_again(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = linearity_config(runs, tmp_path / "r")
    fit, fits = run_kernel.fit_kernel, []
    monkeypatch.setattr(run_kernel, "fit_kernel", lambda *a, **k: fits.append(1) or fit(*a, **k))
    compute, seen = counterparts.Counterparts._computed, []

    def killed(self: counterparts.Counterparts, env: str, *args: object) -> dict:
        seen.append(env)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return compute(self, env, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(counterparts.Counterparts, "_computed", killed)
    with pytest.raises(KeyboardInterrupt):
        section(config)
    resumed = section(config)
    assert seen == ["ink", "rotated", "rotated"]
    assert len(fits) == 1
    assert section(linearity_config(runs, tmp_path / "other")).rows == resumed.rows


def test_logits_that_are_no_numbers_are_refused(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = lambda x: torch.full((len(x), 10), torch.nan)
    monkeypatch.setattr(counterparts, "tangent_at", lambda *_: nothing)
    with pytest.raises(InputError, match="logits of the tangent counterpart of run 'run' are NaN"):
        section(linearity_config(runs, tmp_path / "r"))


def wrong(case: str, runs: Runs, folder: Path) -> tuple[list[str], str]:
    """Words that cannot work, and what the sentence must say."""
    named = ["--twins", str(runs.tangent)]
    return {
        "missing": (["--twins", str(folder / "typo")], "check --twins"),
        "ordinary": (["--twins", str(runs.ordinary)], "holds neither a tangent run nor"),
        "one image": (["--kernel_train", "1"], "--kernel_train is 1; at least 2"),
        "memory": (["--memory", "100MB"], "or leave it out: --kernel_train 0"),
        "images": ([*named, "--image_size", "40", "--transform", "timm"], "on its own images"),
    }[case]


@pytest.mark.parametrize("case", ["missing", "ordinary", "one image", "memory", "images"])
def test_wrong_input_is_one_sentence(
    case: str,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    words, expected = wrong(case, runs, tmp_path)
    words += ["--finetuned", str(runs.ordinary), "--output", str(tmp_path / "r")]
    monkeypatch.setattr(sys, "argv", ["linearity", "--device", "cpu", "--samples", "4", *words])
    with pytest.raises(SystemExit) as exit_:
        linearity.main()
    assert exit_.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert expected in error[0]
    assert not list(tmp_path.iterdir())
