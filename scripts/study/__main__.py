r"""The paper's study on any network and data: a verdict on each of its claims, and one PDF.

    python -m scripts.study                          # the embedded digits, in minutes
    python -m scripts.study --protocol mini          # the same in a night
    python -m scripts.study --protocol paper --data PACS --model resnet50 \
        --pretrained resnet50.safetensors --poorer older.safetensors --output runs/pacs

Every environment is held out in turn, over cells of learning rate and weight decay, seeds and
dropout rates; beside that a faster head, fewer images, random and poorer weights, rivals of
dropout, other places, tangent and linear models. Ensembles and averages are made of what was
trained, and probes say how linear and how rich it is. The same command goes on where an
interrupted one stopped, and loses at most the runs that were being made.

::

    config.yaml     the options
    runs/           run folders
    seconds.json    what runs took that had the machine to themselves
    records/        ensembles, averages and probes, a record each
    study/          runs.parquet (one row an evaluated model), ledger.json (every claim with its
                    verdict), record.json (options, provenance, what failed), figures/
    study.pdf       the report
"""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

import pandas as pd

from analysis.claims.ledger import document, ledger, table
from analysis.runs import read_runs
from core.command_line import as_yaml, run
from core.documents import read_json
from core.errors import InputError
from core.outputs import new_folder
from core.records import Record, provenance, tidy
from core.resumable import OPTIONS, check_resumable
from finetuning.sweep import Outcome, sweep
from finetuning.sweep.running import ELSEWHERE
from reports.study import write_report
from scripts.study.collecting import runs_frame
from scripts.study.config import StudyConfig
from scripts.study.plan import RUNS, Planned, environments, plan, timed_pairs
from scripts.study.probing import final_models, probes, trajectories
from scripts.study.timing import timed_alone
from scripts.study.trajectory import remove_checkpoints
from scripts.study_jobs import made
from scripts.study_options import report_on_this_machine

PROBE = "study"
NOT_COMPARED = ("output", "jobs", "workers", "cache")
BEFORE = {"keep_checkpoints": True}  # of studies that were begun before the option

log = logging.getLogger(__name__)


class _Facts(TypedDict):
    data_fingerprint: str
    pretrained_sha256: str | None


def study(config: StudyConfig) -> Path:
    """Run what is missing on joblib's backend, measure, judge, and return the PDF.

    Raises:
        InputError: If options, images, checkpoint or output do not fit, or every run fails.
    """
    began = time.perf_counter()
    check_resumable(config, PROBE, NOT_COMPARED, BEFORE)
    output = Path(config.output)
    planned = plan(config, environments(config))
    if not output.exists():
        with new_folder(output) as folder:
            (folder / OPTIONS).write_text(as_yaml(config), encoding="utf-8")
    log.info("%d runs", len(planned))
    outcomes = timed_alone(timed_pairs(config, planned), output)
    along: dict[str, str] = {}
    for env in environments(config):  # whose checkpoints go before the next one's come
        group = [one for one in planned if one.config.test_env == (env,)]
        swept = sweep([one.config for one in group], output)
        unfinished = {str(outcome.folder) for outcome in swept if outcome.failure}
        along |= along_runs(config, [o for o in group if o.config.output not in unfinished])
        outcomes += swept
    finished, failed = sorted_out(planned, outcomes)
    failed |= along
    failed |= made([*final_models(config, finished), *probes(config, finished)])
    return write(config, runs_frame(config, finished), failed, time.perf_counter() - began)


def along_runs(config: StudyConfig, finished: Sequence[Planned]) -> dict[str, str]:
    """What checkpoints along a run are together, and why that is missing of some.

    The checkpoints go once they are measured: they are most of a study's bytes.
    """
    jobs = trajectories(config, finished)
    failed = made(jobs)
    if not config.keep_checkpoints:
        measured = [job for job in jobs if "/".join(job.folder.parts[-2:]) not in failed]
        removed = sum(remove_checkpoints(Path(run)) for job in measured for run in job.checkpoints)
        if removed:
            log.info("%d checkpoints along runs are measured and removed", removed)
    return failed


def sorted_out(
    planned: Sequence[Planned], outcomes: Sequence[Outcome]
) -> tuple[list[Planned], dict[str, str]]:
    """The runs that are finished, and why the others are not.

    Raises:
        InputError: If none is, or another process is at one.
    """
    busy = [str(o.folder) for o in outcomes if o.failure == ELSEWHERE]
    if busy:
        raise InputError(
            f"another process is at {len(busy)} runs of this study, such as '{busy[0]}'; one "
            "study a folder was expected: wait for it, or stop it, and give this command again"
        )
    failed = {str(o.folder): o.failure for o in outcomes if o.failure}
    finished = [one for one in planned if one.config.output not in failed]
    if not finished:
        raise InputError(f"every run of the study failed, such as: {next(iter(failed.values()))}")
    for folder, reason in failed.items():
        log.warning("'%s' has failed: %s", folder, reason)
    return finished, {Path(folder).name: reason for folder, reason in failed.items()}


def write(
    config: StudyConfig, runs: pd.DataFrame, failed: Mapping[str, str], seconds: float
) -> Path:
    """The frame, the ledger and the report; the ledger is printed."""
    entries = ledger(runs)
    print(table(entries))
    for name, reason in failed.items():
        print(f"missing: {name} ({reason})")
    folder, pdf = Path(config.output) / PROBE, Path(config.output) / "study.pdf"
    if folder.exists() and not read_runs(folder).equals(runs):
        log.info("the runs are others than in '%s', which is written again", folder)
        pdf.unlink(missing_ok=True)  # first: it shows what the folder holds
        shutil.rmtree(folder)
    if not folder.exists():
        with new_folder(folder) as new:
            study_record(config, runs, failed, seconds).write(new)
            runs.to_parquet(new / "runs.parquet", index=False)
            text = json.dumps(document(entries), indent=2, ensure_ascii=False, allow_nan=False)
            (new / "ledger.json").write_text(text + "\n", encoding="utf-8")
    if not pdf.exists():
        write_report(runs, Record.read(folder), folder, pdf)
    return pdf


def study_record(
    config: StudyConfig, runs: pd.DataFrame, failed: Mapping[str, str], seconds: float
) -> Record:
    """How the numbers were obtained; the numbers themselves are in the runs frame."""
    names = [name for name in runs["run"].unique() if (_folder(config, name)).is_dir()]
    first = read_json(_folder(config, names[0]) / "run.json", _Facts)
    return Record(
        probe=PROBE,
        config=asdict(config) | {"scale": asdict(config.scale)},
        values=tidy([]),
        metrics={},
        provenance=provenance(
            runs=[{"run": name} for name in names],
            data=config.data,
            data_fingerprint=first["data_fingerprint"],
            pretrained_sha256=first["pretrained_sha256"],
            failed=dict(failed),
            seconds=round(seconds, 1),
        ),
    )


def _folder(config: StudyConfig, name: str) -> Path:
    return Path(config.output) / RUNS / name


def main() -> None:
    """Entry point of `python -m scripts.study`."""
    run(_study, StudyConfig)


def _study(config: StudyConfig) -> None:
    report_on_this_machine(study, config)


if __name__ == "__main__":
    main()
