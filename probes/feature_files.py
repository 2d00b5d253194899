"""Features that any other program computed, read from files and checked.

::

    .npy        N x D; labels and environments come from files of their own
    .npz        arrays `features`, and if they are there `labels` and `envs`
    .parquet    numeric columns are features, beside `label` and `env` if they are there

Shapes: N examples, D features.
"""

import logging
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64, Shaped

from core.arrays import labels_of, matrix
from core.errors import InputError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """The examples of one file.

    Attributes:
        path: The file.
        features: One row per example.
        labels: Their classes, from 0 on.
        envs: Their environments, None where nothing says.
    """

    path: Path
    features: Float[np.ndarray, "N D"]
    labels: Int64[np.ndarray, " N"]
    envs: Shaped[np.ndarray, " N"] | None


class Content(NamedTuple):
    """What a file holds, unchecked."""

    features: np.ndarray
    labels: np.ndarray | None = None
    envs: np.ndarray | None = None


def read_feature_files(
    features: Sequence[str], labels: str | None = None, envs: str | None = None
) -> list[FeatureFile]:
    """Features of the same examples from several files, such as those of several networks.

    Args:
        features: Files of one matrix each.
        labels: File of the labels (default: those in the feature files).
        envs: File of the environments (default: those in the feature files).

    Raises:
        InputError: If a file is missing or of another kind, features are no finite matrix, labels
            are no class indices of at least two classes, or the files hold other examples.
    """
    own_labels = None if labels is None else _array(labels, "labels")
    own_envs = None if envs is None else _array(envs, "envs")
    files = [_read_file(Path(path), own_labels, own_envs) for path in features]
    for other in files[1:]:
        _check_same_examples(files[0], other)
    return files


def _read_file(path: Path, labels: np.ndarray | None, envs: np.ndarray | None) -> FeatureFile:
    content = _read(path)
    labels = content.labels if labels is None else labels
    envs = content.envs if envs is None else envs
    if labels is None:
        raise InputError(
            f"'{path}' holds no labels; one class index per example was expected: give them in a "
            ".npy file as --labels"
        )
    x = matrix(_numbers(content.features, path), f"features of '{path}'", least=2).numpy()
    y = _class_indices(labels, len(x), path)
    if envs is not None and envs.shape != (len(x),):
        raise InputError(
            f"the environments of '{path}' have shape {envs.shape}, its features {len(x)} "
            "examples; one environment per example was expected: check --feature_envs"
        )
    return FeatureFile(path, x, y, None if envs is None else envs.astype(str))


def _numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiubc" or array.dtype.itemsize > 16:
        raise InputError(
            f"features of '{path}' are of type {array.dtype}; numbers were expected: encode them "
            "before saving"
        )
    return np.asarray(array, array.dtype.newbyteorder("="))


def _class_indices(labels: np.ndarray, num: int, path: Path) -> Int64[np.ndarray, " N"]:
    """Labels in memory, of 2 to N classes."""
    if labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of '{path}' are of type {labels.dtype}; class indices (whole numbers) were "
            "expected: number the classes from 0 on"
        )
    y = labels_of(labels.astype(np.int64), num).numpy()
    if y.max() >= num:
        raise InputError(
            f"the largest label of '{path}' is {y.max()}, of {num} examples; class indices were "
            "expected: number the classes from 0 on, without gaps"
        )
    check_classes(y, str(path))
    return y


def check_classes(labels: Int64[np.ndarray, " N"], where: str) -> None:
    """Refuse examples of one class.

    Raises:
        InputError: If no two labels differ.
    """
    if len(np.unique(labels)) < 2:
        raise InputError(
            f"all {len(labels)} examples of '{where}' are of class {labels[0]}; at least two "
            "classes were expected: add examples of another one"
        )


def _check_same_examples(first: FeatureFile, other: FeatureFile) -> None:
    if len(other.features) != len(first.features):
        raise InputError(
            f"'{other.path}' has {len(other.features)} examples, '{first.path}' "
            f"{len(first.features)}; features of the same examples in the same order were "
            "expected: compare other files one by one"
        )
    for name, a, b in (
        ("labels", first.labels, other.labels),
        ("environments", first.envs, other.envs),
    ):
        if (a is None) != (b is None) or (a is not None and not np.array_equal(a, b)):  # type: ignore[arg-type]
            raise InputError(
                f"'{other.path}' and '{first.path}' have different {name}; the same examples in "
                "the same order were expected: compare other files one by one"
            )


def _read(path: Path) -> Content:
    if path.suffix not in _READERS:
        raise InputError(
            f"'{path}' has the ending '{path.suffix}'; a file of features was expected: one of "
            f"{', '.join(_READERS)}"
        )
    return _guarded(path, _READERS[path.suffix])


def _array(path: str, name: str) -> np.ndarray:
    if Path(path).suffix != ".npy":
        raise InputError(f"'{path}' is no .npy file; one array of {name} was expected in one")
    return _guarded(Path(path), _mapped)


def _guarded(path: Path, read: Callable[[Path], T]) -> T:
    if not path.is_file():
        raise InputError(f"there is no file '{path}'; check --features and --labels")
    try:
        return read(path)
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"'{path}' cannot be read ({reason}); a complete {path.suffix} file of plain numbers "
            "was expected: write it again"
        ) from error


def _read_npy(path: Path) -> Content:
    return Content(_mapped(path))


def _mapped(path: Path) -> np.memmap:
    """An array that is read where it is used; the file cannot be changed through it."""
    return np.lib.format.open_memmap(path, mode="c")


def _read_npz(path: Path) -> Content:
    # np.load would leave a damaged file open.
    with path.open("rb") as file, np.lib.npyio.NpzFile(file) as arrays:
        if "features" not in arrays:
            raise InputError(
                f"'{path}' holds the arrays {', '.join(arrays)}; `features` was expected, and if "
                "you like `labels` and `envs`: rename them"
            )
        return Content(arrays["features"], arrays.get("labels"), arrays.get("envs"))


def _read_parquet(path: Path) -> Content:
    frame = pd.read_parquet(path)
    features = frame.drop(columns=["label", "env"], errors="ignore").select_dtypes("number")
    if left_out := frame.columns.difference([*features, "label", "env"]).tolist():
        log.warning("%s: columns %s hold no numbers and are left out", path, ", ".join(left_out))
    if features.empty:
        raise InputError(
            f"'{path}' has no numeric column beside 'label' and 'env'; one column per feature "
            "was expected: write them as numbers"
        )
    labels, envs = (frame[name].to_numpy() if name in frame else None for name in ("label", "env"))
    return Content(features.to_numpy(copy=True), labels, envs)  # what pandas shares is read-only


_READERS: dict[str, Callable[[Path], Content]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
