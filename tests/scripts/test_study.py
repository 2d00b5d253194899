"""Tests for scripts/study: a tiny study from end to end, killed or not."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
import torch

from analysis.claims.ledger import CLAIMS
from analysis.runs import DROP_RATE, read_runs
from core.documents import read_json
from core.errors import InputError
from core.outputs import new_folder
from core.records import Record
from finetuning.averaging import average as average_of
from finetuning.members import Member
from finetuning.run_folder import read_metrics
from finetuning.sweep import Backend, Here, Outcome, RunConfig
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.running import ELSEWHERE
from finetuning.train import train
from probes import linearity
from probes.linearity_config import LinearityConfig
from scripts.study import finals, training, trajectory
from scripts.study.__main__ import study
from scripts.study.config import StudyConfig
from scripts.study.plan import plan
from scripts.study.protocols import PROTOCOLS, Protocol
from scripts.study.training import sorted_out
from tests.finetuning.tiny import tiny_config, weights, write_images


class Ledger(TypedDict):
    """What the test reads of it."""

    claims: list[Any]


TINY = Protocol(
    num_envs=1,
    cells=((1.0, 1.0), (0.5, 1.0)),
    seeds=(0, 1),
    drop_rates=(0.0, 0.5, DROP_RATE),
    fast_cells=1,
    steps=4,
    every=2,
    batch_size=2,
    fractions=(0.5,),
    scratch_rates=(0.0, DROP_RATE),
    noises=("gaussian",),
    placements=("stages",),
    placed_rates=(DROP_RATE,),
    samples=0,
    curve_rates=(DROP_RATE,),
    draws=2,
    timed=1,
)


@pytest.fixture(autouse=True)
def single_precision() -> None:
    """As the command runs; the shared fixture puts back what it found."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke protocol at its least."""
    monkeypatch.setitem(PROTOCOLS, "smoke", TINY)


def tiny_study(tmp_path: Path, **options: object) -> StudyConfig:
    """A few steps of two images, on images that differ in brightness."""
    shared = {
        "data": str(tmp_path / "data"),
        "output": str(tmp_path / "study"),
        "cache": str(tmp_path / "cache"),
        "lr": 0.02,
        "device": "cpu",
    }
    return StudyConfig(**(shared | options))  # type: ignore[arg-type]


