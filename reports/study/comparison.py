"""Methods or settings side by side: mean accuracies and paired differences, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from analysis.bootstrap import Mean, hierarchical_mean
from analysis.claims.rows import FINALS, contrast
from analysis.clusters import PLACE
from analysis.estimates import DASH, MINUS
from analysis.pairing import KEYS
from core.errors import InputError
from reports.study.sections import Plate, sentences
from reports.style import theme
from reports.tables import Table, cell

SPLITS = ("iid", "ood")
MEAN = {"iid": "mean", "ood": "mean"}  # for `DataFrame.agg`
ONE_MODEL = "one model an environment, whose noise nothing tells: no interval"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Runs of one method at one setting.

    Attributes:
        name: What figures and tables call it.
        rows: Its rows of the runs frame.
        group: The curve that it belongs to, where arms are drawn as curves.
        at: Where on the curve.
        means: Mean accuracy by split.
    """

    name: str
    rows: pd.DataFrame
    group: str = ""
    at: float = 0.0
    means: dict[str, Mean] = field(init=False)

    def __post_init__(self) -> None:
        means = {split: hierarchical_mean(self.rows, split) for split in SPLITS}
        object.__setattr__(self, "means", means)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One arm less another, run by run.

    Attributes:
        a: The first arm.
        b: The second.
        means: Mean paired difference of accuracy by split.
        less: What the second is called beside the first; its name where empty.
    """

    a: Arm
    b: Arm
    means: dict[str, Mean]
    less: str = ""

    @property
    def name(self) -> str:
        """The two arms with a minus between."""
        return f"{self.a.name} {MINUS} {self.less or self.b.name}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms of one data set and what lies between them."""

    dataset: str
    arms: Sequence[Arm]
    differences: Sequence[Difference] = ()


def difference(a: Arm, b: Arm, *, free: Sequence[str] = (), less: str = "") -> Difference:
    """Paired differences of two arms, which may differ in the settings `free`.

    A model over all runs of an environment has no partners; it is compared by means over
    environments, without an interval.

    Raises:
        InputError: If no run of the one has a partner of the other.
    """
    single = not any(set(arm.rows["method"]) & set(FINALS) for arm in (a, b))
    if single:
        pairs = {s: contrast(a.rows, b.rows, s, free=free).frame for s in SPLITS}
        means = {split: hierarchical_mean(frame) for split, frame in pairs.items()}
    else:
        means = {split: _of_means(a, b, split) for split in SPLITS}
    return Difference(a=a, b=b, means=means, less=less)


def _of_means(a: Arm, b: Arm, split: str) -> Mean:
    first, second = (arm.means[split].by_env for arm in (a, b))
    by_env = {env: first[env] - second[env] for env in first if env in second}
    if not by_env:
        raise InputError(f"no environment has both {a.name} and {b.name}")
    value = sum(by_env.values()) / len(by_env)
    return Mean(value=value, num=len(by_env), by_env=by_env, reason=ONE_MODEL)


def table(comparisons: Sequence[Comparison]) -> Table:
    """Mean accuracies of the arms, then the differences, data set by data set."""
    several = len(comparisons) > 1
    rows = []
    for comparison in comparisons:
        first = [comparison.dataset] if several else []
        rows += [[*first, *_line(arm.name, arm.means), DASH, DASH] for arm in comparison.arms]
        rows += [
            [*first, *_line(d.name, d.means), f"{d.means['ood'].superiority:.0%}", _signs(d)]
            if d.means["ood"].has_error
            else [*first, *_line(d.name, d.means), DASH, _signs(d)]
            for d in comparison.differences
        ]
    labels = [*(["Data set"] if several else []), "Accuracy, or difference"]
    header = [*labels, "iid", "ood", "Runs, pairs", "Better ood", "Same sign"]
    return {"labels": len(labels), "header": header, "rows": rows}


def _line(name: str, means: dict[str, Mean]) -> list[str]:
    return [name, *(cell(means[split].estimate) for split in SPLITS), str(means["ood"].num)]


def _signs(found: Difference) -> str:
    mean = found.means["ood"]
    return f"{mean.same_sign} of {len(mean.by_env)}"


def frame(comparison: Comparison) -> pd.DataFrame:
    """The same numbers, one a row, with what every environment has."""
    named = [(arm.name, arm.group, arm.at, arm.means) for arm in comparison.arms]
    named += [(d.name, d.a.group, d.a.at, d.means) for d in comparison.differences]
    return pd.DataFrame(
        [
            {"dataset": comparison.dataset, "name": name, "group": group, "at": at}
            | {"split": split, **vars(mean.estimate), "num": mean.num, "reason": mean.reason}
            | {f"env {env}": value for env, value in mean.by_env.items()}
            for name, group, at, means in named
            for split, mean in means.items()
        ]
    )


def reasons(comparisons: Sequence[Comparison]) -> list[str]:
    """What the intervals do not cover, each said once."""
    means = [
        mean
        for comparison in comparisons
        for one in (*comparison.arms, *comparison.differences)
        for mean in one.means.values()
    ]
    return sentences(mean.reason for mean in means)


def matched(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Rows at environment, cell, seed and split that all frames have, so that means compare.

    Raises:
        InputError: If there are none.
    """
    keys = [pd.MultiIndex.from_frame(frame.loc[:, list(KEYS)]) for frame in frames]
    shared = set.intersection(*(set(key) for key in keys))
    if not shared:
        raise InputError(f"no run is matched in all of {len(frames)} methods or settings")
    return [frame.loc[key.isin(shared), :] for frame, key in zip(frames, keys, strict=True)]


def in_setting(rows: pd.DataFrame, of: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Rows that agree with some row of another frame in environment and these columns."""
    named, allowed = (
        pd.MultiIndex.from_frame(frame.loc[:, [*PLACE, *columns]].astype("string").fillna(""))
        for frame in (rows, of)
    )
    return rows.loc[named.isin(allowed), :]


def a_plate_each(
    comparisons: Sequence[Comparison], make: Callable[[Comparison, str], Plate]
) -> list[Plate]:
    """A figure a data set in the style of all; `make` is told its name where there are several."""
    several = len(comparisons) > 1
    with theme():
        return [make(one, one.dataset if several else "") for one in comparisons]
