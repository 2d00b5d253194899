"""Estimates with their intervals, looked up in the tidy frame of a record.

A number without an interval carries NaN bounds; every comparison with it is then false, so a rule
that decides by intervals cannot be decided by such a number.

Shapes: N rows of a record.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

MINUS, DASH = "\u2212", "\u2013"
ROUNDING = 1e-9  # of a value
_SMALL, _FINE, _LARGE = 5e-5, 0.01, 1e4  # below the first, four decimals would print 0.0000


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval.

    Example:
        >>> str(Estimate(0.25, 0.2, 0.31)), str(Estimate(math.inf, 2, math.inf))
        ('0.250 [0.200, 0.310]', '∞ [2.000, ∞]')
        >>> str(Estimate(0.5)) == f"0.500 [{DASH}]"
        True
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    @property
    def has_width(self) -> bool:
        """Whether the interval is wider than rounding makes it.

        A jackknife of a count that no group of examples changes has an error of 0, and not a
        sure value.

        Example:
            >>> [e.has_width for e in (Estimate(0, -1, 1), Estimate(1, 1, 1 + 1e-15), Estimate(0))]
            [True, False, False]
        """
        return self.high - self.low > ROUNDING * abs(self.value)

    def __str__(self) -> str:
        ends = f"{number(self.low)}, {number(self.high)}" if self.has_interval else DASH
        return f"{number(self.value)} [{ends}]"


def number(x: float) -> str:
    """Three decimals, a fourth below 0.01, four digits above ten, powers of ten outside.

    Example:
        >>> number(0.00123), number(0.0123)
        ('0.0012', '0.012')
        >>> [number(x) for x in (0.12345, 5, 123.456, 98765.4, 0, math.inf)]
        ['0.123', '5.000', '123.5', '9.9e4', '0.000', '∞']
        >>> number(2.34e-6) == f"2.3e{MINUS}6"
        True
        >>> (number(-0.5), number(math.nan)) == (f"{MINUS}0.500", DASH)
        True
    """
    if math.isnan(x):
        return DASH
    if math.isinf(x):
        return "∞" if x > 0 else f"{MINUS}∞"
    if 0 < abs(x) < _SMALL or abs(x) >= _LARGE:
        mantissa, exponent = f"{x:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    if 0 < abs(x) < _FINE:
        return f"{x:.4f}".replace("-", MINUS)
    digits = math.floor(math.log10(abs(x))) if abs(x) >= 1 else 0
    return f"{x:.{max(0, 3 - digits)}f}".replace("-", MINUS)


def select(
    values: pd.DataFrame, metric: str, *, at: float | None = None, **where: str
) -> pd.DataFrame:
    """Rows of one metric, in the order of the record.

    Args:
        values: Tidy frame with the columns of `core.records.COLUMNS`.
        metric: Name of the metric.
        at: Position along the path; all positions where None.
        **where: Column names and the value that each must have.
    """
    return values.loc[_matching(values, metric, at, where), :]


def estimate(
    values: pd.DataFrame, metric: str, *, at: float | None = None, **where: str
) -> Estimate | None:
    """The one number that fits; None where the record has none.

    Raises:
        ValueError: If several rows fit: the record repeats itself or the query is too wide.
    """
    rows = np.flatnonzero(_matching(values, metric, at, where))
    if len(rows) > 1:
        raise ValueError(f"{len(rows)} rows of '{metric}' fit {where} at {at}; one was expected")
    if not len(rows):
        return None
    return Estimate(*(float(values[column].iloc[rows[0]]) for column in ("value", "low", "high")))


def _matching(
    values: pd.DataFrame, metric: str, at: float | None, where: Mapping[str, str]
) -> Bool[np.ndarray, " N"]:
    chosen = np.full(len(values), True) if at is None else np.isclose(values["at"], at)
    for column, value in {"metric": metric, **where}.items():
        chosen &= (values[column] == value).to_numpy(bool, na_value=False)
    return chosen


def ordered(values: pd.DataFrame, column: str, **where: str) -> list[str]:
    """Distinct non-empty entries of a column in the order of their first appearance.

    Example:
        >>> ordered(pd.DataFrame({"run": ["b", "a", "b"], "env": ["x", "x", "y"]}), "run", env="x")
        ['b', 'a']
    """
    for name, value in where.items():
        values = values.loc[values[name] == value, :]
    return [name for name in values[column].dropna().unique().tolist() if name]
