"""Whether fine-tuning exploits the features of the pretrained network or creates new ones.

What is judged is the accuracy of a linear probe on all pretrained layers less that of one on the
fine-tuned representation, and how much of the fine-tuned representation the pretrained layers
predict (R2), as `probes.feature_creation` measures them. Against a margin declared beforehand:

supported
    The probe on the pretrained layers is equivalent or better: its 90 % interval lies above minus
    the margin (a one-sided test at 5 %); and the interval of R2 lies above that of permuted
    examples.
contradicted
    The probe on the fine-tuned representation is better by more than the margin: the 95 %
    interval lies below minus the margin.
inconclusive
    Neither; also where a number is missing, and the sentence says why.

Of several runs, the slope of R2 over the logarithm of what varies (learning rate, steps, set
size) says whether longer fine-tuning leaves the span of the pretrained features.

Shapes: N runs.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import linregress
from scipy.stats import t as student

from analysis.dropout_ridge_verdict import (
    ALL,
    CONTRADICTED,
    INCONCLUSIVE,
    NO_DIFFERENCE,
    SUPPORTED,
    check_margin,
    tost_interval,
)
from analysis.equivalence import MARGIN
from analysis.estimates import Estimate, estimate, number, ordered
from analysis.intervals import LEVEL
from analysis.verdicts import UNKNOWN, Verdict, controls
from core.errors import InputError
from core.records import Record

R2, NULL, MEDIAN, CKA = "creation_r2", "creation_r2_null", "creation_r2_median", "creation_cka"
BEFORE, AFTER = "creation_accuracy_before", "creation_accuracy_after"
DIFFERENCE = "creation_probe_difference"
FEATURES = "features"  # the layer that the classifier reads
RECIPE = ("lr", "steps", "train_size", "seed", "drop_rate", "from_scratch")  # what runs differ in
AXES = ("lr", "steps", "train_size")  # of which R2 may be a function
PROBES = "probes"  # what a record calls the stage that gives accuracies, on every split


def creation_verdicts(record: Record, *, margin: float = MARGIN) -> list[Verdict]:
    """One verdict per run and split, in the order of the record, also where nothing was measured.

    Args:
        record: Of the probe `feature_creation`.
        margin: Accuracy below which a difference does not matter.

    Raises:
        InputError: If the margin is not positive.
    """
    check_margin(margin)
    return [_verdict(record, run, split, margin) for run, split in places_of(record)]


def places_of(record: Record) -> list[tuple[str, str]]:
    """Runs and splits that were measured, or for which the record says why they were not."""
    failed = [name.split("|")[:2] for name in record.provenance.get("undefined", {})]
    runs = [*ordered(record.values, "run"), *(run for run, _ in failed)]
    places = []
    for run in dict.fromkeys(runs):
        known = ordered(record.values, "split", run=run)
        known += [split for of, split in failed if of == run and split != PROBES]
        places += [(run, split) for split in dict.fromkeys(known)]
    return places


def with_recipes(record: Record) -> pd.DataFrame:
    """The values, beside each the learning rate, steps, training images, seed of its run."""
    recipes = pd.DataFrame(record.provenance["runs"]).set_index("run")
    recipes = recipes.reindex(columns=list(RECIPE)).drop(columns="seed")  # which values have
    return record.values.join(recipes, on="run")


def creation_word(
    difference: Estimate, r2: Estimate, null: Estimate, margin: float = MARGIN
) -> str:
    """The rule; see the head of this module.

    Example:
        >>> r2, null = Estimate(0.8, 0.7, 0.9), Estimate(0, -0.01, 0.01)
        >>> creation_word(Estimate(0.01, -0.002, 0.02), r2, null)
        'supported'
        >>> creation_word(Estimate(-0.05, -0.07, -0.03), r2, null)
        'contradicted'
        >>> creation_word(Estimate(0.01, -0.002, 0.02), null, null)
        'inconclusive'
    """
    if difference.high < -margin:
        return CONTRADICTED
    as_good = tost_interval(difference).low > -margin
    return SUPPORTED if as_good and r2.low > null.high else INCONCLUSIVE


def r2_slope(
    rows: pd.DataFrame, over: str, split: str, *, layer: str = ALL
) -> tuple[Estimate, int]:
    """Change of R2 per factor of ten, by least squares over runs, and the number of runs.

    The interval is Student's, over the scatter of runs about the line; fewer than three runs, or
    one value of what varies, have none. Runs from scratch are left out.

    Args:
        rows: As `with_recipes` returns them.
        over: That column: `lr`, `steps` or `train_size`; positive numbers.
        split: Whose R2.
        layer: From which pretrained features.

    Raises:
        InputError: If there is no such column, or an entry is not positive.
    """
    if over not in rows:
        raise InputError(f"the rows have no column '{over}'; they have {list(rows.columns)}")
    of = (rows["metric"] == R2) & (rows["layer"] == layer) & ~rows["from_scratch"].eq(True)
    found = rows.loc[of & (rows["env"] == ALL) & (rows["split"] == split), [over, "value"]]
    at, r2 = found.to_numpy(float).T
    if not (at > 0).all():
        raise InputError(f"'{over}' has the entries {at.tolist()}; positive numbers were expected")
    return _slope(np.log10(at), r2), len(r2)


def _slope(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"]) -> Estimate:
    if len(x) < 2 or np.ptp(x) == 0:
        return UNKNOWN
    line: Any = linregress(x, y)
    half = (
        float(student.ppf((1 + LEVEL) / 2, len(x) - 2) * line.stderr) if len(x) > 2 else math.nan
    )
    return Estimate(float(line.slope), float(line.slope) - half, float(line.slope) + half)


def _verdict(record: Record, run: str, split: str, margin: float) -> Verdict:
    rows = record.values
    difference, r2, null = (_find(rows, metric, run, split) for metric in (DIFFERENCE, R2, NULL))
    return Verdict(
        run=run,
        env=ALL,
        split=split,
        word=creation_word(difference, r2, null, margin),
        value=difference.value,
        low=difference.low,
        high=difference.high,
        sentence=" ".join(
            [
                _difference_said(difference, margin) or _missing(record, "accuracy", run, PROBES),
                _r2_said(r2, null) or _missing(record, "R²", run, split),
            ]
        ),
        neighbours={**NO_DIFFERENCE, "permuted examples": null},
        is_control=run in controls(record),
    )


def _difference_said(difference: Estimate, margin: float) -> str:
    if math.isnan(difference.value):
        return ""
    tost = tost_interval(difference)
    return (
        f"Accuracy of the probe on all pretrained layers less that on fine-tuned Phi is "
        f"{difference} (90 %: {number(tost.low)}, {number(tost.high)}; margin {number(margin)})."
    )


def _r2_said(r2: Estimate, null: Estimate) -> str:
    if math.isnan(r2.value):
        return ""
    above = "above" if r2.low > null.high else "not told apart from"
    return (
        f"R² of fine-tuned Phi from pretrained layers is {r2}, {above} that of permuted examples "
        f"({null})."
    )


def _missing(record: Record, what: str, run: str, stage: str) -> str:
    """A sentence on why a number is missing."""
    reasons = record.provenance.get("undefined", {})
    return f"No {what}: {reasons.get(f'{run}|{stage}', 'the record does not say why')}."


def _find(rows: pd.DataFrame, metric: str, run: str, split: str) -> Estimate:
    return estimate(rows, metric, run=run, split=split, layer=ALL, env=ALL) or UNKNOWN