def made_at(folder: Path, name: str) -> dict[Path, int]:
    """When every file of a name was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob(name)}


def test_a_study_of_failures_alone_is_refused() -> None:
    (one, *_) = plan(StudyConfig(), ("ink",))
    outcome = Outcome(Path(one.config.output), 1.0, "the loss became nan")
    with pytest.raises(InputError, match="every run of the study failed.*became nan"):
        sorted_out([one], [outcome])


def test_the_last_outcome_of_a_run_counts() -> None:
    first, second, *_ = plan(StudyConfig(), ("ink",))
    folder = Path(first.config.output)
    outcomes = [Outcome(folder, 1.0, "MemoryError"), Outcome(folder, 1.0)]
    assert sorted_out([first], outcomes) == ([first], {})
    other = Outcome(Path(second.config.output), 1.0)
    assert sorted_out([first, second], [*outcomes[::-1], other]) == (
        [second],
        {first.name: "MemoryError"},
    )


def test_runs_that_a_killed_study_is_still_at_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [one.config for one in plan(StudyConfig(), ("ink",))][:2]
    failures = {Path(config.output): [ELSEWHERE, ELSEWHERE, ""] for config in configs[1:]}
    waited: list[int] = []

    def swept(runs: list[RunConfig], root: Path, *_: Backend, **__: Forecast) -> list[Outcome]:
        found = [(Path(run.output), failures.get(Path(run.output), ["failed"])) for run in runs]
        return [Outcome(folder, 1.0, reasons.pop(0)) for folder, reasons in found]

    monkeypatch.setattr(training, "sweep", swept)
    monkeypatch.setattr(training, "wait_for_one", lambda runs, root: waited.append(len(runs)))
    outcomes = training.all_swept(configs, tmp_path, Here(), Forecast(configs, 1))
    assert [outcome.failure for outcome in outcomes] == ["failed", ""] and waited == [1, 1]


def test_failed_runs_are_named_and_left_out() -> None:
    first, second, *_ = plan(StudyConfig(), ("ink",))
    outcomes = [Outcome(Path(first.config.output), 1.0, "the loss became nan")]
    outcomes.append(Outcome(Path(second.config.output), 1.0))
    finished, failed = sorted_out([first, second], outcomes)
    assert finished == [second] and failed == {first.name: "the loss became nan"}


def test_environments_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="environment 'moon' is not in 'digits'"):
        study(StudyConfig(test_env=("moon",), output=str(tmp_path / "study")), Here())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_study_ends_with_a_ledger_and_a_report_and_is_not_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "data")
    config = tiny_study(tmp_path)
    pdf = study(config, Here())
    assert pdf.read_bytes().startswith(b"%PDF")
    runs = read_runs(pdf.parent / "study")
    kinds = product(("ensemble", "average"), ("trajectory", "final"))
    averaged = {f"{kind}_{of}" for kind, of in kinds}
    single = {"erm", "dropout", "tangent", "linear"}
    assert set(runs["method"]) == single | averaged | {"ensemble_subset", "average_subset"}
    assert (runs["seconds"].notna().groupby(runs["run"]).all()).sum() == 2 * TINY.timed
    for name in ("explained_displacement", "interpolation_gap_max", "barrier"):
        assert runs.query("selection == 'best'")[name].notna().any(), name
        assert runs.query("selection == 'final'")[name].isna().all(), name
    claims = read_json(pdf.parent / "study" / "ledger.json", Ledger)["claims"]
    assert [claim["name"] for claim in claims] == [claim.name for claim in CLAIMS]
    printed = capsys.readouterr().out
    assert all(claim.name in printed for claim in CLAIMS)

    assert not made_at(tmp_path, "step_*.safetensors")
    (record, *_) = sorted((pdf.parent / "records" / "trajectory").iterdir())
    with pytest.raises(InputError, match="were removed when they had been measured"):
        trajectory.measure(str(pdf.parent / "runs" / record.name))
    files = made_at(tmp_path, "*.safetensors")
    records = made_at(tmp_path, "record.json")
    pdf.unlink()
    study(config, Here())
    assert made_at(tmp_path, "*.safetensors") == files and pdf.exists()
    assert made_at(tmp_path, "record.json") == records
    for options in ({"lr": 1.0}, {"keep_checkpoints": True}):
        with pytest.raises(InputError, match="a study is only resumed with the same ones"):
            study(tiny_study(tmp_path, **options), Here())


def test_the_checkpoints_of_others_stay(tmp_path: Path) -> None:
    for name in ("own", "theirs"):
        (tmp_path / name).mkdir()
        for step in (1, 2):
            (tmp_path / name / f"step_{step}.safetensors").touch()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    removed = {name: trajectory.remove_checkpoints(tmp_path / name) for name in ("own", "link")}
    assert removed == {"own": 2, "link": 0}
    assert not made_at(tmp_path / "own", "step_*") and len(made_at(tmp_path / "theirs", "*")) == 2


@pytest.mark.slow
def test_final_models_are_the_mean_of_the_runs(tmp_path: Path) -> None:
    """Against networks evaluated by the training command itself."""
    write_images(tmp_path / "data")
    runs = [tiny_config(tmp_path / "data", tmp_path / f"{s}", seed=s) for s in (0, 1)]
    runs = [replace(r, checkpoint_every=2, average=(2,), average_from=2) for r in runs]
    kept = []
    for run in runs:
        train(run)
        record = trajectory.measure(run.output)
        with new_folder(tmp_path / "kept" / str(run.seed)) as folder:
            record.write(folder)
        kept.append(tmp_path / "kept" / str(run.seed))
        last = read_metrics(tmp_path / str(run.seed) / "metrics.jsonl")[-1]
        accuracy = record.values.query("metric == 'accuracy'").set_index("env")["value"]
        assert accuracy.to_dict() == last["accuracy"]
        average = weights(tmp_path / str(run.seed), "average_every_2")
        evaluator = trajectory.Evaluator(Member.read(run.output))
        right = evaluator.correct(evaluator.logits(average))
        found = record.values.query("metric == 'average_trajectory_accuracy'")
        assert found.set_index("env")["value"].to_dict() == {e: r.mean() for e, r in right.items()}

    (tmp_path / "moved").mkdir()
    for run in runs:
        Path(run.output).rename(tmp_path / "moved" / str(run.seed))
    runs = [replace(run, output=str(tmp_path / "moved" / str(run.seed))) for run in runs]
    outputs = [run.output for run in runs]
    found = finals.measure(outputs, kept, draws=9).values.query("split == 'ood'")
    assert "average_subset" not in set(found["metric"])  # of two runs there is one average
    (env,) = runs[0].test_env
    logits = np.mean([Record.read(folder).arrays[env] for folder in kept], axis=0)
    labels = trajectory.Evaluator(Member.read(runs[0].output)).labels(env)
    of = found.set_index(["metric", "seed"])["value"]
    assert of["ensemble_final", 0] == (logits.argmax(1) == labels).mean()
    singles = [(Record.read(f).arrays[env].argmax(1) == labels).mean() for f in kept]
    assert [of["ensemble_subset", draw] for draw in (0, 1)] == singles
    mean = average_of([weights(Path(run.output)) for run in runs])
    evaluator = trajectory.Evaluator(Member.read(runs[0].output))
    assert of["average_final", 0] == evaluator.correct(evaluator.logits(mean))[env].mean()


KILLED = """
import warnings
warnings.simplefilter("ignore")
from pathlib import Path
from finetuning.sweep import Here
from scripts.study.__main__ import study
from scripts.study.protocols import PROTOCOLS
from tests.scripts.test_study import TINY, tiny_study
PROTOCOLS["smoke"] = TINY
study(tiny_study(Path({folder!r})), Here())
"""


FINISHED = {"runs": "*/final.safetensors", "records": "*/*/record.json"}  # and nothing half made


def finished_at(tmp_path: Path, kind: str) -> dict[Path, int]:
    """When what is finished was written, while another process goes on."""
    files = (tmp_path / "study" / kind).glob(FINISHED[kind])
    return {path: path.stat().st_mtime_ns for path in files}


def out_of_memory(_: LinearityConfig) -> Record:
    raise MemoryError


def killed_at(tmp_path: Path, kind: str, number: int) -> None:
    """Start the study in a process of its own, and kill it when so much is finished."""
    code = KILLED.format(folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        while len(finished_at(tmp_path, kind)) < number:
            assert process.poll() is None, "the study ended before it was killed"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_killed_study_loses_at_most_what_was_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "data")
    finished: dict[Path, int] = {}
    for kind, number in (("runs", 5), ("records", 3), ("records", 16)):
        killed_at(tmp_path, kind, number)
        now = finished_at(tmp_path, "runs") | finished_at(tmp_path, "records")
        assert {path: now[path] for path in finished} == finished
        finished = now
    monkeypatch.setattr(linearity, "measure", out_of_memory)  # which comes last
    pdf = study(tiny_study(tmp_path), Here())
    assert "missing: linearity/" in capsys.readouterr().out
    assert "in out_of_memory" in next((tmp_path / "study" / "failures").iterdir()).read_text()
    assert pdf.exists() and {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not [run for run in finished if (run.parent / "resume.pt").exists()]
