r"""Is fine-tuning really linear? Train linear models in its place, compare, and write one PDF.

    python -m scripts.linear_study                   # the embedded digits
    python -m scripts.linear_study --data PACS --model mobilenetv3_small_100 \
        --pretrained weights.safetensors --test_env sketch photo --lr 1e-2 --steps 300

Every environment is held out in turn, by every seed, without and with very large dropout: the
network, its tangent model, the paper's linear model (1), and kernel regression. A grid over
learning rate, steps and set size asks where linearity ends. The same command goes on where an
interrupted one stopped.

::

    config.yaml          the options
    runs/, grid/         run folders, each with its tangent and linear twins beside it
    records/             what the probes measured, a record each
    record/              linearity as one record, and the runs of the comparison (runs.parquet)
    linear_study.pdf     the report
"""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.command_line import as_yaml, run
from core.errors import InputError
from core.outputs import new_folder
from core.records import Record
from core.resumable import OPTIONS, check_resumable
from finetuning.sweep import Backend, Outcome, sweep
from reports.linear_study import Study, write_report
from scripts.linear_study.collecting import PROBE, grid_frame, runs_frame, study_record
from scripts.linear_study.config import LinearStudyConfig
from scripts.linear_study.plan import GRID, Trained, comparison, configs, grid
from scripts.linear_study.probing import CREATION, CREATION_GRID, RATE, probe_all
from scripts.study_options import NOT_COMPARED, check_layers, held_out, run_and_report

BEFORE = {"head_lr_factor": 1.0}  # of studies that were begun before the option

log = logging.getLogger(__name__)


def study(config: LinearStudyConfig, backend: Backend) -> Path:
    """Run what is missing, measure, and return the PDF.

    Raises:
        InputError: If options, images, checkpoint or output do not fit, or a run of the
            comparison fails.
    """
    began = time.perf_counter()
    check_resumable(config, "study", NOT_COMPARED, BEFORE)
    output = Path(config.output)
    envs = held_out(config)
    check_layers(config)
    trained = comparison(config, envs)
    if config.grid:
        (grid_env,) = held_out(replace(config, test_env=(config.grid_env or envs[-1],)))
        trained += grid(config, grid_env)
    if not output.exists():
        with new_folder(output) as folder:
            (folder / OPTIONS).write_text(as_yaml(config), encoding="utf-8")
    trained = finished(trained, sweep(configs(trained), output, backend))
    records = probe_all(config, trained, backend)
    return write(config, trained, records, time.perf_counter() - began)


def finished(trained: Sequence[Trained], outcomes: Sequence[Outcome]) -> list[Trained]:
    """Without the runs of the grid that failed, which large learning rates may do.

    Raises:
        InputError: If a run of the comparison failed.
    """
    failed = {str(outcome.folder): outcome.failure for outcome in outcomes if outcome.failure}
    kept = []
    for one in trained:
        reasons = [failed[run.output] for run in configs([one]) if run.output in failed]
        if reasons and one.group != GRID:
            raise InputError(f"a run of the study failed: {reasons[0]}")
        if reasons:
            log.warning("left out of the grid: '%s' (%s)", one.run.output, reasons[0])
        else:
            kept.append(one)
    return kept


def write(
    config: LinearStudyConfig,
    trained: Sequence[Trained],
    records: Mapping[str, Record],
    seconds: float,
) -> Path:
    """The frame of runs, the record and the report, where they are not there yet."""
    output = Path(config.output)
    record_folder, pdf = output / "record", output / f"{PROBE}.pdf"
    runs = runs_frame(trained, records)
    record = study_record(config, records, seconds)
    if record_folder.exists() and _runs_of(Record.read(record_folder)) != _runs_of(record):
        log.info("the runs are others than in '%s', which is written again", record_folder)
        pdf.unlink(missing_ok=True)  # first: it shows what the folder holds
        shutil.rmtree(record_folder)
    if not record_folder.exists():
        with new_folder(record_folder) as folder:
            record.write(folder)
            runs.to_parquet(folder / "runs.parquet", index=False)
    if not pdf.exists():
        found = Study(
            record=Record.read(record_folder),
            runs=runs,
            grid=grid_frame(trained),
            creation=records[CREATION],
            creation_grid=records.get(CREATION_GRID),
            rate=records[RATE],
        )
        write_report(found, record_folder, pdf)
    return pdf


def _runs_of(record: Record) -> set[str]:
    return {entry["run"] for entry in record.provenance["runs"]}


def main() -> None:
    """Entry point of `python -m scripts.linear_study`."""
    run(_study, LinearStudyConfig)


def _study(config: LinearStudyConfig) -> None:
    run_and_report(study, config)


if __name__ == "__main__":
    main()
