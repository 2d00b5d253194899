"""What a section of the study report is: figures with their data, tables, or why it is empty."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd

from analysis.estimates import DASH
from core.errors import InputError
from reports.style import Drawing
from reports.tables import Table

Found = TypeVar("Found")
SMALLEST = 0.0005  # what three decimals show


@dataclass(frozen=True, kw_only=True)
class Plate:
    """A figure and the numbers that it shows.

    Attributes:
        drawing: The figure.
        data: What is drawn, one mark a row.
    """

    drawing: Drawing
    data: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a section shows.

    Attributes:
        plates: Its figures.
        table: Its numbers.
        notes: Sentences on what was left out.
        facts: Whatever else the template prints.
    """

    plates: Sequence[Plate]
    table: Table
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section as it is declared before the data.

    Attributes:
        name: Under which the template places it; the files of its figures are called by it.
        needs: Rows and columns of the runs frame that it shows.
        build: From a checked runs frame to its content. Raises an `InputError` that says what is
            missing where there is nothing to show.
    """

    name: str
    needs: str
    build: Callable[[pd.DataFrame], Content]


def sentences(reasons: Iterable[str]) -> list[str]:
    """Each reason once, with a capital letter and a full stop.

    Example:
        >>> sentences(["one cell", "", "one cell"])
        ['One cell.']
    """
    return [f"{one[0].upper()}{one[1:].rstrip('.')}." for one in dict.fromkeys(reasons) if one]


def p_value(p: float) -> str:
    """Three decimals, and no p-value of 0; a dash where there is none.

    Example:
        >>> p_value(0.0312), p_value(0.0), p_value(math.nan) == DASH
        ('0.031', '< 0.001', True)
    """
    if math.isnan(p):
        return DASH
    return "< 0.001" if p < SMALLEST else f"{p:.3f}"


def built(section: Section, runs: pd.DataFrame) -> tuple[Content | None, str]:
    """The content of a section, or the reason why it is empty."""
    try:
        return section.build(runs), ""
    except InputError as error:
        return None, f"{error}; needed: {section.needs}"


def each_dataset(
    rows: pd.DataFrame, build: Callable[[str, pd.DataFrame], Found]
) -> tuple[list[Found], list[str]]:
    """What every data set gives, and a sentence for each that gives nothing.

    Raises:
        InputError: If none gives anything, with the reason of the first.
    """
    found, reasons = [], []
    for name in sorted(set(rows["dataset"])):
        try:
            found.append(build(name, rows.loc[rows["dataset"] == name, :]))
        except InputError as error:
            reasons.append(f"{name}: {error}")
    if not found:
        raise InputError(reasons[0] if reasons else "there are no such runs")
    return found, [f"Left out: {reason}." for reason in reasons]
