"""Records: what every measurement is written as, read from and collected into.

One measurement is one folder::

    record.json          probe, resolved configuration, metrics, provenance, schema version
    values.parquet       tidy: one number a row, the columns of `COLUMNS`
    arrays.safetensors   per-example sums and whatever else is worth keeping (optional)

A folder appears whole or not at all: it is filled under a temporary name and renamed.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from core.errors import InputError
from core.permissions import usual_permissions

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
            with usual_permissions(folder / "arrays.safetensors"):
                save_file(arrays, folder / "arrays.safetensors")

    @classmethod
    def read(cls, folder: str | Path) -> "Record":
        """Read a record back.

        Raises:
            InputError: If the folder holds no record, or one of another schema version.
        """
        folder = Path(folder)
        if not (folder / "record.json").is_file():
            raise InputError(
                f"'{folder}' holds no record.json; a record folder as the probes write it was "
                "expected: give the folder that a probe named as its output"
            )
        document = json.loads((folder / "record.json").read_text())
        if document["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"'{folder}' has record schema {document['schema_version']}, this version reads "
                f"{SCHEMA_VERSION}: measure again with this version"
            )
        arrays = folder / "arrays.safetensors"
        return cls(
            probe=document["probe"],
            config=document["config"],
            values=pd.read_parquet(folder / "values.parquet").astype(COLUMNS),
            metrics={name: Metric(**metric) for name, metric in document["metrics"].items()},
            provenance=document["provenance"],
            arrays=load_file(arrays) if arrays.is_file() else {},
        )


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


def check_new(output: Path) -> None:
    """Refuse a folder that already exists or cannot be created.

    Raises:
        InputError: If `output` exists, or its nearest existing parent is not writable.
    """
    if os.path.exists(output):
        raise InputError(
            f"'{output}' already exists and is never overwritten; a new folder was expected: "
            "choose another --output or move the old one away"
        )
    check_writable(output)


def check_writable(output: Path) -> None:
    """Refuse a path below a file or below a folder without write permission.

    Raises:
        InputError: If nothing can be created at `output`.
    """
    parent = next(p for p in [output, *output.absolute().parents] if os.path.exists(p))
    if not parent.is_dir():
        raise InputError(
            f"cannot create '{output}': '{parent}' is a file; choose another --output"
        )
    try:
        with tempfile.TemporaryFile(dir=parent):
            return
    except OSError as error:
        raise InputError(
            f"cannot write to '{parent}' ({error.strerror}); a writable folder was expected: "
            "choose another --output"
        ) from error


@contextmanager
def new_folder(output: Path) -> Generator[Path, None, None]:
    """A temporary folder beside `output` that becomes `output` when the block succeeds.

    Raises:
        InputError: If `output` exists or cannot be created.
    """
    check_new(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as parent:
        folder = Path(parent) / output.name
        folder.mkdir()
        yield folder
        check_new(output)
        Path(folder).rename(output)


def free_name(folder: Path) -> Path:
    """`folder` if nothing is there, otherwise `folder-2`, `folder-3` or the first one free."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in range(2, 1_000_000))
    return folder if not folder.exists() else next(path for path in numbered if not path.exists())
