"""Do linear models decide as well as the network? Tangent, model (1), kernel against it, paired.

Every counterpart is compared with the ordinary run of the same environment, seed, split and
dropout rate, i.i.d. and o.o.d., at its best i.i.d. accuracy (the paper's Figure 9) and after its
last step (its Figure 10). Cells of learning rate and weight decay count as their mean on either
side, as model (1) has cells of its own. Kernel regression has no steps and no dropout, and is
compared with the ordinary run after its last step at every rate, on the same images.

Whether a counterpart decides as well is asked by two one-sided tests against a margin; of the
differences of model (1), claim C13 of `analysis.claims` makes a verdict.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.bootstrap import Mean, hierarchical_mean
from analysis.equivalence import MARGIN, Equivalence, equivalence
from analysis.pairing import KEYS, Pairs, paired

ORDINARY = ("erm", "dropout")
# The network on the images that kernel regression was evaluated on, which may be a sample.
ON_KERNEL_IMAGES = "network_on_kernel_images"
SELECTIONS = {
    "tangent": ("best", "final"),
    "linear": ("best", "final"),
    "kernel": ("final",),
}
TITLES = {"tangent": "tangent model", "linear": "model (1)", "kernel": "kernel regression"}
CHOSEN = {"best": "at its best i.i.d. accuracy", "final": "after its last step"}
_PLACE = [name for name in KEYS if name != "cell"]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A counterpart less the ordinary network.

    Attributes:
        method: One of `SELECTIONS`.
        selection: `best` or `final`.
        drop_rate: Of both.
        split: `iid` or `ood`.
        mean: The mean difference over environments and seeds, with its error.
        test: Whether it lies within the margin.
        runs: Rows of the runs frame that it rests on.
    """

    method: str
    selection: str
    drop_rate: float
    split: str
    mean: Mean
    test: Equivalence
    runs: tuple[int, ...]


def contrasts(runs: pd.DataFrame, *, margin: float = MARGIN) -> list[Contrast]:
    """Every counterpart that there is, at every rate, i.i.d. and o.o.d.

    Args:
        runs: A checked runs frame with ordinary runs and counterparts.
        margin: Difference in accuracy that counts as none.

    Raises:
        InputError: If a counterpart has no ordinary run with the same settings, or the margin is
            not positive.
    """
    return [
        _contrast(runs, method, selection, rate, split, margin)
        for method, selections in SELECTIONS.items()
        for rate in sorted(runs.loc[runs["method"] == method, "drop_rate"].unique())
        for selection in selections
        for split in ("iid", "ood")
    ]


def _contrast(
    runs: pd.DataFrame, method: str, selection: str, rate: float, split: str, margin: float
) -> Contrast:
    reference = (ON_KERNEL_IMAGES,) if method == "kernel" else ORDINARY
    alike = runs.loc[(runs["drop_rate"] == rate) & (runs["selection"] == selection), :]
    a, b = (alike.loc[alike["method"].isin(of), :] for of in ((method,), reference))
    names = (TITLES[method], "the ordinary network")
    pairs = paired(_over_cells(a, split), _over_cells(b, split), split, on=KEYS, names=names)
    mean = hierarchical_mean(pairs.frame)
    return Contrast(
        method=method,
        selection=selection,
        drop_rate=float(rate),
        split=split,
        mean=mean,
        test=equivalence(mean, margin=margin),
        runs=tuple(sorted(row for side in (a, b) for row in _rows_of(side, pairs))),
    )


def _over_cells(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    return rows.groupby(_PLACE, as_index=False).agg({split: "mean"}).assign(cell="all")


def _rows_of(side: pd.DataFrame, pairs: Pairs) -> list[int]:
    """Labels of the rows of one side that pairs rest on."""
    places = (frame.set_index(_PLACE).index for frame in (side, pairs.frame))
    inside = next(places).isin(next(places))
    return [int(row) for row in side.index[inside]]
