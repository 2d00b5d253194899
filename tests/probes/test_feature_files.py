"""Tests for probes/feature_files.py."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError
from probes.feature_files import read_feature_files

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])
ENVS = np.array(["art", "art", "art", "sketch", "sketch", "sketch"])


def write(path: Path, x: np.ndarray = X, y: np.ndarray = Y, envs: np.ndarray = ENVS) -> str:
    """The same examples in a file of any kind."""
    if path.suffix == ".npz":
        np.savez(path, features=x, labels=y, envs=envs)
    elif path.suffix == ".parquet":
        frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(x.shape[1])])
        frame.assign(label=y, env=envs).to_parquet(path)
    else:
        np.save(path, x)
    return str(path)


def saved(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_files_with_labels_come_back_as_they_were_written(tmp_path: Path, kind: str) -> None:
    (file,) = read_feature_files([write(tmp_path / f"a.{kind}")])
    np.testing.assert_array_equal(file.features, X)
    assert file.features.dtype == np.float32
    np.testing.assert_array_equal(file.labels, Y)
    assert file.envs is not None
    assert file.envs.tolist() == ENVS.tolist()


def test_npy_files_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    labels, envs = saved(tmp_path / "y.npy", Y), saved(tmp_path / "e.npy", ENVS)
    (file,) = read_feature_files([path], labels, envs)
    np.testing.assert_array_equal(file.features, X)
    np.testing.assert_array_equal(file.labels, Y)
    assert file.envs is not None
    assert file.envs.tolist() == ENVS.tolist()
    assert read_feature_files([path], labels)[0].envs is None


def test_labels_given_by_themselves_come_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    (file,) = read_feature_files([path], saved(tmp_path / "y.npy", Y[::-1]))
    assert file.labels.tolist() == Y[::-1].tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int64", "uint8", "?"])
def test_numbers_of_any_type_are_never_narrowed(tmp_path: Path, dtype: str) -> None:
    x = (10 * np.abs(X)).astype(dtype)
    (file,) = read_feature_files([write(tmp_path / "a.npz", x)])
    np.testing.assert_array_equal(file.features, x.astype(np.float64))
    assert file.features.dtype == (np.float64 if dtype == "float64" else np.float32)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "uint64", ">i4"])
def test_labels_of_any_whole_type(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "a.npz", y=Y.astype(dtype))
    assert read_feature_files([path])[0].labels.tolist() == Y.tolist()


def test_environments_may_be_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", envs=np.array([0, 0, 0, 1, 1, 1]))
    (file,) = read_feature_files([path])
    assert file.envs is not None
    assert file.envs.tolist() == ["0", "0", "0", "1", "1", "1"]


def test_a_large_npy_file_is_mapped_and_never_changed(tmp_path: Path) -> None:
    path, labels = write(tmp_path / "a.npy"), saved(tmp_path / "y.npy", Y)
    (file,) = read_feature_files([path], labels)
    file.features[:] = 0
    np.testing.assert_array_equal(np.load(path), X)


def test_columns_that_hold_no_numbers_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pd.DataFrame({"f": X[:, 0], "path": list("abcdef"), "label": Y})
    frame.to_parquet(tmp_path / "a.parquet")
    (file,) = read_feature_files([str(tmp_path / "a.parquet")])
    assert file.features.shape == (6, 1)
    assert "columns path hold no numbers" in caplog.text


def test_several_files_are_of_the_same_examples(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.npz"), write(tmp_path / "b.parquet", X[:, :2])]
    first, other = read_feature_files(paths)
    assert first.features.shape == (6, 3)
    assert other.features.shape == (6, 2)


NAN = X.copy()
NAN[2, 1] = np.nan
DIFFERENT = {
    "number": (
        {"x": X[:4], "y": Y[:4], "envs": ENVS[:4]},
        "has 4 examples, .* 6; .*same examples",
    ),
    "labels": ({"y": Y[::-1]}, "have different labels; the same examples"),
    "environments": ({"envs": ENVS[::-1]}, "have different environments; the same examples"),
}
REFUSED = {
    "nan": ({"x": NAN}, "1 of 6 rows of features of .* hold NaN"),
    "vector": ({"x": X[:, 0]}, r"shape \(6,\); a matrix with one row per example"),
    "images": ({"x": X[:, :, None]}, r"shape \(6, 3, 1\); a matrix"),
    "no features": ({"x": X[:, :0]}, r"shape \(6, 0\); a matrix"),
    "text": ({"x": X.astype(str)}, "are of type <U32; numbers were expected"),
    "complex": ({"x": X.astype(complex)}, "are complex"),
    "one example": ({"x": X[:1], "y": Y[:1], "envs": ENVS[:1]}, "1 examples; at least 2"),
    "length": ({"y": Y[:5]}, r"labels have shape \(5,\), the features 6 examples"),
    "fractions": ({"y": Y.astype(float)}, "labels of .* float64; class indices"),
    "names": ({"y": ENVS}, "are of type <U6; class indices .*number the classes"),
    "flags": ({"y": Y > 0}, "are of type bool; class indices"),
    "negative": ({"y": Y - 1}, "smallest label is -1; class indices start at 0"),
    "out of range": ({"y": Y * 5}, "largest label of .* is 10, of 6 examples"),
    "one class": ({"y": 0 * Y}, "all 6 examples of .* are of class 0; at least two classes"),
    "environments": ({"envs": ENVS[:3]}, r"environments of .* shape \(3,\).* 6 examples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contents_that_make_no_sense_are_refused(tmp_path: Path, case: str) -> None:
    arrays, expected = REFUSED[case]
    assert_refused(expected, [write(tmp_path / "a.npz", **arrays)])


@pytest.mark.parametrize("case", DIFFERENT)
def test_files_of_other_examples_are_refused(tmp_path: Path, case: str) -> None:
    arrays, expected = DIFFERENT[case]
    paths = [write(tmp_path / "a.npz"), write(tmp_path / "b.npz", **arrays)]
    assert_refused(expected, paths)


def test_environments_in_one_file_only_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", features=X, labels=Y)
    paths = [write(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    assert_refused("have different environments", paths)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.npy")
    labels = saved(tmp_path / "y.npy", Y)
    assert_refused("holds no labels; .*--labels", [str(tmp_path / "a.npy")])
    assert_refused("there is no file .*b.npy", [str(tmp_path / "b.npy")], labels)
    assert_refused("there is no file .*b.npy", [str(tmp_path / "a.npy")], str(tmp_path / "b.npy"))
    assert_refused("ending '.csv'; .*.npy, .npz, .parquet", ["a.csv"])
    assert_refused("no .npy file; one array of labels", ["a.npz"], "labels.csv")
    np.savez(tmp_path / "b.npz", phi=X)
    assert_refused("holds the arrays phi; `features` was expected", [str(tmp_path / "b.npz")])
    pd.DataFrame({"label": Y, "path": list("abcdef")}).to_parquet(tmp_path / "b.parquet")
    assert_refused("no numeric column beside", [str(tmp_path / "b.parquet")])


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
@pytest.mark.parametrize("size", [0, 20, -30])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, size: int) -> None:
    path = Path(write(tmp_path / f"a.{kind}"))
    path.write_bytes(path.read_bytes()[:size])
    assert_refused("a.* cannot be read .*write it again", [str(path)])


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, {}], object), allow_pickle=True)
    assert_refused("cannot be read", [str(tmp_path / "a.npy")])


def assert_refused(expected: str, paths: list[str], labels: str | None = None) -> None:
    with pytest.raises(InputError) as error:
        read_feature_files(paths, labels)
    sentence = str(error.value)
    assert re.search(expected, sentence), sentence
    assert "\n" not in sentence
