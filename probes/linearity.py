r"""How linear was a fine-tuning? Function space, block by block, beside nulls and controls.

The tangent kernel before and after, on fewer images, has a section of its own. So has training
space: a run whose folder lies beside that of its tangent run (`finetuning.train --tangent`) or of
its linear model (`finetuning.linear`) is compared with them and with kernel regression.

    python -m probes.linearity                                    # the embedded example
    python -m probes.linearity --finetuned runs/erm runs/dropout  # run folders, compared
    python -m probes.linearity --model resnet50 --pretrained before.safetensors \
        --finetuned after.safetensors --data PACS --test_env sketch --output linearity

Writes a record folder with its PDF, and prints the verdicts. A killed probe continues with the
same command.
"""

import logging
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from core.command_line import run
from core.device import full_precision
from core.models import weight_groups
from core.records import Record, check_new, new_folder, provenance, tidy
from probes.linearity_bench import Bench, Measured
from probes.linearity_config import LinearityConfig
from probes.linearity_kernels import kernel_section
from probes.linearity_metrics import METRICS, example_rows, weight_rows
from probes.linearity_training import training_section
from probes.options import with_defaults
from probes.pairs import Comparison, load_pairs
from probes.partial import PartialResults
from reports.linearity import verdict_table, write_report

log = logging.getLogger(__name__)


def measure(config: LinearityConfig) -> Record:
    """Measure every pair in every environment; nothing stays on disk when it succeeds.

    Killed, it leaves finished parts beside `config.output`, and the next call continues there.

    Raises:
        InputError: If checkpoints, images and options do not fit each other.
    """
    config = with_defaults(config, "linearity")
    partial = PartialResults.beside(Path(config.output or ""))
    record = _measure(config, partial)
    partial.remove()
    return record


@full_precision()
def _measure(config: LinearityConfig, partial: PartialResults) -> Record:
    began = time.perf_counter()
    comparison = load_pairs(config)
    bench = Bench(config, comparison)
    training = training_section(config, bench, partial)  # first: it refuses what --twins names
    kernels = kernel_section(config, comparison, partial)
    sums: dict[str, dict[str, list[Measured]]] = {pair.run: {} for pair in comparison.pairs}
    units = [(pair, env) for pair in comparison.pairs for env in pair.images]
    for pair, env in tqdm(units, desc="probing", unit="environment"):
        sums[pair.run][env] = [bench.measured(pair, env, part, partial) for part in bench.parts]
    rows = example_rows(comparison.pairs, sums, seed=config.seed)
    groups = weight_groups(comparison.model)
    parameters = {n for n, _ in comparison.model.named_parameters(remove_duplicate=False)}
    for pair in comparison.pairs:
        rows += weight_rows(pair, groups, parameters)
        rows.append({"run": pair.run, "metric": "float64_gap", **bench.float64_gap(pair)})
    shared = {"probe": "linearity", "model": comparison.model_name}
    return Record(
        probe="linearity",
        config=asdict(config),
        values=tidy([shared | row for row in [*rows, *kernels.rows, *training.rows]]),
        metrics=METRICS | kernels.metrics | training.metrics,
        provenance=_provenance(config, comparison, bench)
        | kernels.facts
        | training.facts
        | {"seconds": round(time.perf_counter() - began, 1)},
        arrays=_arrays(sums) | kernels.arrays | training.arrays,
    )


def _provenance(
    config: LinearityConfig, comparison: Comparison, bench: Bench
) -> dict[str, object]:
    return provenance(
        runs=[pair.facts for pair in comparison.pairs],
        **comparison.facts,
        device=str(bench.device),
        dtype=config.dtype,
        seed=config.seed,
        num_draws=config.draws,
        batch_size=bench.batch_size,
    )


def _arrays(sums: dict[str, dict[str, list[Measured]]]) -> dict[str, np.ndarray]:
    """Numerators and denominators of every example, for other intervals than ours."""
    return {
        "|".join([run_name, env, *map(str, key)]): array
        for run_name, envs in sums.items()
        for env, parts in envs.items()
        for part in parts
        for key, array in part.items()
    }


def probe(config: LinearityConfig) -> None:
    """Measure, write the record folder with its PDF, and print the verdicts."""
    config = with_defaults(config, "linearity")
    output = Path(config.output or "")
    check_new(output)
    partial = PartialResults.beside(output)
    record = _measure(config, partial)
    with new_folder(output) as folder:
        record.write(folder)
        write_report(record, folder, folder / "linearity.pdf")
    partial.remove()  # only now: a probe killed while it writes does not measure again
    print(verdict_table(record))
    print(f"report: {output / 'linearity.pdf'}")


def main() -> None:
    """Entry point of `python -m probes.linearity`."""
    run(probe, LinearityConfig)


if __name__ == "__main__":
    main()
