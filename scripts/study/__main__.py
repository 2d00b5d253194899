r"""The paper's study on any network and data: a verdict on each of its claims, and one PDF.

    python -m scripts.study                          # the embedded digits, in minutes
    python -m scripts.study --protocol mini          # the same in an hour or two
    python -m scripts.study --protocol paper --data PACS --model resnet50 \
        --pretrained resnet50.safetensors --poorer older.safetensors --output runs/pacs
    python -m scripts.study --protocol paper ... --backend slurm --slurm '{slurm_partition: gpu}'

Every environment is held out in turn, over cells of learning rate and weight decay, seeds and
dropout rates; beside that a faster head, fewer images, random and poorer weights, rivals of
dropout, other places, tangent and linear models. Ensembles and averages are made of what was
trained, and probes say how linear and how rich it is. The same command goes on where an
interrupted one stopped, and loses at most the runs that were being made. One process at a time is
at a study.

::

    config.yaml         the options
    ingredients.json    the protocol's values and hashes of images and weights, which stay the same
    runs/               run folders
    seconds.json        what runs took that had the machine to themselves
    records/            ensembles, averages and probes, a record each
    failures/           tracebacks of what failed with a defect
    study/              runs.parquet (one row an evaluated model), ledger.json (every claim with
                        its verdict), record.json (options, provenance, what failed), figures/
    study.pdf           the report
"""

import json
import logging
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

import pandas as pd

from analysis.claims.ledger import document, ledger, table
from analysis.runs import read_runs
from core.command_line import as_yaml, run
from core.documents import read_json
from core.errors import InputError
from core.outputs import held, new_folder
from core.records import Record, provenance, tidy
from core.resumable import OPTIONS, check_resumable
from finetuning.sweep import LOCKS, Backend
from reports.study import write_report
from scripts.study.collecting import runs_frame
from scripts.study.config import StudyConfig
from scripts.study.ingredients import (
    Ingredients,
    check_facts,
    check_unchanged,
    ingredients,
    write_ingredients,
)
from scripts.study.plan import RUNS, Planned, environments, plan
from scripts.study.probing import final_models, probes, trajectories
from scripts.study.training import trained
from scripts.study_jobs import made
from scripts.study_options import NOT_COMPARED, run_and_report

PROBE = "study"
BEFORE = {"keep_checkpoints": True}  # of studies that were begun before the option

log = logging.getLogger(__name__)


class _Facts(TypedDict):
    data_fingerprint: str
    pretrained_sha256: str | None


def study(config: StudyConfig, backend: Backend) -> Path:
    """Run what is missing, measure, judge, and return the PDF.

    Raises:
        InputError: If options, images, checkpoint or output do not fit, before anything is
            created; if another process is at the study; or if every run fails.
    """
    check_resumable(config, PROBE, NOT_COMPARED, BEFORE)
    output = Path(config.output)
    with ExitStack() as stack:
        is_new = not output.exists()
        if not is_new:
            stack.enter_context(alone(output))  # before anything is loaded
        planned = plan(config, environments(config))
        found = ingredients(config, planned)
        if is_new:
            begin(config, found)
            stack.enter_context(alone(output))
        check_unchanged(output, found, planned)
        return complete(config, planned, found, backend)


@contextmanager
def alone(output: Path) -> Generator[None]:
    """Hold the lock of the study for the block; the system frees it when the process ends.

    Raises:
        InputError: If another process holds it.
    """
    (output / LOCKS).mkdir(exist_ok=True)
    with held(output / LOCKS / PROBE) as is_ours:
        if not is_ours:
            raise InputError(
                f"another process is at the study in '{output}'; one a folder was expected: wait "
                "until it has ended, or stop it, and give the same command again"
            )
        yield


def begin(config: StudyConfig, found: Ingredients) -> None:
    """Create the folder of the study."""
    with new_folder(Path(config.output)) as folder:
        (folder / OPTIONS).write_text(as_yaml(config), encoding="utf-8")
        write_ingredients(folder, found)


def complete(
    config: StudyConfig, planned: Sequence[Planned], made_of: Ingredients, backend: Backend
) -> Path:
    """Everything that is missing, up to the PDF."""
    began = time.perf_counter()
    log.info("%d runs, whose time to go is told; measurements come on top", len(planned))
    finished, failed = trained(config, planned, backend)
    check_facts(finished, made_of)  # files may have been replaced meanwhile
    jobs = [*final_models(config, finished), *probes(config, finished)]
    failed |= made(jobs, backend)
    runs = runs_frame(config, finished, [*trajectories(config, finished), *jobs])
    return write(config, runs, failed, time.perf_counter() - began)


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
        write_report(runs, Record.read(folder), folder, pdf, entries)
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
    run_and_report(study, config)


if __name__ == "__main__":
    main()
