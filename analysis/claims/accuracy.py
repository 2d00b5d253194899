"""C1 to C4: very large dropout is better out of distribution, beyond its i.i.d. accuracy.

Numbers of the paper are read from its figures: differences of the means of its clouds.
"""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from analysis.bootstrap import hierarchical_mean
from analysis.claims.claim import Claim
from analysis.claims.judging import (
    on_main,
    requirement,
)
from analysis.claims.requirement import (
    ALL_ABOVE,
    BONFERRONI,
    Judgement,
    Requirement,
    noted,
    required,
)
from analysis.claims.rows import (
    AVERAGES,
    ENSEMBLES,
    FINALS,
    contrast,
    of_method,
    present,
    tuned,
)
from analysis.clusters import PLACE
from analysis.equivalence import MARGIN
from analysis.pairing import against_one
from analysis.robustness import effective_robustness
from core.errors import InputError

BOTH = "runs at dropout rates 0.9 and 0"
OF_C3 = ("OfficeHome", "PACS")


def beats_plain(runs: pd.DataFrame) -> Judgement:
    """Dropout less plain fine-tuning, on every data set."""
    return on_main(runs, _beats_plain)


def beats_averages(runs: pd.DataFrame) -> Judgement:
    """Dropout less every ensemble and weight average that is there."""
    return on_main(runs, _beats_averages)


def worst_beats_best(runs: pd.DataFrame) -> Judgement:
    """Every cell of dropout less every cell of the ensemble."""
    asked = runs.query("dataset in @OF_C3")
    return on_main(asked if len(asked) else runs, _worst_beats_best)


def no_by_product(runs: pd.DataFrame) -> Judgement:
    """Effective robustness, and the ensemble's i.i.d. accuracy less dropout's."""
    return on_main(runs, _no_by_product)


def _beats_plain(name: str, rows: pd.DataFrame) -> list[Requirement]:
    return [requirement(f"{name}: dropout - plain", contrast(tuned(rows), tuned(rows, 0)), low=0)]


def _beats_averages(name: str, rows: pd.DataFrame) -> list[Requirement]:
    rivals = present(rows, (*ENSEMBLES, *AVERAGES), 0)
    if not set(rivals) & set(ENSEMBLES) or not set(rivals) & set(AVERAGES):
        raise InputError("no ensemble or no weight average at dropout rate 0")
    absent = sorted({*ENSEMBLES, *AVERAGES} - set(rivals))
    note = f"{name} without {', '.join(absent)}" if absent else ""
    found = []
    for rival in rivals:
        against = _against_final if rival in FINALS else _against_runs
        found.append(noted(against(f"{name}: dropout - {rival}", rows, rival), note))
    return found


def _worst_beats_best(name: str, rows: pd.DataFrame) -> list[Requirement]:
    dropout, ensemble = tuned(rows), of_method(rows, ENSEMBLES[:1], 0)
    found = []
    for a, b in product(*(sorted(set(side["cell"])) for side in (dropout, ensemble))):
        label = f"cell {a} - ensemble's cell {b}"
        pairs = contrast(
            dropout[dropout["cell"] == a].assign(cell=label),
            ensemble[ensemble["cell"] == b].assign(cell=label),
        )
        found.append(requirement(f"{name}: {label}", pairs, low=0, level="seeds"))
    return found


def _no_by_product(name: str, rows: pd.DataFrame) -> list[Requirement]:
    dropout, plain = tuned(rows), tuned(rows, 0)
    above = effective_robustness(dropout, plain)
    labels = [*dropout.index, *plain.index]
    iid = contrast(of_method(rows, ENSEMBLES[:1], 0), dropout, "iid")
    return [
        required(f"{name}: o.o.d. above the line", above, labels, low=0),
        requirement(f"{name}: ensemble - dropout, i.i.d.", iid, low=-MARGIN),
    ]


def _against_runs(label: str, rows: pd.DataFrame, rival: str) -> Requirement:
    return requirement(label, contrast(tuned(rows), of_method(rows, [rival], 0)), low=0)


def _against_final(label: str, rows: pd.DataFrame, rival: str) -> Requirement:
    """Against one model an environment, whose noise no other model tells.

    An average of runs varies less than one of them: it counts as uncertain as one plain run.
    """
    pairs = against_one(tuned(rows), of_method(rows, [rival], 0))
    mean = hierarchical_mean(pairs.frame)
    variances = tuned(rows, 0).groupby(PLACE)["ood"].agg(lambda ood: ood.var(ddof=1)).to_numpy()
    of_rival = float(np.sqrt(variances.sum())) / len(variances)
    uncertain = replace(mean, stderr=math.hypot(mean.stderr, of_rival))
    return noted(required(label, uncertain, pairs.rows, low=0), pairs.left_out)


CLAIMS = (
    Claim(
        name="C1",
        statement="Dropout of 0.9 beats plain fine-tuning out of distribution.",
        statistic="Mean paired difference of o.o.d. accuracy, dropout 0.9 less plain, a data set.",
        direction="above 0 on every data set",
        rule=ALL_ABOVE,
        paper="+0.013 VLCS, +0.026 OfficeHome, +0.019 PACS, +0.023 TerraIncognita",
        needs=BOTH,
        judge=beats_plain,
    ),
    Claim(
        name="C2",
        statement="Dropout of 0.9 beats ensembles and weight averages out of distribution.",
        statistic="Mean paired difference of o.o.d. accuracy, dropout 0.9 less each rival.",
        direction="above 0 for every rival and data set, hence for the best of them",
        rule="Supported if every interval lies above 0, contradicted if one lies below. A model "
        f"over all runs (*_final) counts as uncertain as one plain run. {BONFERRONI}",
        paper="about +0.006 VLCS, +0.018 OfficeHome, +0.013 PACS, +0.005 TerraIncognita",
        needs=f"{BOTH}; ensemble_* and average_* at rate 0",
        judge=beats_averages,
    ),
    Claim(
        name="C3",
        statement="On OfficeHome and PACS the worst cell of dropout beats the best of ensembles.",
        statistic="Least mean paired difference of a cell of dropout less one of the trajectory "
        "ensemble, over all pairs of cells, which are fixed.",
        direction="above 0",
        rule="Supported if the interval of every pair of cells lies above 0, contradicted if one "
        f"lies below. {BONFERRONI} Where a study has neither data set, on those it has.",
        paper="+0.007 OfficeHome, +0.0035 PACS",
        needs=f"{BOTH}; ensemble_trajectory at rate 0; two seeds a cell",
        judge=worst_beats_best,
    ),
    Claim(
        name="C4",
        statement="The gain is no by-product of i.i.d. accuracy.",
        statistic="O.o.d. accuracy of dropout above the line of plain runs (effective "
        "robustness), which noise of i.i.d. accuracy flattens, and above the inverse regression, "
        "which is too steep: the true line lies between (Frisch's bounds); i.i.d. accuracy of the "
        "trajectory ensemble less that of dropout.",
        direction="above 0; above minus half a point",
        rule="Supported if the intervals of the first lie above 0 beside both lines and that of "
        "the second above -0.005, on every data set; contradicted if the first lie below 0 beside "
        "both, or the second below -0.005. The first decides nothing where the lines disagree, or "
        f"i.i.d. accuracies do not overlap with those of plain runs. {BONFERRONI}",
        paper="i.i.d. 0.874 < 0.882, 0.859 < 0.863, 0.978 < 0.979, 0.879 < 0.923",
        needs=f"{BOTH}; ensemble_trajectory at rate 0; i.i.d. accuracy without augmentation",
        judge=no_by_product,
    ),
)
