"""From the rows of a claim to what it requires of them."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.bootstrap import hierarchical_mean
from analysis.claims.requirement import Judgement, Requirement, distinct, noted, required
from analysis.claims.rows import (
    MAIN,
    ON,
    SINGLE,
    datasets,
    levelled,
    main_runs,
    pretrained_runs,
    with_measure,
)
from analysis.clusters import Level, numbered
from analysis.pairing import Pairs, paired
from core.errors import InputError

Find = Callable[[str, pd.DataFrame], Sequence[Requirement]]


def on_each(
    groups: Iterable[tuple[str, pd.DataFrame]],
    find: Find,
    notes: Sequence[str] = (),
) -> Judgement:
    """The requirements of every group, such as a data set; a note says which have none, and why.

    Args:
        groups: Name and rows of each.
        find: From a name and rows to its requirements. Raises an `InputError` that says what is
            missing where they cannot be judged.
        notes: What else to say.

    Raises:
        InputError: If no group has requirements, with the reasons of all.
    """
    found: list[Requirement] = []
    reasons = []
    for name, rows in groups:
        try:
            found += find(name, rows)
        except InputError as error:
            reasons.append(f"{name}: {error}")
    if not found:
        raise InputError("; ".join(reasons))
    notes = distinct(*notes, *(f"left out {reason}" for reason in reasons))
    return Judgement(requirements=found, notes=notes)


def on_main(runs: pd.DataFrame, find: Find) -> Judgement:
    """The requirements of every data set in its main setting, which a note tells from others."""
    main = main_runs(runs)
    return on_each(datasets(main), find, chosen(runs, main))


def chosen(runs: pd.DataFrame, main: pd.DataFrame) -> list[str]:
    """The main setting of every data set that has several, and who lacks it."""
    usual = pretrained_runs(runs).query("head_lr_factor == 1")
    candidates = usual.loc[usual["method"].isin(SINGLE), :]
    notes = []
    for name, rows in main.groupby("dataset"):
        others = candidates.loc[candidates["dataset"] == name, :]
        num = len(levelled(others)[MAIN].drop_duplicates())
        if num > 1:
            notes.append(f"{name} at {_setting(rows)}, of {num} settings")
        absent = sorted(set(others["env"]) - set(rows["env"]))
        if absent:
            notes.append(f"{name} without {', '.join(absent)}, which lacks that setting")
    return notes


def requirement(
    name: str,
    pairs: Pairs,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    level: Level = "cells",
    rows: Sequence[int] | None = None,
) -> Requirement:
    """What a claim requires of the mean of pairs; `rows` are their runs where they lack them."""
    mean = hierarchical_mean(pairs.frame, level=level)
    found = required(name, mean, pairs.rows if rows is None else rows, low=low, high=high)
    return noted(found, pairs.left_out)


def over_cells(
    name: str,
    a: pd.DataFrame,
    b: pd.DataFrame,
    column: str = "ood",
    *,
    free: Sequence[str],
    low: float = -math.inf,
    high: float = math.inf,
) -> Requirement:
    """The same for methods or settings whose cells differ: means over cells, paired by seed.

    What differs as well is `free`; the means are over that, too.
    """
    on = [name for name in ON if name not in {"cell", *free}]
    first, second = (
        side.groupby(on, as_index=False, dropna=False).agg({column: "mean"}).assign(cell="all")
        for side in (a, b)
    )
    pairs = paired(first, second, column, on=[*on, "cell"])
    used = [
        label
        for side, row in ((a, "row_a"), (b, "row_b"))
        for label in side.index[np.isin(numbered(side, on), pairs.frame[row])]
    ]
    return requirement(name, pairs, low=low, high=high, rows=sorted(set(used)))


def mean_requirement(
    name: str,
    rows: pd.DataFrame,
    column: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Requirement:
    """What a claim requires of the mean of a column of measures."""
    measured = with_measure(rows, column)
    mean = hierarchical_mean(measured, column)
    return required(name, mean, measured.index.tolist(), low=low, high=high)


def _setting(rows: pd.DataFrame) -> str:
    """Images, steps and weights of rows, as far as they are known."""
    single = rows.loc[rows["method"].isin(SINGLE), :]
    texts = sorted(set(single["pretrained"]) - {""})
    for column, unit in (("steps", "steps"), ("train_size", "images")):
        known = single[column].dropna().tolist()
        if known:
            low, high = min(known), max(known)
            texts.append(f"{low} {unit}" if low == high else f"{low} to {high} {unit}")
    return ", ".join(texts)
