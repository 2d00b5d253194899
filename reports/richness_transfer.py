"""What the representations are good for: few shots, probes at home and away, probes of layers."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from analysis.estimates import Estimate, estimate, ordered, select
from analysis.richness_verdicts import checkpoints, places, split_names
from analysis.transfer_readings import Reading, transfer_readings
from core.records import Record
from reports import tables
from reports.richness_runs import (
    curve,
    curve_rows,
    handles,
    layers_of,
    marks,
    names_of,
    splits_with,
    styles_of,
)
from reports.richness_spectra import by_layer
from reports.style import Drawing, draw, legend, panels, theme, wrapped
from reports.tables import Table

_FEW, _PROBE = "few_shot_accuracy", "probe_accuracy"


def drawings(record: Record) -> dict[str, Sequence[Drawing]]:
    """The figures of the section by name."""
    return {"few_shot": few_shot(record), "gaps": gaps(record), "layer_probes": probes(record)}


def few_shot(record: Record) -> list[Drawing]:
    """Accuracy over shots per class, a panel per split; none where it was not measured."""
    splits = splits_with(record, _FEW, split_names(record))
    if not splits:
        return []
    with theme():
        shots = sorted(select(record.values, _FEW).dropna(subset=["value"])["at"].unique())
        figure, (row,) = panels(1, max(2, len(splits)), 2.4, sharex=True, sharey=True)
        for axes, split in zip(row, splits, strict=False):
            for run, style in styles_of(record).items():
                rows = curve_rows(record, run, split, _FEW).dropna(subset=["value"])
                curve(axes, rows, run, style)
            axes.set(title=split, xlabel="shots per class", xscale="log")
            axes.set_xticks(shots, [f"{x:g}" for x in shots], minor=False)
            axes.minorticks_off()
        for axes in row[len(splits) :]:
            axes.set_axis_off()
        row[0].set_ylabel("accuracy")
        legend(figure, handles(record))
        return [draw(figure, _few_alt(record, splits))]


def _few_alt(record: Record, splits: Sequence[str]) -> str:
    lines = []
    for split in splits:
        for run in checkpoints(record):
            rows = curve_rows(record, run, split, _FEW).dropna(subset=["value"])
            if len(rows):
                last = rows.sort_values("at").iloc[-1]
                lines.append(f"{run} {split} {last['value']:.3f} at {last['at']:g} shots")
    return f"Few-shot accuracy against shots per class: {'; '.join(lines)}."


def gaps(record: Record) -> list[Drawing]:
    """Source probe and target probe of every checkpoint, a panel per environment."""
    found = transfer_readings(record)
    if not found:
        return []
    envs = list(dict.fromkeys((reading.env, reading.split) for reading in found))
    names = names_of(record)
    with theme():
        height = 0.8 + 0.27 * len(names)
        figure, (row,) = panels(1, len(envs), height, sharex=True, sharey=True)
        for axes, (env, split) in zip(row, envs, strict=True):
            for reading in found:
                if (reading.env, reading.split) == (env, split):
                    _gap(axes, record, reading)
            axes.set(title=f"{split}, {env}", xlabel="accuracy")
            axes.tick_params(axis="y", length=0)
        row[0].set_yticks(range(len(names)), [wrapped(name, 26) for name in names.values()])
        row[0].set_ylim(len(names) - 0.5, -0.5)
        return [draw(figure, _gaps_alt(found))]


def _gap(axes: Axes, record: Record, reading: Reading) -> None:
    """Source probe as an open marker, target probe as a full one, at home as a bar."""
    at, style = checkpoints(record).index(reading.run), styles_of(record)[reading.run]
    shown = ((0.13, reading.source, "white"), (-0.13, reading.target, style.color))
    for height, probe, face in shown:
        axes.hlines(at + height, probe.low, probe.high, color=style.color, linewidth=0.9)
        options = marks(reading.run, style) | {"markerfacecolor": face}
        axes.plot(probe.value, at + height, linestyle="", markersize=4.2, **options)  # type: ignore[arg-type]
    if reading.iid is not None:
        axes.vlines(reading.iid.value, at - 0.3, at + 0.3, color="0.45", linewidth=1.2)


def _gaps_alt(found: Sequence[Reading]) -> str:
    lines = [f"{r.run} {r.env} source {r.source}, target {r.target}" for r in found]
    return f"Accuracy of source and target probes: {'; '.join(lines)}."


def gap_table(record: Record) -> Table:
    """Both probes, their difference and the reading, a row per checkpoint and environment."""
    names = names_of(record)
    rows = [
        [
            f"{r.split}, {r.env}",
            names[r.run],
            *(tables.cell(e) for e in (r.source, r.target, r.gap, r.iid)),
            r.word,
        ]
        for r in transfer_readings(record)
    ]
    columns = ["Source probe", "Target probe", "Gap", "i.i.d. probe", "Reading"]
    return {"labels": 2, "header": ["Split", "Checkpoint", *columns], "rows": rows}


def reading_lines(record: Record) -> list[dict[str, str]]:
    """The readings as sentences."""
    names = names_of(record)
    return [
        {
            "run": names[r.run],
            "where": f"{r.split}, {r.env}",
            "word": r.word,
            "gap": tables.cell(r.gap),
            "sentence": r.meaning,
        }
        for r in transfer_readings(record)
    ]


def probes(record: Record) -> list[Drawing]:
    """Probes layer by layer, a panel per split; none where one layer was measured."""
    splits = splits_with(record, _PROBE, split_names(record))
    if len(layers_of(record, _PROBE)) < 2:
        return []
    with theme():
        figure, (row,) = panels(1, max(2, len(splits)), 2.9, sharex=True, sharey=True)
        for axes, split in zip(row, splits, strict=False):
            by_layer(axes, record, _PROBE, split)
            axes.set_title(split)
        for axes in row[len(splits) :]:
            axes.set_axis_off()
        row[0].set_ylabel("accuracy of a linear probe")
        legend(figure, handles(record))
        return [draw(figure, _probes_alt(record, splits))]


def _probes_alt(record: Record, splits: Sequence[str]) -> str:
    layers, best = layers_of(record, _PROBE), []
    for split in splits:
        for run in checkpoints(record):
            env = places(record, run).get(split, "")
            rows = select(record.values, _PROBE, run=run, split=split, env=env)
            if len(rows):
                top = rows.sort_values("value").iloc[-1]
                best.append(f"{run} {split} {top['value']:.3f} at {top['layer']}")
    return f"Probe accuracy by layer, {', '.join(layers)}; best: {'; '.join(best)}."


def layer_gain(record: Record) -> Table:
    """What all layers side by side gain over the last, a row per environment and checkpoint."""
    rows = select(record.values, "layer_gain")
    names = names_of(record)
    lines = []
    for split in splits_with(record, "layer_gain", split_names(record)):
        for env in ordered(rows, "env", split=split):
            for run in checkpoints(record):
                where = {"run": run, "split": split, "env": env, "layer": "all"}
                found: list[Estimate | None] = [
                    estimate(record.values, _PROBE, at=None, **where | {"layer": "features"}),
                    estimate(record.values, _PROBE, at=None, **where),
                    estimate(record.values, "layer_gain", at=None, **where),
                ]
                lines.append([f"{split}, {env}", names[run], *map(tables.cell, found)])
    header = ["Split", "Checkpoint", "Last layer ↑", "All layers ↑", "Gain"]
    return {"labels": 2, "header": header, "rows": lines}
