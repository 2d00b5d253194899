"""Tests for probes/linearity_metrics.py: rows from sums that were made by hand."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from core.records import tidy
from probes.linearity_metrics import METRICS, barrier, example_rows, weight_rows
from probes.pairs import Pair
from probes.sums import FEATURES, Key

ALPHAS = (0.0, 0.25, 0.5, 1.0)
R2 = Key("explained_displacement", FEATURES, 1.0)
SPLITS = {"ink": "iid", "photo": "iid", "rotated": "ood"}


def pair(run: str, *, seed: int | None = 0, images: int = 8) -> Pair:
    """A run that differs from others in its label and its images only."""
    facts = {"seed": seed, "sha256": f"{run:0<64}"}
    return Pair(run, {}, {}, {env: np.arange(images) for env in SPLITS}, SPLITS, facts)


def per_example(numerator: ArrayLike, denominator: ArrayLike = 1.0, num: int = 8) -> np.ndarray:
    return np.stack(
        [np.broadcast_to(part, num).astype(float) for part in (numerator, denominator)]
    )


def rows_of(pairs: list[Pair], sums: Mapping[str, dict[Key, np.ndarray]]) -> pd.DataFrame:
    """Rows when every environment of a run has the same sums."""
    measured = {run: {env: [both] for env in SPLITS} for run, both in sums.items()}
    return tidy(example_rows(pairs, measured, seed=0))


def one(rows: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        rows = rows.loc[rows[column] == value, :]
    assert len(rows) == 1
    return rows.iloc[0]


def accuracy_curves(weight: list[list[int]], mixed: list[list[int]]) -> dict[Key, np.ndarray]:
    """Which of four examples are right at each of `ALPHAS`."""
    curves = {"weight_accuracy": weight, "representation_accuracy": mixed}
    return {
        Key(name, "", alpha): per_example(right, num=4)
        for name, curve in curves.items()
        for alpha, right in zip(ALPHAS, curve, strict=True)
    }


WEIGHT = [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]  # 0.25, 0, 1, 0.5
MIXED = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]  # 0.25, 0.5, 0.5, 0.5


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("interpolation_gap_max", 0.5),
        # Trapezoids of |gap| = 0, 0.5, 0.5, 0 at 0, 0.25, 0.5, 1.
        ("interpolation_gap_area", 0.0625 + 0.125 + 0.125),
        # The mix of the ends at 0.25 is 0.3125, and the accuracy there is 0.
        ("barrier", 0.3125),
    ],
)
def test_comparisons_of_whole_curves_by_hand(metric: str, expected: float) -> None:
    rows = rows_of([pair("erm", images=4)], {"erm": accuracy_curves(WEIGHT, MIXED)})
    found = one(rows, metric=metric, env="ink")
    assert found["value"] == pytest.approx(expected)
    assert found["low"] <= expected <= found["high"]
    assert found["num_examples"] == 4


def test_equal_curves_have_no_gap_and_a_straight_one_no_barrier() -> None:
    curves = accuracy_curves(MIXED, MIXED)
    rows = rows_of([pair("erm", images=4)], {"erm": curves})
    for metric in ("interpolation_gap_max", "interpolation_gap_area"):
        row = one(rows, metric=metric, env="ink")
        assert row["value"] == row["low"] == row["high"] == 0
    assert one(rows, metric="barrier", env="ink")["value"] == 0


def test_barrier_is_largest_where_it_is_largest() -> None:
    alphas = np.array([0.0, 0.25, 0.5, 1.0])
    curves = np.array([[1.0, 0.5, 0.0, 1.0], [0.0, 0.25, 0.5, 1.0], [0.0, 1.0, 1.0, 0.0]])
    np.testing.assert_allclose(barrier(curves, alphas), [1.0, 0.0, 0.0])
    assert barrier(1 - curves[2], alphas) == 1


def test_ratios_become_values_as_declared() -> None:
    denominator = np.arange(1.0, 9.0)
    sums = {
        R2: per_example(denominator / 4, denominator),
        Key("curvature_ratio", FEATURES): per_example(denominator / 4, denominator),
        Key("displacement", FEATURES): per_example(denominator * 9, denominator),
        Key("linear_gain_share"): per_example([1, 1, 0, 0, 1, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0]),
        Key("linear_agreement"): per_example([1, 1, 1, 0, 1, 1, 1, 1]),
    }
    rows = rows_of([pair("erm")], {"erm": sums})
    expected = {
        "explained_displacement": 0.75,
        "curvature_ratio": 0.5,
        "lazy_radius": 2.0,
        "displacement": 3.0,
        "linear_gain_share": 0.75,
        "linear_agreement": 0.875,
    }
    for metric, value in expected.items():
        assert one(rows, metric=metric, env="ink")["value"] == pytest.approx(value), metric
    assert set(rows["metric"]) <= set(METRICS)


def test_a_model_without_curvature_has_an_infinite_radius_and_nothing_warns() -> None:
    rows = rows_of([pair("erm")], {"erm": {Key("curvature_ratio", FEATURES): per_example(0.0)}})
    radius = one(rows, metric="lazy_radius", env="ink")
    assert radius["value"] == math.inf
    assert pd.isna(radius["low"])
    assert one(rows, metric="curvature_ratio", env="ink")["high"] == 0


def test_what_is_not_a_number_has_no_interval_and_harms_nothing_else() -> None:
    sums = {
        Key("explained_displacement", FEATURES, 1.5): per_example(np.nan),
        R2: per_example([0.0, 1.0] * 4),
    }
    rows = rows_of([pair("erm")], {"erm": sums})
    beyond = one(rows, at=1.5, env="ink")
    assert pd.isna(beyond["value"])
    assert pd.isna(beyond["low"])
    assert one(rows, at=1.0, env="ink")["value"] == 0.5


def test_features_that_did_not_move_have_no_value() -> None:
    rows = rows_of([pair("erm")], {"erm": {R2: per_example(0.0, 0.0)}})
    assert rows[rows["metric"] == "explained_displacement"]["value"].isna().all()


def test_environments_of_a_split_are_pooled() -> None:
    measured = {
        "ink": [{R2: per_example(1.0, 2.0)}],
        "photo": [{R2: per_example(0.0, 6.0)}],
        "rotated": [{R2: per_example(3.0, 4.0)}],
    }
    rows = tidy(example_rows([pair("erm")], {"erm": measured}, seed=0))
    found = {(r.split, r.env): (r.value, r.num_examples) for r in rows.itertuples()}
    assert found == {
        ("iid", "ink"): (0.5, 8),
        ("iid", "photo"): (1.0, 8),
        ("iid", "all"): (0.875, 16),
        ("ood", "rotated"): (0.25, 8),
        ("ood", "all"): (0.25, 8),
    }


def test_a_run_and_its_copy_differ_by_nothing_on_every_resample() -> None:
    left = np.random.default_rng(0).gamma(2, size=8)
    sums = {R2: per_example(left, 4.0)}
    rows = rows_of([pair("erm"), pair("copy")], {"erm": sums, "copy": sums})
    differences = rows[rows["metric"] == "explained_displacement_difference"]
    assert set(differences["run"]) == {"copy - erm"}
    assert (differences[["value", "low", "high", "stderr"]] == 0).all(axis=None)
    assert one(rows, run="erm", env="ink", metric=R2.metric)["stderr"] > 0


def test_runs_are_compared_with_the_first_of_their_seed_on_the_same_images_only() -> None:
    pairs = [
        pair("erm-s0"),
        pair("erm-s1", seed=1),
        pair("dropout-s0"),
        pair("dropout-s1", seed=1),
        pair("other-images", images=7),
        pair("file-a", seed=None),
        pair("file-b", seed=None),
    ]
    sums = {
        p.run: {R2: per_example(i / 10, num=len(p.images["ink"]))} for i, p in enumerate(pairs)
    }
    rows = rows_of(pairs, sums)
    differences = rows[rows["metric"] == "explained_displacement_difference"]
    names = {"dropout-s0 - erm-s0", "dropout-s1 - erm-s1", "file-b - file-a"}
    assert set(differences["run"]) == names
    row = one(differences, run="dropout-s0 - erm-s0", env="all", split="iid")
    assert row["value"] == pytest.approx(-0.2)
    assert row["num_examples"] == 16


@given(st.floats(1e-3, 1e3))
def test_r2_does_not_know_the_scale_of_the_features(scale: float) -> None:
    left = np.random.default_rng(0).gamma(2, size=8)
    rows, scaled = (
        rows_of([pair("erm")], {"erm": {R2: c**2 * per_example(left, 4.0)}}) for c in (1.0, scale)
    )
    columns = ["value", "low", "high"]
    np.testing.assert_allclose(scaled[columns], rows[columns], rtol=1e-9, atol=1e-12)


def test_weight_rows_in_closed_form() -> None:
    weights0 = {"a": torch.full((4,), 3.0), "a_var": torch.ones(1), "fc": torch.zeros(2)}
    weights1 = {"a": torch.full((4,), 4.5), "a_var": torch.full((1,), 5.0), "fc": torch.ones(2)}
    moved = Pair("erm", weights0, weights1, {}, {}, {"seed": 0, "sha256": "0" * 64})
    rows = tidy(weight_rows(moved, {"block": ("a", "a_var"), "classifier": ("fc",)}, {"a", "fc"}))
    # Squares: the parameters moved by 4 * 1.5^2 + 2 = 11, the running variance by 16.
    assert one(rows, metric="buffer_share")["value"] == pytest.approx(16 / 27)
    block = one(rows, metric="weight_displacement", layer="block")["value"]
    assert block == pytest.approx(math.sqrt((9 + 16) / (36 + 1)))
    assert pd.isna(one(rows, metric="weight_displacement", layer="classifier")["value"])
    assert rows["low"].isna().all()


def test_barrier_by_hand() -> None:
    alphas = np.array([0.0, 0.5, 1.0])
    assert barrier(np.array([0.5, 0.75, 1.0]), alphas) == 0
    assert barrier(np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]), alphas) == pytest.approx(
        [0.75, 0]
    )
