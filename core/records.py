"""Records: what every measurement is written as, read from and collected into.

One measurement is one folder::

    record.json          probe, resolved configuration, metrics, provenance, schema version
    values.parquet       tidy: one number a row, the columns of `COLUMNS`
    arrays.safetensors   per-example sums and whatever else is worth keeping (optional)

A folder appears whole or not at all (`core.outputs.new_folder`).
"""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pandas as pd
import pyarrow
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from core.documents import damaged, read_json
from core.errors import InputError
from core.outputs import check_new, check_writable, free_name, new_folder, whole_file

__all__ = [
    "COLUMNS",
    "PACKAGES",
    "SCHEMA_VERSION",
    "Metric",
    "Record",
    "check_new",
    "check_writable",
    "collect",
    "free_name",
    "new_folder",
    "provenance",
    "tidy",
]

SCHEMA_VERSION = 1
COLUMNS = {
    "run": "string",
    "probe": "string",
    "model": "string",
    "checkpoint": "string",
    "env": "string",
    "split": "string",
    "layer": "string",
    "seed": "Int64",
    "metric": "string",
    "at": "float64",
    "value": "float64",
    "stderr": "float64",
    "low": "float64",
    "high": "float64",
    "num_examples": "Int64",
}
PACKAGES = ("torch", "timm", "numpy", "scipy", "scikit-learn", "lazyrich")


class _Version(TypedDict):
    schema_version: int


class _Document(TypedDict):
    probe: str
    config: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a metric means, declared once in the file that computes it.

    Attributes:
        title: What tables and axes print.
        symbol: The same in mathematical notation (Typst math), empty where there is none.
        direction: Which way is better; None where neither is.
        low: Lower bound, None where unbounded.
        high: Upper bound, None where unbounded.
        coordinate: What the column `at` holds, empty where the metric is a single number.
        reference: Source of the definition.
    """

    title: str
    symbol: str = ""
    direction: Literal["higher", "lower"] | None = None
    low: float | None = None
    high: float | None = None
    coordinate: str = ""
    reference: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measurement: its values, how they were obtained and from what."""

    probe: str
    config: dict[str, Any]
    values: pd.DataFrame
    metrics: dict[str, Metric]
    provenance: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the three files into an existing folder (see `new_folder`)."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "probe": self.probe,
            "config": self.config,
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "provenance": self.provenance,
        }
        (folder / "record.json").write_text(json.dumps(document, indent=2, default=str) + "\n")
        self.values.to_parquet(folder / "values.parquet", index=False)
        if self.arrays:
            arrays = {k: np.ascontiguousarray(v) for k, v in self.arrays.items()}
            with whole_file(folder / "arrays.safetensors") as file:
                save_file(arrays, file)

    @classmethod
    def read(cls, folder: str | Path) -> "Record":
        """Read a record back.

        Raises:
            InputError: If the folder holds no record, a damaged one, or one of another schema
                version.
        """
        folder = Path(folder)
        if not (folder / "record.json").is_file():
            raise InputError(
                f"'{folder}' holds no record.json; a record folder as the probes write it was "
                "expected: give the folder that a probe named as its output"
            )
        version = read_json(folder / "record.json", _Version)["schema_version"]
        if version != SCHEMA_VERSION:
            raise InputError(
                f"'{folder}' has record schema {version}, this version reads {SCHEMA_VERSION}: "
                "measure again with this version"
            )
        document = read_json(folder / "record.json", _Document)
        return cls(
            probe=document["probe"],
            config=document["config"],
            values=_read_values(folder / "values.parquet"),
            metrics=_metrics(document["metrics"], folder / "record.json"),
            provenance=document["provenance"],
            arrays=_read_arrays(folder / "arrays.safetensors"),
        )


def _read_values(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path).astype(COLUMNS)
    except (OSError, KeyError, TypeError, ValueError, pyarrow.ArrowException) as error:
        raise damaged(
            path, f"holds no table of values ({' '.join(str(error).split())})"
        ) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path) if path.is_file() else {}
    except (OSError, SafetensorError) as error:
        raise damaged(path, f"holds no complete arrays ({error})") from error


def _metrics(declared: Mapping[str, Mapping[str, Any]], path: Path) -> dict[str, Metric]:
    try:
        return {name: Metric(**metric) for name, metric in declared.items()}
    except TypeError as error:
        raise damaged(path, f"declares a metric that is none ({error})") from error


def tidy(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows with any of the columns of `COLUMNS` to the tidy frame of a record.

    Example:
        >>> frame = tidy([{"run": "erm", "metric": "accuracy", "value": 0.5}])
        >>> frame["value"].tolist(), frame["low"].isna().tolist()
        ([0.5], [True])
    """
    frame = pd.DataFrame(list(rows))
    unknown = sorted(set(frame.columns) - set(COLUMNS))
    if unknown:
        raise ValueError(f"unknown columns {unknown}; a record has {list(COLUMNS)}")
    return frame.reindex(columns=list(COLUMNS)).astype(COLUMNS)


def collect(folders: Iterable[str | Path]) -> pd.DataFrame:
    """The values of several records in one tidy frame, in the given order."""
    return pd.concat([Record.read(folder).values for folder in folders], ignore_index=True)


def provenance(**facts: Any) -> dict[str, Any]:  # ruff: ignore[any-type] - any JSON value
    """Versions, commit and platform beside whatever facts the caller adds."""
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "commit": _commit(),
        **facts,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout this file lies in; None for an installed wheel."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
