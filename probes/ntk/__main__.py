r"""How did the neural tangent kernel change in a fine-tuning, and is it aligned with the labels?

    python -m probes.ntk                                    # the embedded example
    python -m probes.ntk --finetuned runs/erm runs/dropout  # run folders, compared
    python -m probes.ntk --model resnet50 --pretrained before.safetensors \
        --finetuned after.safetensors --data PACS --test_env sketch --output ntk

Writes a record folder with both kernels and its PDF, and prints a table. Run folders with
checkpoints along the way (`finetuning.train --checkpoint_every`) also get the velocity of the
kernel. A killed probe continues with the same command.
"""

from collections.abc import Sequence
from pathlib import Path

from analysis.estimates import Estimate, estimate, number, ordered
from core.command_line import run
from core.records import Record, check_new, new_folder
from probes.ntk.config import NtkConfig
from probes.ntk.measure import measure_with
from probes.options import with_defaults
from probes.partial import PartialResults
from reports.kernels import write_report

# Headings, metrics and positions of the columns of each table.
DRIFT = (
    ("distance", "kernel_distance", None),
    ("centred", "kernel_distance_centred", None),
    ("random move", "random_kernel_distance", None),
    ("change", "kernel_change", None),
)
LABELS = (
    ("alignment", "label_alignment", 0.0),
    ("fine-tuned", "label_alignment", 1.0),
    ("permuted", "permuted_label_alignment", 1.0),
    ("eff. rank", "effective_rank", 0.0),
    ("fine-tuned", "effective_rank", 1.0),
)


def table(record: Record, columns: Sequence[tuple[str, str, float | None]]) -> str:
    """Values with half the width of their 95 % intervals, by run and split."""
    values, layer = record.values, record.config["layer"]
    lines = [["run", "split", *(heading for heading, _, _ in columns)]]
    for name in ordered(values, "run"):
        for split in ordered(values, "split", run=name):
            where = {"run": name, "split": split, "env": "all", "layer": layer}
            found = [estimate(values, metric, at=at, **where) for _, metric, at in columns]
            lines.append([name, split, *map(_cell, found)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(found: Estimate | None) -> str:
    if found is None or not found.has_interval:
        return "-" if found is None else number(found.value)
    return f"{number(found.value)} ± {number((found.high - found.low) / 2)}"


def probe(config: NtkConfig) -> None:
    """Measure, write the record folder with its PDF, and print the tables."""
    config = with_defaults(config, "ntk")
    output = Path(config.output or "")
    check_new(output)
    partial = PartialResults.beside(output)
    record = measure_with(config, partial)
    with new_folder(output) as folder:
        record.write(folder)
        write_report(record, folder, folder / "kernels.pdf")
    partial.remove()  # only now: a probe killed while it writes does not measure again
    print(f"kernel of the {config.layer}, value ± half of the 95 % interval (jackknife)")
    print(table(record, DRIFT), table(record, LABELS), sep="\n\n")
    print(f"report: {output / 'kernels.pdf'}")


def main() -> None:
    """Entry point of `python -m probes.ntk`."""
    run(probe, NtkConfig)


if __name__ == "__main__":
    main()
