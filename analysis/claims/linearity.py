"""C11, C13 and C17: is fine-tuning linear, and dropout its ridge?"""

import numpy as np
import pandas as pd

from analysis.claims.claim import Claim
from analysis.claims.judging import (
    chosen,
    mean_requirement,
    on_each,
    over_cells,
)
from analysis.claims.requirement import BONFERRONI, Judgement, Requirement, noted
from analysis.claims.rows import (
    SINGLE,
    any_steps,
    datasets,
    main_runs,
    of_method,
    present,
    sized_runs,
    tuned,
    with_measure,
)
from analysis.equivalence import MARGIN
from core.errors import InputError

GAP_MEASURE = "interpolation_gap_max"
GAP = 0.02  # accuracy; what counts as near-linear
LINEAR = ("linear", "tangent")  # the paper's own model first; another takes its place
WITHIN = {"low": -MARGIN, "high": MARGIN}


def near_linear(runs: pd.DataFrame) -> Judgement:
    """The gap of interpolations at the mildest setting, and how much larger it can get."""
    measured = with_measure(tuned(any_steps(runs), 0), GAP_MEASURE)
    return on_each(datasets(measured), _near_linear)


def linear_matches(runs: pd.DataFrame) -> Judgement:
    """Linear less full fine-tuning: o.o.d. at either step, i.i.d. as well at the final one."""
    groups = [
        (f"{name}, {step} step", rows)
        for step in ("best", "final")
        for name, rows in runs.loc[runs["selection"] == step, :].groupby("dataset")
    ]
    return on_each(groups, _linear_matches, chosen(runs, main_runs(runs)))


def dropout_is_ridge(runs: pd.DataFrame) -> Judgement:
    """The closed form's accuracy less that of the layer trained with dropout, at every rate."""
    rows = with_measure(runs.query("drop_rate > 0"), "rate_accuracy_difference")
    return on_each(datasets(rows), _dropout_is_ridge)


def _near_linear(name: str, rows: pd.DataFrame) -> list[Requirement]:
    force = (rows["lr"] * rows["steps"]).to_numpy(np.float64, na_value=np.nan)
    known = np.isfinite(force)
    if not known.any() or np.isclose(force[known].min(), force[known].max()):
        raise InputError("one learning rate times steps, or none that is known")
    mild, strong = (
        pd.DataFrame(rows[np.isclose(force, end)])
        for end in (force[known].min(), force[known].max())
    )
    num = int((~known).sum())
    note = f"{name}: {num} runs without a learning rate or steps left out" if num else ""
    gap = mean_requirement(f"{name}: gap at the mildest setting", mild, GAP_MEASURE, high=GAP)
    label = f"{name}: gap at the most aggressive setting - mildest"
    grown = over_cells(label, strong, mild, GAP_MEASURE, free=["steps"], low=0)
    return [noted(gap, note), grown]


def _linear_matches(label: str, rows: pd.DataFrame) -> list[Requirement]:
    others, full = sized_runs(rows), main_runs(rows)
    columns = ("ood", "iid") if "final" in set(rows["selection"]) else ("ood",)
    found = []
    for rate in sorted(set(full.loc[full["method"].isin(SINGLE), "drop_rate"])):
        for method in present(others, LINEAR, rate)[:1]:
            sides = of_method(others, [method], rate), tuned(full, rate)
            for column in columns:
                named = f"{label}: {method} - full at rate {rate:g}, {column}"
                found.append(over_cells(named, *sides, column, free=["steps"], **WITHIN))
    if not found:
        raise InputError(f"no run of {' or '.join(LINEAR)} beside a single run at its rate")
    return found


def _dropout_is_ridge(name: str, rows: pd.DataFrame) -> list[Requirement]:
    return [
        mean_requirement(
            f"{name}: closed form - dropout at rate {rate}",
            at_rate,
            "rate_accuracy_difference",
            **WITHIN,
        )
        for rate, at_rate in rows.groupby("drop_rate")
    ]


CLAIMS = (
    Claim(
        name="C11",
        statement="Mild fine-tuning is nearly linear; aggressive fine-tuning is not.",
        statistic="Largest gap of accuracy between interpolated weights and interpolated "
        "features, plain runs: mean at the smallest learning rate x steps, and how much larger "
        "at the largest.",
        direction="below two points; above 0",
        rule="Supported if the interval of the first lies below 0.02 and that of the second above "
        f"0; contradicted if one lies wholly outside. {BONFERRONI}",
        paper="a figure without numbers, whose text and caption contradict each other",
        needs="plain runs with lr, steps and the measure interpolation_gap_max, at two settings",
        judge=near_linear,
    ),
    Claim(
        name="C13",
        statement="Linear fine-tuning matches full fine-tuning, with fixed steps i.i.d. as well.",
        statistic="Mean paired difference of accuracy, linear (else tangent) less full, of means "
        "over cells (the fits of a linear model have their own) at equal rate and training size: "
        "o.o.d. at either step, i.i.d. at the final one.",
        direction="within half a point",
        rule="Supported if every difference is equivalent (TOST, margin 0.005), contradicted if "
        f"one interval lies wholly outside. {BONFERRONI}",
        paper="figures (VLCS) without numbers",
        needs="methods linear or tangent beside single runs, at steps best and final",
        judge=linear_matches,
    ),
    Claim(
        name="C17",
        statement="Dropout on a linear layer is akin to ridge.",
        statistic="Mean accuracy of the closed form of expected dropout less that of the layer "
        "trained with dropout, rate by rate.",
        direction="within half a point",
        rule="Supported if every difference is equivalent (TOST, margin 0.005), contradicted if "
        f"one interval lies wholly outside. {BONFERRONI}",
        paper="an argument without numbers; for squared loss it is an identity",
        needs="measure rate_accuracy_difference (probes.rate_curve, converged) at several rates",
        judge=dropout_is_ridge,
    ),
)
