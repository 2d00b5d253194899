"""Make the PDF of a rate curve: is dropout ridge? A figure, its table and verdicts.

    python -m reports.rate_curve --record runs/rate_curve --output rate_curve.pdf

The probe `rate_curve` calls `write_report`; other reports place its section by `drawings`,
`tables_of` and `facts`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.dropout_ridge_verdict import (
    ALL,
    CONVERGED,
    DROPOUT,
    LOSSES,
    WAYS,
    accuracy_of,
    difference_of,
    dropout_ridge_verdicts,
)
from analysis.equivalence import MARGIN
from analysis.estimates import Estimate, estimate, number, ordered, select
from core.command_line import run
from core.records import Record
from reports.document import Provenance, aligned, check_probe, line, plain, write_document
from reports.figures import band, splits
from reports.reasons import undefined
from reports.record_command import ReportConfig, report_record
from reports.style import Drawing, draw, legend, line_handles, panels, run_styles, theme
from reports.tables import Table, cell

PROBE = "rate_curve"
TITLE = "Is dropout a ridge penalty?"
NAMES = {"squared": "squared loss", "cross_entropy": "cross-entropy"}


def write_report(record: Record, folder: Path, output: Path) -> Path:
    """Writes the PDF of a record; the same record gives the same bytes.

    Args:
        record: Record of the probe `rate_curve`.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.

    Raises:
        InputError: If the record is another probe's, or `output` exists or cannot be created.
    """
    check_probe(record, folder, PROBE, Provenance)
    content = {
        "title": TITLE,
        "tables": tables_of(record),
        "rate": facts(record),
        "undefined": undefined(record),
    }
    return write_document("rate_curve.typ", record, folder, output, content, drawings(record))


def facts(record: Record) -> dict[str, Any]:
    """What the section says of how it was made, and its verdicts."""
    kept = ("decay", "steps", "repeats", "stacked", "tangent")
    return {
        "margin": MARGIN,
        "converged": CONVERGED,
        "losses": losses_of(record),
        "layers": ordered(record.values, "layer"),
        "verdicts": [line(verdict) for verdict in dropout_ridge_verdicts(record)],
        **{name: record.config[name] for name in kept},
    }


def losses_of(record: Record) -> list[str]:
    """The losses that were measured."""
    measured = set(record.values["metric"])
    return [loss for loss in LOSSES if difference_of(loss) in measured]


def drawings(record: Record) -> dict[str, Sequence[Drawing]]:
    """Accuracy against the rate; a figure of each network and representation."""
    with theme():
        return {"rate": [_figure(record, *place) for place in _networks(record)]}


def tables_of(record: Record) -> dict[str, Table]:
    """The same numbers, a row per network, representation, loss, split and rate."""
    several = len(_networks(record)) > 1
    rows = [
        [
            *([f"{name}, {layer}"] if several else []),
            NAMES[loss],
            split,
            f"{rate:g}",
            *(cell(_found(record, accuracy_of(loss, way), rate, *place)) for way in WAYS),
            cell(_found(record, difference_of(loss), rate, *place)),
        ]
        for name, layer in _networks(record)
        for loss in losses_of(record)
        for split in _splits(record)
        for place in [(name, layer, split)]
        for rate in _rates(record, loss)
    ]
    labels = [*(["Features"] if several else []), "Loss", "Split", "Rate"]
    ways = [f"{way[0].upper()}{way[1:]} ↑" for way in WAYS.values()]
    header = [*labels, *ways, "Closed form less dropout"]
    return {"rate": {"labels": len(labels), "header": header, "rows": rows}}


def verdict_lines(record: Record) -> list[str]:
    """The verdicts as plain text."""
    return aligned(
        ["features, loss", "split", "dropout is ridge", "furthest difference [95 %]"],
        [[v.run, v.split, v.word, plain(v.estimate)] for v in dropout_ridge_verdicts(record)],
    )


def _networks(record: Record) -> list[tuple[str, str]]:
    """Networks and their representations."""
    keys = record.values[["run", "layer"]].drop_duplicates()
    return [(name, layer) for name, layer in keys.itertuples(index=False)]


def _splits(record: Record) -> list[str]:
    return splits(record, difference_of(losses_of(record)[0]))


def _rates(record: Record, loss: str) -> list[float]:
    rows = select(record.values, difference_of(loss))
    return sorted(rows["at"].unique().tolist())


def _found(
    record: Record, metric: str, rate: float, name: str, layer: str, split: str
) -> Estimate | None:
    where = {"run": name, "layer": layer, "split": split, "env": ALL}
    return estimate(record.values, metric, at=rate, **where)


def _figure(record: Record, name: str, layer: str) -> Drawing:
    """A row per loss, a column per split; the share of kept units on a logarithmic axis."""
    rows, columns = losses_of(record), _splits(record)
    styles = run_styles(list(WAYS))
    figure, grid = panels(
        len(rows), len(columns), 0.6 + 1.9 * len(rows), sharex=True, sharey="col"
    )
    for panel_row, loss in zip(grid, rows, strict=True):
        for axes, split in zip(panel_row, columns, strict=True):
            for way, style in styles.items():
                metric = accuracy_of(loss, way)
                curve = select(record.values, metric, run=name, layer=layer, split=split, env=ALL)
                curve = curve.assign(at=1 - curve["at"].to_numpy(float))
                band(axes, curve, style.color, linestyle=style.dash, marker=style.marker)
            _open_markers(axes, record, loss, (name, layer, split))
            axes.set_title(f"{split}, {NAMES[loss]}")
        panel_row[0].set_ylabel("accuracy")
    for axes in grid[-1]:
        _rate_axis(axes, _rates(record, rows[0]))
    legend(figure, line_handles(styles, WAYS))
    several = len(_networks(record)) > 1
    return draw(figure, _alt(record, name, layer), f"{name}, {layer}" if several else "")


def _open_markers(axes: Axes, record: Record, loss: str, place: tuple[str, str, str]) -> None:
    """White in the markers of dropout where the comparison has not converged."""
    style = run_styles(list(WAYS))[DROPOUT]
    for rate in _rates(record, loss):
        difference = _found(record, difference_of(loss), rate, *place)
        accuracy = _found(record, accuracy_of(loss, DROPOUT), rate, *place)
        if accuracy is not None and difference is not None and not difference.has_interval:
            axes.plot(1 - rate, accuracy.value, style.marker, color=style.color, mfc="white")


def _rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(1 - np.array(rates))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda kept, _: f"{1 - kept:.4g}")
    axes.set_xlim(1.15, (1 - max(rates)) / 1.15)
    axes.set_xlabel("dropout rate")


def _alt(record: Record, name: str, layer: str) -> str:
    said = [
        f"{NAMES[loss]} {split} at rate {rate:g}: {number(found.value)}"
        for loss in losses_of(record)
        for split in _splits(record)
        for rate in _rates(record, loss)
        if (found := _found(record, difference_of(loss), rate, name, layer, split))
    ]
    return (
        f"Accuracy of a linear layer on {layer} of {name} against the dropout rate, by "
        f"{', '.join(WAYS.values())}. Closed form less dropout: {'; '.join(said)}."
    )


def report(config: ReportConfig) -> None:
    """Reads the record, writes the PDF, prints the verdicts."""
    report_record(config, write_report, verdict_lines)


def main() -> None:
    """Entry point of `python -m reports.rate_curve`."""
    run(report, ReportConfig)


if __name__ == "__main__":
    main()
