"""C15 and C16: fine-tuning creates no features; dropout keeps them richer."""

import math

import pandas as pd

from analysis.claims.claim import Claim
from analysis.claims.judging import (
    mean_requirement,
    on_main,
    over_cells,
    requirement,
)
from analysis.claims.requirement import BONFERRONI, Judgement, Requirement, most_of, noted
from analysis.claims.rows import (
    contrast,
    sized_runs,
    tuned,
    with_measure,
)
from analysis.equivalence import MARGIN
from analysis.runs import has_measure
from core.errors import InputError

LEAST_R2 = 0.5  # more than half of the variance is explained out of sample
PROBE, R2, NULL = "creation_probe_difference", "creation_r2", "creation_r2_null"
# What dropout should do to each measure of richness, written down before the data.
RICHER = {
    "subset_accuracy": 1,  # of a random tenth of the units
    "nc1": 1,  # less collapse
    "cdnv": 1,
    "target_probe_accuracy": 1,
    "concatenation_gain": -1,  # a second seed adds less to what is rich already
}
LEAST_MEASURES = 3


def no_new_features(runs: pd.DataFrame) -> Judgement:
    """Probe on pretrained layers less fine-tuned Phi; R2 of the latter; how it falls with size."""
    sized = tuned(sized_runs(runs), 0)

    def find(name: str, rows: pd.DataFrame) -> list[Requirement]:
        plain = with_measure(tuned(rows, 0), PROBE)
        both = with_measure(with_measure(plain, R2), NULL).assign(above=lambda f: f[R2] - f[NULL])
        return [
            mean_requirement(f"{name}: probe before - after", plain, PROBE, low=-MARGIN),
            mean_requirement(f"{name}: R2", both, R2, low=LEAST_R2),
            mean_requirement(f"{name}: R2 - its null", both, "above", low=0),
            *_with_size(name, sized.query("dataset == @name")),
        ]

    return on_main(runs, find)


def richer(runs: pd.DataFrame) -> Judgement:
    """Every measure of richness, dropout less plain; most have to move as predicted."""
    found = on_main(runs, _richer)
    return most_of(found, len(found.requirements) // 2 + 1)


def _richer(name: str, rows: pd.DataFrame) -> list[Requirement]:
    measured = [measure for measure in RICHER if has_measure(rows, measure)]
    if len(measured) < LEAST_MEASURES:
        raise InputError(f"the runs have {len(measured)} of the measures {', '.join(RICHER)}")
    absent = [measure for measure in RICHER if measure not in measured]
    note = f"{name} without {', '.join(absent)}" if absent else ""
    found = []
    for measure in measured:
        pairs = contrast(tuned(rows), tuned(rows, 0), measure)
        low, high = (0.0, math.inf) if RICHER[measure] > 0 else (-math.inf, 0.0)
        label = f"{name}: {measure}, dropout - plain"
        found.append(noted(requirement(label, pairs, low=low, high=high), note))
    return found


def _with_size(name: str, rows: pd.DataFrame) -> list[Requirement]:
    """R2 at the smallest training set of each environment less that at the largest."""
    measured = rows.dropna(subset=["train_size", R2])
    by_env = measured.groupby("env")["train_size"]
    sized = measured.assign(least=by_env.transform("min"), most=by_env.transform("max"))
    sized = sized.query("least < most")
    if sized.empty:
        return []
    small, large = sized.query("train_size == least"), sized.query("train_size == most")
    label = f"{name}: R2 of the smallest set - largest"
    return [over_cells(label, small, large, R2, free=["train_size"], low=0)]


CLAIMS = (
    Claim(
        name="C15",
        statement="Fine-tuning exploits the pretrained features and creates none.",
        statistic="Accuracy of a probe on all pretrained layers less that on fine-tuned Phi; R2 "
        "of fine-tuned Phi from the pretrained layers, out of sample, and less that of permuted "
        "examples; R2 at the smallest training set less that at the largest, where there are "
        "several.",
        direction="above minus half a point; above a half; above 0; above 0",
        rule="Supported if every interval lies above its bound, contradicted if one lies below. "
        f"{BONFERRONI}",
        paper="none given",
        needs=f"plain runs with the measures {PROBE}, {R2} and {NULL} (probes.feature_creation)",
        judge=no_new_features,
    ),
    Claim(
        name="C16",
        statement="The representation of dropout is richer than that of plain fine-tuning.",
        statistic="Mean paired difference of each measure of richness, dropout less plain: "
        f"{', '.join(RICHER)}.",
        direction="above 0, of concatenation_gain below",
        rule="Supported if more than half of the measures (times data sets) move as predicted, "
        "contradicted if more than half move the other way: partial conjunctions at 5 %.",
        paper="no measurement in the paper",
        needs=f"runs at rates 0.9 and 0 with {LEAST_MEASURES} of the measures or more",
        judge=richer,
    ),
)
