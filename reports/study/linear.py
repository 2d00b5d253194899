"""Linear models trained in the network's place, averaged over cells; and the gap of Figure 1."""

import numpy as np
import pandas as pd

from analysis.bootstrap import hierarchical_mean
from analysis.claims.linearity import GAP
from analysis.claims.rows import MAIN, SINGLE, main_runs, sized_runs, tuned, with_measure
from analysis.clusters import PLACE
from analysis.estimates import Estimate
from analysis.linear_counterparts import SELECTIONS, contrasts
from analysis.runs import has_measure
from core.errors import InputError
from reports import counterparts
from reports.study.comparison import MEAN, in_setting
from reports.study.forest import marks
from reports.study.sections import Content, Plate, each_dataset, sentences
from reports.style import Drawing, draw, legend, panels, run_styles, theme
from reports.tables import cell

MEASURES = {  # in figures, in tables
    "interpolation_gap_max": ("gap of interpolations", "gap of interpolations"),
    "explained_displacement": ("$R^2$ of $\\Phi$", "R² of Φ"),
}
_JITTER = 0.12


def linear_models(runs: pd.DataFrame) -> Content:
    """Figure and table of `reports.counterparts`, of means over cells."""
    found, reasons = each_dataset(runs, lambda _, rows: _compared(rows))
    plates, table = [], {"labels": 0, "header": [], "rows": []}
    for means in found:
        differences = contrasts(means)
        made = counterparts.drawings(means, differences)
        plates += [Plate(drawing=drawing, data=means) for drawing in made]
        one = counterparts.table(differences)
        table = {**one, "rows": [*table["rows"], *one["rows"]]}
        margin = differences[0].test.margin
        reasons += [one.mean.reason for one in differences]
    return Content(plates=plates, table=table, notes=sentences(reasons), facts={"margin": margin})


def _compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Networks in the main setting and their counterparts, means over the cells of the latter."""
    steps = [rows.loc[rows["selection"] == step, :] for step in ("best", "final")]
    network = pd.concat([main_runs(step) for step in steps if len(step)])
    network = network.loc[network["method"].isin(SINGLE), :]
    linear = rows.loc[rows["method"].isin(SELECTIONS) & (rows["head_lr_factor"] == 1), :]
    linear = in_setting(linear, network, [*MAIN[:1], "train_size"])
    if linear.empty:
        raise InputError(f"no run of {' or '.join(SELECTIONS)} beside the networks")
    same = set(linear["cell"]) & set(network["cell"])  # model (1) has cells of its own
    if same:
        network = network.loc[network["cell"].isin(same), :]
    keys = [*PLACE, "method", "drop_rate", "selection", "seed", "split"]
    kept = pd.concat([network, linear])
    return kept.groupby(keys, as_index=False).agg(MEAN)


def interpolation(runs: pd.DataFrame) -> Content:
    """Gap and explained displacement over learning rate times steps, plain and with dropout."""
    rows = with_measure(sized_runs(runs), "interpolation_gap_max")
    rows = rows.loc[rows["method"].isin(SINGLE), :].dropna(subset=["lr", "steps"])
    rows = rows.assign(force=(rows["lr"] * rows["steps"]).astype("float64"))
    found, reasons = each_dataset(rows, _interpolated)
    several = len(found) > 1
    with theme():
        plates = [
            Plate(drawing=_figure(name, data, name if several else ""), data=data)
            for name, data in found
        ]
    lines = [
        [
            name,
            MEASURES[p["measure"]][1],
            f"{p['drop_rate']:g}",
            f"{p['force']:.3g}",
            cell(_estimate(p)),
            str(p["num"]),
        ]
        for name, data in found
        for p in data.to_dict("records")
    ]
    header = ["Data set", "Measure", "Dropout", "Rate x steps", "Mean", "Runs"]
    return Content(
        plates=plates,
        table={"labels": 4, "header": header, "rows": lines},
        notes=reasons,
        facts={"gap": GAP},
    )


def _interpolated(dataset: str, rows: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Means with intervals by measure, dropout rate and learning rate times steps."""
    if rows.empty:
        raise InputError("no run has a learning rate and steps")
    measures = [measure for measure in MEASURES if has_measure(rows, measure)]
    points = []
    for measure in measures:
        measured = rows.dropna(subset=[measure])
        for rate in sorted(set(measured["drop_rate"])):
            for force, of in tuned(measured, rate).groupby("force"):
                mean = hierarchical_mean(of, measure)
                point = {"measure": measure, "drop_rate": rate, "force": float(str(force))}
                points.append(point | vars(mean.estimate) | {"num": mean.num})
    return dataset, pd.DataFrame(points)


def _figure(dataset: str, data: pd.DataFrame, part: str) -> Drawing:
    measures = list(dict.fromkeys(data["measure"]))
    styles = run_styles([f"dropout {rate:g}" for rate in sorted(set(data["drop_rate"]))])
    figure, (row,) = panels(1, len(measures), 2.7)
    for axes, measure in zip(row, measures, strict=True):
        of_measure = data[data["measure"] == measure]
        for number, (rate, curve) in enumerate(of_measure.groupby("drop_rate")):
            style = styles[f"dropout {rate:g}"]
            x = curve["force"] * (1 + _JITTER * number)
            axes.vlines(x, curve["low"], curve["high"], color=style.color, linewidth=1.1)
            axes.plot(x, curve["value"], style.marker, color=style.color, linestyle=style.dash)
        axes.set_xscale("log")
        axes.set(title=MEASURES[measure][0], xlabel="learning rate x steps")
    row[0].axhline(GAP, color="0.4", linewidth=0.7, linestyle="--")
    legend(figure, marks(styles))
    said = [f"{p['measure']} {p['drop_rate']:g} {_estimate(p)}" for p in data.to_dict("records")]
    return draw(figure, f"{dataset}: over learning rate x steps. {'; '.join(said)}.", part)


def _estimate(point: dict) -> Estimate:
    return Estimate(*(float(np.float64(point[name])) for name in ("value", "low", "high")))
