"""The runs frame: one row an evaluated model, what everything about a study is computed from.

A study writes it as `runs.parquet` or `runs.jsonl`. Accuracies are fractions. Columns of measures
(`nc1`, `barrier`, ...) stand beside those declared here, with the names of `core.records` metrics;
a row without the measure holds NaN there.

Shapes: N rows.
"""

import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import pandas as pd
import pyarrow
from pandas.api.types import is_bool_dtype, is_numeric_dtype, is_object_dtype

from core.errors import InputError

FILES = ("runs.parquet", "runs.jsonl")
DROP_RATE = 0.9  # the paper's very large dropout


@dataclass(frozen=True)
class Column:
    """One column of a runs frame.

    Attributes:
        dtype: pandas' name of its type.
        meaning: What it holds.
        default: What a frame without the column is filled with; None where it must be there.
    """

    dtype: str
    meaning: str
    default: object = None


UNKNOWN = float("nan")
COLUMNS = {
    "run": Column("string", "name of the run, such as its folder", ""),
    "dataset": Column("string", "name of the data set"),
    "method": Column("string", "erm, dropout, ensemble_trajectory, average_final, tangent, ..."),
    "drop_rate": Column("float64", "rate of the noise, 0 for none"),
    "noise": Column("string", "kind of that noise", "dropout"),
    "placement": Column("string", "where the noise acts: head, stages or blocks", "head"),
    "env": Column("string", "environment held out, on which `ood` was measured"),
    "cell": Column("string", "name of the cell of learning rate and weight decay"),
    "lr": Column("float64", "learning rate", UNKNOWN),
    "weight_decay": Column("float64", "weight decay", UNKNOWN),
    "head_lr_factor": Column("float64", "learning rate of the head over that of the rest", 1.0),
    "steps": Column("Int64", "steps of the fine-tuning", pd.NA),
    "train_size": Column("Int64", "training examples", pd.NA),
    "pretrained": Column("string", "name of the pretrained weights", ""),
    "from_scratch": Column("boolean", "whether nothing was pretrained", False),
    "seed": Column("Int64", "seed of the fine-tuning"),
    "split": Column("Int64", "seed of the split into training and i.i.d. examples", 0),
    "iid": Column("float64", "accuracy on held-out examples of the training environments"),
    "ood": Column("float64", "accuracy on the environment held out"),
    "selection": Column("string", "`best` (i.i.d. accuracy) or `final` step", "final"),
    "ensemble_size": Column("Int64", "models that were averaged, 1 for a single run", 1),
    "seconds": Column("float64", "wall time of the fine-tuning", UNKNOWN),
}
ACCURACIES = ("iid", "ood")
# What tells one row from every other.
IDENTITY = [name for name in COLUMNS if name not in {*ACCURACIES, "run", "seconds"}]


def check_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """A runs frame with every declared column of its type, its rows numbered from zero.

    A run without a name is called by the number of its row. Columns beyond the declared ones that
    hold numbers are measures, missing where there is none; columns of text are kept as they are.

    Raises:
        InputError: If it is empty, a column without a default is missing or holds something
            else, a measure holds text beside numbers, an entry that identifies a run is missing,
            an accuracy is no fraction, a time is not positive, or two rows are the same run.

    Example:
        >>> row = {"dataset": "digits", "method": "erm", "drop_rate": 0.0, "env": "ink"}
        >>> row |= {"cell": "a", "seed": 0, "iid": 0.9, "ood": 0.5}
        >>> check_runs(pd.DataFrame([row]))[["method", "head_lr_factor", "selection"]].to_numpy()
        array([['erm', 1.0, 'final']], dtype=object)
    """
    absent = [n for n, c in COLUMNS.items() if c.default is None and n not in frame.columns]
    if absent or frame.empty:
        found = "no rows" if frame.empty else f"no column {', '.join(absent)}"
        needed = [name for name, column in COLUMNS.items() if column.default is None]
        raise InputError(
            f"the runs hold {found}; one row an evaluated model with the columns "
            f"{', '.join(needed)} was expected: write them as the study does"
        )
    runs = frame.reset_index(drop=True)
    for name, column in COLUMNS.items():
        runs[name] = _typed(runs, name, column)
    for name in runs.columns.difference(list(COLUMNS)):
        runs[name] = _measure(pd.Series(runs[name]))
    runs["run"] = runs["run"].mask(runs["run"] == "", runs.index.astype("string"))
    _check_entries(runs)
    return runs


