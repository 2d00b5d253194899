"""Tests for python -m probes.feature_creation: pairs of networks, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from analysis.creation_verdict import BEFORE, DIFFERENCE, R2, with_recipes
from analysis.estimates import estimate, select
from core.errors import InputError
from core.records import Record
from probes.feature_creation import METRICS, Views, shared_rows
from probes.feature_creation.config import FeatureCreationConfig
from probes.feature_creation.measure import PROBE, load
from probes.sources import example_runs
from tests.probes.feature_data import feature_set, part


def networks() -> list:
    parts = part("x", "train", 90), part("x", "iid", 45), part("y", "ood", 60, seed=3)
    tuned = [replace(p, features={"features": p.features["features"] @ np.eye(8)}) for p in parts]
    before, after = feature_set("erm/init", *parts), feature_set("erm", *tuned)
    facts = {"run": "erm", "lr": 0.1, "steps": 4, "train_size": 90, "seed": 0}
    return [before, replace(after, facts=facts)]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    config = FeatureCreationConfig(
        checkpoints=("x",), output=str(tmp_path / "r"), permutations=3, folds=3
    )
    return replace(PROBE, load=lambda _: networks()).measure(config)


def test_values_are_those_of_the_functions(record: Record) -> None:
    old, new = (found.parts[2] for found in networks())
    rows = shared_rows(Views(old.features, new.features, new.labels), permutations=3, folds=3)
    (expected,) = [r["value"] for r in rows if (r["metric"], r["layer"]) == (R2, "all")]
    where = {"run": "erm", "layer": "all", "env": "all", "split": "ood"}
    found = estimate(record.values, R2, **where)
    assert found is not None
    assert found.value == expected
    assert found.value > 0.99  # nothing moved


def test_rows_stand_where_they_should(record: Record) -> None:
    values = record.values
    assert set(values["metric"]) == set(METRICS)
    assert set(values["run"]) == {"erm"}
    assert set(select(values, R2)["env"]) == {"all"}
    assert set(select(values, BEFORE)["env"]) == {"x", "y", "all"}
    difference = estimate(values, DIFFERENCE, run="erm", layer="features", env="all", split="iid")
    assert difference is not None and difference.value == 0
    assert with_recipes(record)["train_size"].unique().tolist() == [90]


def test_a_run_beside_it_does_not_take_images_from_the_probes_of_a_run(
    record: Record, tmp_path: Path
) -> None:
    """Trained on 90 images alone, and beside a run of 30."""
    parts = part("x", "train", 30), part("x", "iid", 45), part("y", "ood", 60, seed=3)
    small = [feature_set(run, *parts) for run in ("short/init", "short")]
    config = FeatureCreationConfig(
        checkpoints=("x",), output=str(tmp_path / "both"), permutations=3, folds=3
    )
    both = replace(PROBE, load=lambda _: [*networks(), *small]).measure(config)
    columns = ["layer", "env", "split", "metric", "value"]
    alone, beside = (
        r.values.loc[r.values["run"] == "erm", columns].reset_index(drop=True)
        for r in (record, both)
    )
    assert_frame_equal(alone, beside)


def test_a_checkpoint_file_alone_is_refused() -> None:
    file = f"{example_runs()[0]}/final.safetensors"
    with pytest.raises(InputError, match="is a checkpoint file; a run folder"):
        load(FeatureCreationConfig(checkpoints=(file,)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"features": ("a.npy",)}, "run folders hold the network before and after"),
        ({"with_init": False}, "--with_init is false"),
        ({"layers": ("blocks",)}, "'features' was expected in it"),
        ({"permutations": 1}, "--permutations is 1"),
        ({"folds": 1}, "--folds is 1"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        FeatureCreationConfig(**options)
