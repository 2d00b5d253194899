"""Do linear models decide as well as the network? Tangent, model (1), kernel against it, paired.

Every counterpart is compared with the ordinary run of the same environment, seed, split and
dropout rate, i.i.d. and o.o.d., at its best i.i.d. accuracy (the paper's Figure 9) and after its
last step (its Figure 10). Kernel regression has no steps and no dropout, and is compared with the
ordinary run after its last step at every rate, on the same images.

Whether a counterpart decides as well is asked by two one-sided tests against a margin; of the
differences of model (1), claim C13 of `analysis.claims` makes a verdict.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.bootstrap import Mean, hierarchical_mean
from analysis.equivalence import MARGIN, Equivalence, equivalence
from analysis.pairing import KEYS, paired

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
_ONE_CELL = "the cell at hand"  # a model (1) chooses its own learning rate and weight decay


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
    runs = runs.assign(cell=_ONE_CELL)
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
    pairs = paired(
        alike.loc[alike["method"] == method, :],
        alike.loc[alike["method"].isin(reference), :],
        split,
        on=KEYS,
        names=(TITLES[method], "the ordinary network"),
    )
    mean = hierarchical_mean(pairs.frame)
    return Contrast(
        method=method,
        selection=selection,
        drop_rate=float(rate),
        split=split,
        mean=mean,
        test=equivalence(mean, margin=margin),
        runs=tuple(pairs.rows),
    )
