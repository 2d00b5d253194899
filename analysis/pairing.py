r"""Differences between two methods, run by run, at equal environment, cell, seed and split.

What two runs share (the environment's difficulty, the split, the start of the head) cancels in

.. math:: d_{ehs} = a_{ehs} - b_{ehs}

Runs without a partner are left out and counted.

Shapes: N pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from core.errors import InputError

KEYS = ("dataset", "env", "cell", "seed", "split")
PLACE = ("dataset", "env")
# What else two runs of one comparison have in common, unless it is what is compared.
SETTING = ("steps", "train_size", "pretrained", "from_scratch", "head_lr_factor", "selection")
ROWS = ("row_a", "row_b")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Matched runs of two methods.

    Attributes:
        frame: One row a pair: the columns of `KEYS`, `a`, `b`, `difference`, and `row_a`,
            `row_b`, the labels of the two rows in the runs frame.
        unmatched_a: Runs of the first method without a partner.
        unmatched_b: Runs of the second.
    """

    frame: pd.DataFrame
    unmatched_a: int
    unmatched_b: int

    @property
    def rows(self) -> list[int]:
        """Labels of the rows that the pairs rest on, in ascending order."""
        return sorted({int(row) for name in ROWS for row in self.frame[name]})

    @property
    def left_out(self) -> str:
        """How many runs have no partner; nothing where all have one."""
        left = self.unmatched_a + self.unmatched_b
        return f"{left} run{'s' * (left > 1)} without a partner" if left else ""

    def __str__(self) -> str:
        return f"{len(self.frame)} pairs" + (f", {self.left_out}" if self.left_out else "")


def paired(
    a: pd.DataFrame,
    b: pd.DataFrame,
    column: str = "ood",
    *,
    on: Sequence[str] = (*KEYS, *SETTING),
    names: tuple[str, str] = ("a", "b"),
) -> Pairs:
    """Differences a - b of one column, for runs that agree in the columns `on`.

    Args:
        a: Rows of the first method in a checked runs frame.
        b: Rows of the second.
        column: What is compared; rows without it are left out.
        on: Columns in which two runs of a pair agree; missing entries agree with each other.
        names: What messages call the two.

    Raises:
        InputError: If nothing matches, or a run has several partners.

    Example:
        >>> runs = pd.DataFrame({"dataset": "d", "env": ["x", "y"], "cell": "c", "seed": 0})
        >>> runs["split"] = 0
        >>> pairs = paired(runs.assign(ood=[0.7, 0.5]), runs.assign(ood=[0.5, 0.5]), on=KEYS)
        >>> pairs.frame["difference"].round(9).tolist(), str(pairs)
        ([0.2, 0.0], '2 pairs')
    """
    sides = [_side(frame, column, on, name) for frame, name in zip((a, b), names, strict=True)]
    frame = sides[0].merge(sides[1], on=list(on), suffixes=("_a", "_b"))
    if frame.empty:
        raise InputError(
            f"no run of {names[0]} ({len(a)}) has a partner of {names[1]} ({len(b)}) with the "
            f"same {', '.join(on)}; runs in pairs were expected: run both with the same settings"
        )
    frame = frame.rename(columns={f"{column}_a": "a", f"{column}_b": "b"})
    frame["difference"] = frame["a"] - frame["b"]
    unmatched = [len(side) - len(frame) for side in sides]
    return Pairs(frame=frame, unmatched_a=unmatched[0], unmatched_b=unmatched[1])


def against_one(a: pd.DataFrame, b: pd.DataFrame, column: str = "ood") -> Pairs:
    """Differences of every run from the one model an environment that a method has there.

    Such is an ensemble of all runs: its cells and seeds are those of all of them. Several such
    models of an environment count as their mean, which is taken for known.

    Raises:
        InputError: If no environment has both.
    """
    means = b.groupby(list(PLACE), as_index=False).agg({column: "mean"})
    means["row_b"] = [_first_row(b, place) for place in means[list(PLACE)].itertuples(index=False)]
    frame = a.assign(row_a=a.index).merge(means, on=list(PLACE), suffixes=("_a", "_b"))
    if frame.empty:
        raise InputError(
            f"no environment has both the {len(a)} runs and the model over all runs that they "
            "are compared with; both of one environment were expected: evaluate both there"
        )
    frame = frame.rename(columns={f"{column}_a": "a", f"{column}_b": "b"})
    frame["difference"] = frame["a"] - frame["b"]
    kept = frame.loc[:, [*KEYS, "a", "b", "difference", *ROWS]]
    return Pairs(frame=kept, unmatched_a=len(a) - len(frame), unmatched_b=0)


def second_differences(first: Pairs, second: Pairs) -> Pairs:
    """Differences of differences: the pairs of one contrast minus those of another.

    Raises:
        InputError: If no pair of the one has a partner in the other.
    """
    a, b = (pairs.frame.set_index("row_a") for pairs in (first, second))
    return paired(a, b, "difference", on=KEYS, names=("the first contrast", "the second"))


def _side(frame: pd.DataFrame, column: str, on: Sequence[str], name: str) -> pd.DataFrame:
    side = frame.assign(row=frame.index).dropna(subset=[column]).loc[:, [*on, column, "row"]]
    twice = side.duplicated(list(on)).to_numpy()
    if twice.any():
        shown = side.loc[twice, list(on)].iloc[0].to_dict()
        raise InputError(
            f"{name} has several runs with {shown}; one was expected: tell them apart by seed, "
            "split or cell, or leave out what is not compared"
        )
    return side


def _first_row(frame: pd.DataFrame, place: tuple[str, str]) -> int:
    dataset, env = place
    inside = (frame["dataset"] == dataset) & (frame["env"] == env)
    return int(frame.index.to_numpy()[inside.to_numpy(bool)][0])