def read_runs(path: str | Path) -> pd.DataFrame:
    """A runs frame from a file, or from the folder that holds it, checked by `check_runs`.

    Raises:
        InputError: If there is no such file, it cannot be read, or what it holds is no runs frame.
    """
    path = Path(path)
    found = next((path / name for name in FILES if (path / name).is_file()), path)
    if not found.is_file():
        raise InputError(
            f"'{path}' holds no {' or '.join(FILES)}; a runs frame was expected: give the file, "
            "or the folder that a study wrote it into"
        )
    try:
        if found.suffix == ".parquet":
            return check_runs(pd.read_parquet(found))
        return check_runs(pd.read_json(found, lines=True, precise_float=True))
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(found, error) from error
    except ValueError as error:  # what JSON that is none, or a table of nothing, raises
        raise error if isinstance(error, InputError) else _unreadable(found, error) from error


def has_measure(runs: pd.DataFrame, *names: str) -> bool:
    """Whether every one of these columns is there with a number in some row."""
    return all(
        name in runs.columns and _holds_numbers(runs, name) and bool(runs[name].notna().any())
        for name in names
    )


def measures(runs: pd.DataFrame) -> list[str]:
    """Columns of numbers beyond the declared ones, in their order."""
    more = [str(name) for name in runs.columns if name not in COLUMNS]
    return [name for name in more if _holds_numbers(runs, name)]


def _holds_numbers(runs: pd.DataFrame, name: str) -> bool:
    return is_numeric_dtype(runs[name]) and not is_bool_dtype(runs[name])


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"'{path}' cannot be read as a table ({' '.join(str(error).split())}); Parquet or JSON "
        "lines with one row an evaluated model was expected: write the runs again"
    )


def _typed(runs: pd.DataFrame, name: str, column: Column) -> pd.Series:
    values = pd.Series(runs[name] if name in runs.columns else column.default, runs.index)
    try:
        typed = values.astype(column.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"column {name} of the runs holds {_odd(values)!r}; {column.meaning} was expected "
            f"({column.dtype}): mend the column"
        ) from error
    return typed if column.default is None else typed.fillna(column.default)


def _measure(values: pd.Series) -> pd.Series:
    """Numbers where there are any, else the column as it is."""
    if not is_object_dtype(values):
        return values
    known = values.dropna()
    odd = [x for x in known.tolist() if not isinstance(x, Real) or isinstance(x, bool)]
    if len(odd) == len(known):
        return values
    if odd:
        raise InputError(
            f"column {values.name} of the runs holds {odd[0]!r} beside numbers; a "
            "number or nothing was expected: leave the entry empty where nothing was measured"
        )
    return known.astype("float64").reindex(values.index)


def _odd(values: pd.Series) -> object:
    """The first entry that is no number, or the first one."""
    entries = values.dropna().tolist()
    strange = [x for x in entries if not isinstance(x, (int, float)) or x != x // 1]
    return (strange or entries)[0]


def _check_entries(runs: pd.DataFrame) -> None:
    for name, column in COLUMNS.items():
        missing = runs[name].isna().to_numpy()
        if column.default is None and missing.any():
            row = int(missing.argmax())
            raise InputError(
                f"row {row} of the runs has no {name}; {column.meaning} was expected: leave out "
                "runs that failed"
            )
    for name in ACCURACIES:
        outside = runs.loc[~runs[name].between(0, 1), name]
        if len(outside):
            raise InputError(
                f"row {outside.index[0]} of the runs has {name} {outside.iloc[0]:g}; a fraction "
                "from 0 to 1 was expected: divide percentages by 100"
            )
    odd = runs.loc[runs["seconds"].notna() & ~runs["seconds"].between(0, math.inf, "neither")]
    if len(odd):
        raise InputError(
            f"row {odd.index[0]} of the runs has seconds {odd['seconds'].iloc[0]:g}; a wall time "
            "above 0 was expected: leave the entry empty where it was not taken"
        )
    twice = runs.duplicated(IDENTITY)
    if twice.any():
        row = int(twice.to_numpy().argmax())
        what = ", ".join(f"{name} {runs.loc[row, name]}" for name in ("method", "env", "seed"))
        raise InputError(
            f"row {row} of the runs repeats an earlier run ({what}); one row a run was expected: "
            "collect every run once, or tell them apart by seed, split or cell"
        )
