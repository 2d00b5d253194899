"""C8 to C10 and C12: what averaging and a faster head add to very large dropout."""

import pandas as pd

from analysis.claims.claim import Claim
from analysis.claims.judging import (
    mean_requirement,
    on_each,
    on_main,
    requirement,
)
from analysis.claims.requirement import ALL_ABOVE, BONFERRONI, Judgement, Requirement, noted
from analysis.claims.rows import (
    AVERAGES,
    ENSEMBLES,
    TRAJECTORIES,
    contrast,
    datasets,
    of_method,
    present,
    pretrained_runs,
    tuned,
)
from analysis.equivalence import MARGIN
from analysis.pairing import second_differences
from analysis.runs import DROP_RATE, has_measure
from core.errors import InputError

FAST_HEAD = 10.0
NEEDS = "ensemble_trajectory or average_trajectory at rates 0 and 0.9, and their runs"


def fast_head(runs: pd.DataFrame) -> Judgement:
    """A ten times faster head on dropout, and dropout on a faster head."""
    return on_each(datasets(pretrained_runs(runs)), _fast_head)


def little_on_dropout(runs: pd.DataFrame) -> Judgement:
    """What averages gain on dropout, and how much more on plain runs."""
    return on_main(runs, _little_on_dropout)


def dropout_before(runs: pd.DataFrame) -> Judgement:
    """Averages of dropout runs less those of plain ones."""
    return on_main(runs, _dropout_before)


def weights_as_outputs(runs: pd.DataFrame) -> Judgement:
    """Weight average less ensemble, and the barrier on the path where it was measured."""
    return on_main(runs, _weights_as_outputs)


def _fast_head(name: str, rows: pd.DataFrame) -> list[Requirement]:
    fast = rows.query("head_lr_factor == @FAST_HEAD")
    usual = rows.query("head_lr_factor == 1")
    added = contrast(tuned(fast), tuned(usual), free=["head_lr_factor"])
    dropout = contrast(tuned(fast), tuned(fast, 0))
    label = f"{name}: fast head - usual, on dropout"
    return [
        requirement(label, added, low=-MARGIN, high=MARGIN),
        requirement(f"{name}: dropout - plain, with a fast head", dropout, low=0),
    ]


def _little_on_dropout(name: str, rows: pd.DataFrame) -> list[Requirement]:
    found = []
    for method in _averages(rows):
        gains = [
            contrast(of_method(rows, [method], rate), tuned(rows, rate))
            for rate in (DROP_RATE, 0.0)
        ]
        label = f"{name}: {method} - single, on dropout"
        found.append(requirement(label, gains[0], low=-MARGIN, high=MARGIN))
        more = second_differences(gains[1], gains[0])
        label = f"{name}: gain of {method} on plain - on dropout"
        both = sorted({*gains[0].rows, *gains[1].rows})
        found.append(requirement(label, more, low=0, rows=both))
    return found


def _dropout_before(name: str, rows: pd.DataFrame) -> list[Requirement]:
    found = []
    for method in _averages(rows):
        dropout, plain = (of_method(rows, [method], rate) for rate in (DROP_RATE, 0.0))
        pairs = contrast(dropout, plain)
        found.append(requirement(f"{name}: {method}, dropout - plain", pairs, low=0))
    return found


def _weights_as_outputs(name: str, rows: pd.DataFrame) -> list[Requirement]:
    average, ensemble = (of_method(rows, m[:1], 0) for m in (AVERAGES, ENSEMBLES))
    found = [
        requirement(
            f"{name}: average - ensemble, {column}",
            contrast(average, ensemble, column),
            low=-MARGIN,
            high=MARGIN,
        )
        for column in ("ood", "iid")
    ]
    plain = tuned(rows, 0)
    if has_measure(plain, "barrier"):
        return [*found, mean_requirement(f"{name}: barrier", plain, "barrier", high=MARGIN)]
    return [noted(found[0], f"{name} without barriers"), *found[1:]]


def _averages(rows: pd.DataFrame) -> list[str]:
    at_both = set(present(rows, TRAJECTORIES, DROP_RATE)) & set(present(rows, TRAJECTORIES, 0))
    if not at_both:
        raise InputError(f"no {' or '.join(TRAJECTORIES)} at both rates 0.9 and 0")
    return sorted(at_both)


CLAIMS = (
    Claim(
        name="C8",
        statement="A ten times faster head adds nothing to dropout; dropout adds much to it.",
        statistic="Mean paired differences of o.o.d. accuracy: dropout with less without the fast "
        "head; with the fast head, dropout less plain.",
        direction="within half a point; above 0",
        rule="Supported if the first is equivalent (TOST, margin 0.005) and the interval of the "
        f"second lies above 0; contradicted if one lies wholly outside. {BONFERRONI}",
        paper="a figure without numbers",
        needs="runs with head_lr_factor 10 at rates 0.9 and 0, and with 1 at 0.9",
        judge=fast_head,
    ),
    Claim(
        name="C9",
        statement="Ensembles and weight averages add little on top of dropout.",
        statistic="Mean paired gain of o.o.d. accuracy by the average of a dropout run, and by "
        "how much that on a plain run is larger.",
        direction="within half a point; above 0",
        rule="Supported if every gain on dropout is equivalent to none (TOST, margin 0.005) and "
        "every gain on plain runs is larger; contradicted if one interval lies wholly outside. "
        f"{BONFERRONI}",
        paper="a figure without numbers",
        needs=NEEDS,
        judge=little_on_dropout,
    ),
    Claim(
        name="C10",
        statement="Averaging runs with dropout is much better than averaging runs without.",
        statistic="Mean paired difference of o.o.d. accuracy of averages, of dropout less of "
        "plain runs.",
        direction="above 0",
        rule=ALL_ABOVE,
        paper="a figure without numbers",
        needs=NEEDS,
        judge=dropout_before,
    ),
    Claim(
        name="C12",
        statement="A weight average approximates the ensemble: the path has no barrier.",
        statistic="Mean paired difference of accuracy, weight average less ensemble of one run, "
        "o.o.d. and i.i.d.; mean loss of accuracy on the path between checkpoints.",
        direction="within half a point; below half a point",
        rule="Supported if both differences are equivalent (TOST, margin 0.005) and the interval "
        "of the barrier lies below; contradicted if one lies wholly outside. Barriers that are "
        f"all alike have no interval and decide nothing. {BONFERRONI}",
        paper="contradicted on TerraIncognita, i.i.d. 0.897 against 0.923",
        needs="ensemble_trajectory and average_trajectory at rate 0; measure barrier if there",
        judge=weights_as_outputs,
    ),
)
