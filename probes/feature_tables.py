"""What the commands of feature probes share: the record on disk and the table in the terminal."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from analysis.estimates import Estimate, estimate, number, ordered
from core.layers import FEATURES
from core.records import Record, check_new, new_folder
from probes.feature_groups import ALL
from probes.feature_options import Options, with_defaults
from probes.feature_probe import FeatureProbe
from probes.partial import PartialResults


class Column(NamedTuple):
    """A column of a table."""

    heading: str
    metric: str
    at: float | None = None


def write_and_print(
    config: Options,
    probe: FeatureProbe[Options],
    columns: Sequence[Column] | Callable[[Record], str],
    write_report: Callable[[Record, Path, Path], Path] | None = None,
) -> None:
    """Measure, write the record folder, with its PDF where there is one, and print its table.

    Args:
        config: The options.
        probe: The probe.
        columns: Of the table; or what is printed in its place.
        write_report: Makes the PDF from the record, its folder and the PDF's name.

    Raises:
        InputError: If options, files and checkpoints do not fit, or the output exists.
    """
    config = with_defaults(config, probe.name)
    output = Path(config.output or "")
    check_new(output)
    partial = PartialResults.beside(output)
    record = probe.measure_with(config, partial)
    with new_folder(output) as folder:
        record.write(folder)
        if write_report is not None:
            write_report(record, folder, folder / f"{probe.name}.pdf")
    partial.remove()  # only now: a probe killed while it writes does not measure again
    if callable(columns):
        print(columns(record))
    else:
        print("value ± half of the 95 % interval")
        print(table(record, columns))
    print(f"record: {output}")
    if write_report is not None:
        print(f"report: {output / f'{probe.name}.pdf'}")


def table(record: Record, columns: Sequence[Column]) -> str:
    """Values with half the width of their intervals, by run and largest group of a split."""
    values = record.values
    layer = FEATURES if FEATURES in ordered(values, "layer") else ordered(values, "layer")[0]
    runs = [run for run in ordered(values, "run") if " | " not in run]
    rows = []
    for run in runs:
        for split, env in _groups(record, run):
            where = {"run": run, "layer": layer, "split": split, "env": env}
            rows.append([run, f"{split}/{env}", *(_cell(record, c, where) for c in columns)])
    lines = [["run", "examples", *(column.heading for column in columns)], *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _groups(record: Record, run: str) -> list[tuple[str, str]]:
    """All examples of a split where there are several environments, else the one."""
    found = []
    for split in ordered(record.values, "split", run=run):
        envs = ordered(record.values, "env", run=run, split=split)
        found.append((split, ALL if ALL in envs else envs[0]))
    return found


def _cell(record: Record, column: Column, where: Mapping[str, str]) -> str:
    return _shown(estimate(record.values, column.metric, at=column.at, **where))


def _shown(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if not found.has_interval:
        return number(found.value)
    return f"{number(found.value)} ± {number((found.high - found.low) / 2)}"
