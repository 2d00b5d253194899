"""What each hyper-parameter does, and which measures go with o.o.d. accuracy."""

import pandas as pd

from analysis.association import LEAST_RUNS, STRATUM, Association, associations, with_measure
from analysis.claims.rows import MAIN, SINGLE, main_runs, pretrained_runs
from analysis.factorial import FACTORS, Factorial, factorial
from analysis.runs import has_measure, measures
from core.errors import InputError
from reports.study.comparison import in_setting
from reports.study.forest import forest, marks
from reports.study.sections import Content, Plate, each_dataset, p_value
from reports.style import Drawing, draw, legend, panels, run_styles, theme
from reports.tables import cell

OUTCOMES = ("iid", "ood")
NO_MEASURES = {"pretraining"}  # columns that say how runs were made
KINDS = {"plain": "with ood accuracy", "partial": "beyond iid accuracy"}
Fits = dict[str, Factorial]


def effects(runs: pd.DataFrame) -> Content:
    """Mixed models of i.i.d. and o.o.d. accuracy over the grid of pretrained single runs."""
    single = pretrained_runs(runs)
    found, left_out = each_dataset(single.loc[single["method"].isin(SINGLE), :], _fits)
    several = len(found) > 1
    with theme():
        plates = [
            Plate(drawing=_fit_drawing(fits, name if several else ""), data=_fit_frame(name, fits))
            for name, fits in found
        ]
    rows = [
        [name, outcome, effect.factor, cell(effect.change), p_value(effect.p_value)]
        for name, fits in found
        for outcome, fit in fits.items()
        for effect in fit.effects
    ]
    header = ["Data set", "Accuracy", "Factor", "Change over its range", "p (Holm)"]
    notes = [note for name, fits in found for note in _complaints(name, fits)]
    table = {"labels": 3, "header": header, "rows": rows}
    return Content(plates=plates, table=table, notes=[*left_out, *notes])


def _fits(dataset: str, rows: pd.DataFrame) -> tuple[str, Fits]:
    at_main = in_setting(rows, main_runs(rows), MAIN)
    known = [name for name in FACTORS if has_measure(at_main, name)]
    varying = [o for o in OUTCOMES if len(set(at_main[o])) > 1] or OUTCOMES[-1:]
    return dataset, {o: factorial(at_main, outcome=o, factors=known) for o in varying}


def _complaints(dataset: str, fits: Fits) -> list[str]:
    same = [outcome for outcome in OUTCOMES if outcome not in fits]
    found = [f"{dataset}: all runs have one {o} accuracy; nothing acts on it." for o in same]
    for outcome, fit in fits.items():
        if fit.singular:
            found.append(f"{dataset}, {outcome}: the fit is singular ({'; '.join(fit.singular)}).")
    fit = next(iter(fits.values()))
    if fit.constant:
        found.append(f"{dataset}: {', '.join(fit.constant)} did not vary.")
    if fit.confounded:
        found.append(f"{dataset}: {', '.join(fit.confounded)} varied only with other factors.")
    return found


def _fit_drawing(fits: Fits, part: str) -> Drawing:
    styles = run_styles(list(fits))
    rows: dict = {}
    for outcome, fit in fits.items():
        for effect in fit.effects:
            rows.setdefault(effect.factor, {})[outcome] = effect.change
    figure, ((axes,),) = panels(1, 1, 0.9 + 0.26 * len(rows))
    forest(axes, rows, styles)
    axes.set_xlabel("change of accuracy from the lowest to the highest value")
    legend(figure, marks({f"{name} accuracy": style for name, style in styles.items()}))
    said = [f"{o} {e.factor} {e.change}" for o, fit in fits.items() for e in fit.effects]
    return draw(figure, f"Effects of the factors. {'; '.join(said)}.", part)


def _fit_frame(dataset: str, fits: Fits) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": dataset, "outcome": outcome, "factor": effect.factor}
            | {**vars(effect.change), "p_holm": effect.p_value, "num": fit.num_runs}
            for outcome, fit in fits.items()
            for effect in fit.effects
        ]
    )


def association(runs: pd.DataFrame) -> Content:
    """Rank correlation of every measure with o.o.d. accuracy over the single runs."""
    main = main_runs(runs)
    single = main.loc[main["method"].isin(SINGLE), :]
    names = [name for name in measures(single) if name not in NO_MEASURES]
    kept = [name for name in names if _measured(single, name)]
    if not kept:
        raise InputError(f"no measure was taken of {LEAST_RUNS} runs of an environment and seed")
    found = associations(single, kept)
    header = ["Measure", "With ood accuracy", "p (Holm)", "Beyond iid accuracy", "p (Holm)"]
    rows = [
        [
            a.measure,
            cell(a.plain),
            p_value(a.adjusted_plain),
            cell(a.partial),
            p_value(a.adjusted_partial),
            str(a.num_settings),
            str(a.num_runs),
        ]
        for a in found
    ]
    absent = [name for name in names if name not in kept]
    notes = [f"Too few runs or no variation: {', '.join(absent)}."] if absent else []
    notes += _without_verdict(found)
    return Content(
        plates=[Plate(drawing=_association_drawing(found), data=_association_frame(found))],
        table={"labels": 1, "header": [*header, "Settings", "Runs"], "rows": rows},
        notes=notes,
        facts={"family": found[0].num_measures},
    )


def _without_verdict(found: list[Association]) -> list[str]:
    """Measures without a p-value, by the reason."""
    by_reason: dict[str, list[str]] = {}
    for one in found:
        if one.reason:
            by_reason.setdefault(one.reason, []).append(one.measure)
    return [f"{', '.join(names)}: {reason}." for reason, names in by_reason.items()]


def _measured(rows: pd.DataFrame, name: str) -> bool:
    """Whether a measure differs between enough runs of some environment and seed."""
    return bool((with_measure(rows, name).groupby(STRATUM)[name].nunique() > 1).any())


def _association_drawing(found: list[Association]) -> Drawing:
    styles = run_styles(list(KINDS.values()))
    rows = {a.measure: {KINDS["plain"]: a.plain, KINDS["partial"]: a.partial} for a in found}
    with theme():
        figure, ((axes,),) = panels(1, 1, 0.9 + 0.3 * len(rows))
        forest(axes, rows, styles)
        axes.set(xlabel="rank correlation within environments and seeds", xlim=(-1.05, 1.05))
        legend(figure, marks(styles))
        said = [f"{a.measure} {a.plain}, beyond iid {a.partial}" for a in found]
        return draw(figure, f"Rank correlations with ood accuracy. {'; '.join(said)}.")


def _association_frame(found: list[Association]) -> pd.DataFrame:
    flat = []
    for a in found:
        entry = {k: v for k, v in vars(a).items() if k not in KINDS}
        for kind in KINDS:
            entry |= {f"{kind}_{k}": v for k, v in vars(getattr(a, kind)).items()}
        flat.append(entry)
    return pd.DataFrame(flat)
