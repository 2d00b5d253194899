"""C11, C13 and C17: is fine-tuning linear, and dropout its ridge?"""

import numpy as np
import pandas as pd

from analysis.claims.claim import Claim
from analysis.claims.requirement import Judgement
from analysis.claims.rows import (
    datasets,
    main_runs,
    mean_requirement,
    of_method,
    over_cells,
    present,
    sized_runs,
    tuned,
    with_measure,
)
from analysis.equivalence import MARGIN
from core.errors import InputError

GAP = 0.02  # accuracy; what counts as near-linear
LINEAR = ("linear", "tangent")  # the paper's own model first; another takes its place
WITHIN = {"low": -MARGIN, "high": MARGIN}


def near_linear(runs: pd.DataFrame) -> Judgement:
    """The gap of interpolations at the mildest setting, and how much larger it can get."""
    measured = with_measure(tuned(sized_runs(runs), 0), "interpolation_gap_max")
    found = []
    for name, rows in datasets(measured):
        force = (rows["lr"] * rows["steps"]).to_numpy(np.float64, na_value=np.nan)
        ends = (force.min(), force.max())
        mild, strong = (pd.DataFrame(rows[np.isclose(force, end)]) for end in ends)
        if np.isclose(*ends) or not np.isfinite(ends).all():
            raise InputError(f"{name} has one learning rate times steps, or does not say which")
        label = f"{name}: gap at the mildest setting"
        found.append(mean_requirement(label, mild, "interpolation_gap_max", high=GAP))
        label = f"{name}: gap at the most aggressive setting - mildest"
        found.append(over_cells(label, strong, mild, "interpolation_gap_max", low=0))
    return Judgement(requirements=found)


def linear_matches(runs: pd.DataFrame) -> Judgement:
    """Linear less full fine-tuning: o.o.d. at either step, i.i.d. as well at the final one."""
    found = []
    for step in ("best", "final"):
        at_step = runs.query(f"selection == '{step}'")
        for name, rows in datasets(main_runs(at_step)) if len(at_step) else ():
            others = sized_runs(at_step).query("dataset == @name")
            for rate in sorted(set(rows["drop_rate"])):
                for method in present(others, LINEAR, rate)[:1]:
                    linear, full = of_method(others, [method], rate), tuned(rows, rate)
                    for column in ("ood",) if step == "best" else ("ood", "iid"):
                        label = f"{name}: {method} - full at rate {rate:g}, {column}, {step} step"
                        found.append(over_cells(label, linear, full, column, **WITHIN))
    if not found:
        raise InputError(f"no run of {' or '.join(LINEAR)} beside a single run at its rate")
    return Judgement(requirements=found)


def dropout_is_ridge(runs: pd.DataFrame) -> Judgement:
    """The closed form's accuracy less that of the layer trained with dropout, at every rate."""
    rows = with_measure(runs.query("drop_rate > 0"), "rate_accuracy_difference")
    found = []
    for name, of_set in datasets(rows):
        for rate, at_rate in of_set.groupby("drop_rate"):
            label = f"{name}: closed form - dropout at rate {rate}"
            found.append(mean_requirement(label, at_rate, "rate_accuracy_difference", **WITHIN))
    return Judgement(requirements=found)


CLAIMS = (
    Claim(
        name="C11",
        statement="Mild fine-tuning is nearly linear; aggressive fine-tuning is not.",
        statistic="Largest gap of accuracy between interpolated weights and interpolated "
        "features, plain runs: mean at the smallest learning rate x steps, and how much larger "
        "at the largest.",
        direction="below two points; above 0",
        rule="Supported if the interval of the first lies below 0.02 and that of the second above "
        "0; contradicted if one lies wholly outside.",
        paper="a figure without numbers, whose text and caption contradict each other",
        needs="plain runs with lr, steps and the measure interpolation_gap_max, at two settings",
        judge=near_linear,
    ),
    Claim(
        name="C13",
        statement="Linear fine-tuning matches full fine-tuning, with fixed steps i.i.d. as well.",
        statistic="Mean paired difference of accuracy, linear (else tangent) less full, of means "
        "over cells at equal rate: o.o.d. at either step, i.i.d. at the final one.",
        direction="within half a point",
        rule="Supported if every difference is equivalent (TOST, margin 0.005), contradicted if "
        "one interval lies wholly outside.",
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
        "one interval lies wholly outside.",
        paper="an argument without numbers; for squared loss it is an identity",
        needs="measure rate_accuracy_difference (probes.rate_curve, converged) at several rates",
        judge=dropout_is_ridge,
    ),
)
