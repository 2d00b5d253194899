"""Tests for python -m probes.richness, on files of features and on made-up checkpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.estimates import estimate, select
from core.errors import InputError
from core.records import Record
from probes import feature_probe
from probes.richness import effective_rank
from probes.richness.__main__ import main
from probes.richness.comparisons import NEIGHBOURS, SIMILARITIES
from probes.richness.config import RichnessConfig
from probes.richness.measure import METRICS, measure
from probes.richness.nulls import permuted_units
from probes.similarity import linear_cka
from tests.probes.feature_data import feature_set, part, write_features

FEW = {"groups": 3, "draws": 2, "permutations": 5, "subsets": 2}


def tiny(folder: Path, *names: str, **options: object) -> RichnessConfig:
    options = FEW | {"output": str(folder / "record")} | options
    return RichnessConfig(**write_features(folder, *names), **options)


def test_values_are_those_of_the_functions(tmp_path: Path) -> None:
    record = measure(tiny(tmp_path, "a", "b"))
    a, b = (np.load(tmp_path / f"{name}.npy") for name in "ab")

    where = {"layer": "features", "split": "given", "env": "all"}
    rank = estimate(record.values, "effective_rank_centred", run="a", **where)
    assert rank is not None
    assert rank.value == pytest.approx(effective_rank(a))
    assert rank.low < rank.value < rank.high
    null = estimate(record.values, "null_effective_rank_centred", run="a", **where)
    assert null is not None
    drawn = [effective_rank(permuted_units(a, seed=seed)) for seed in (0, 1)]
    assert (null.value, null.low, null.high) == pytest.approx(
        (np.mean(drawn), min(drawn), max(drawn))
    )
    alike = estimate(record.values, "cka", run="a | b", **where)
    assert alike is not None
    assert alike.value == pytest.approx(linear_cka(a, b))


def test_every_metric_is_declared_and_every_family_there(tmp_path: Path) -> None:
    record = measure(tiny(tmp_path, "a", "b"))
    found = set(record.values["metric"])
    assert found <= set(METRICS)
    families = {"rankme", "nc1", "hoyer", "correlation", "diffused_redundancy", "cka", "null_cdnv"}
    assert families | {"concatenation_gain", "null_unit_predictability"} <= found
    assert record.arrays["a|features|given|all|spectrum"].sum() == pytest.approx(1)
    assert record.arrays["a|features|given|all|null_spectrum"].shape == (2, 8)


def test_units_are_predicted_beside_their_null(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(60, 8))
    x[:, 0] = np.arange(60) == 7
    config = tiny(tmp_path, "a", measures=("redundancy",))
    np.save(tmp_path / "a.npy", x)
    values = measure(config).values

    overall, median, null = (
        estimate(values, name, run="a", env="all")
        for name in (
            "unit_predictability",
            "unit_predictability_median",
            "null_unit_predictability",
        )
    )
    assert overall is not None
    assert median is not None
    assert null is not None
    assert min(overall.low, median.low) > 0.8
    assert -1 < null.low <= null.value <= null.high < 0.1
    assert select(values, "nearly_dead_units")["value"].tolist() == [1]


def test_every_similarity_stands_beside_its_null(tmp_path: Path) -> None:
    record = measure(tiny(tmp_path, "a", "b", measures=("similarity",), permutations=200))
    where = {"run": "a | b", "layer": "features", "split": "given", "env": "all"}
    for name in SIMILARITIES:
        found, null = (estimate(record.values, m, **where) for m in (name, f"null_{name}"))
        assert found is not None
        assert null is not None
        assert null.low < null.value < null.high
    row = select(record.values, "null_mutual_knn", **where).iloc[0]
    chance = NEIGHBOURS / (row["num_examples"] - 1)
    assert row["value"] == pytest.approx(chance, abs=4 * row["stderr"] / 200**0.5)


def test_undefined_measures_say_why(tmp_path: Path) -> None:
    record = measure(tiny(tmp_path, "a", measures=("spectral",)))
    reasons = record.provenance["undefined"]
    assert "eigenvalues" in reasons["a|features|given|all|alpha_req"]
    assert select(record.values, "alpha_req")["value"].isna().all()


def test_checkpoints_are_probed_by_split_and_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [
        feature_set(
            run, part("x", "train", 60), part("x", "iid", 30), part("y", "ood", 30, seed=s)
        )
        for s, run in enumerate(("erm/init", "erm"))
    ]
    monkeypatch.setattr(feature_probe, "load_features", lambda _: sets)
    record = measure(RichnessConfig(output=str(tmp_path / "r"), checkpoints=("x",), **FEW))
    values = record.values
    assert set(values["layer"].dropna()) == {"block", "features"}
    masked = select(values, "masked_accuracy", run="erm", split="ood", layer="features")
    assert masked["at"].tolist() == sorted(masked["at"])
    assert select(values, "nc4_agreement", layer="block").empty
    assert record.arrays["erm/init | erm|ood|y|similarity|map"].shape == (2, 2)
    own = estimate(values, "nc1", run="erm", split="iid", env="x", layer="features")
    assert own is not None
    assert own.has_interval


def test_the_command_writes_a_record_that_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = write_features(tmp_path, "a")
    monkeypatch.chdir(tmp_path)
    few = [f"--{name}={value}" for name, value in FEW.items()]
    files = ["--features", "a.npy", "--labels", "labels.npy", "--output", "r"]
    assert options
    monkeypatch.setattr("sys.argv", ["richness", *files, *few])
    main()
    printed = capsys.readouterr().out
    assert "given/all" in printed
    assert Record.read(tmp_path / "r").probe == "richness"
    assert not list(tmp_path.glob(".*"))


def test_one_class_leaves_the_spectra(tmp_path: Path) -> None:
    config = tiny(tmp_path, "a", measures=("spectral", "class"))
    np.save(tmp_path / "envs.npy", np.load(tmp_path / "labels.npy").astype(str))
    config = replace(config, feature_envs=str(tmp_path / "envs.npy"))
    record = measure(config)
    inside = {"env": "0", "split": "given"}
    rank = estimate(record.values, "effective_rank_centred", **inside)
    assert rank is not None and rank.has_interval
    assert select(record.values, "nc1", **inside)["value"].isna().all()
    assert "class" in record.provenance["undefined"]["a|features|given|0|nc1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0.0}, "0 < delta <= 1"),
        ({"draws": 1}, "--draws is 1; at least 2"),
        ({"measures": ()}, "--measures is empty"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RichnessConfig(**options)


def test_constant_features_are_refused_in_a_sentence(tmp_path: Path) -> None:
    config = tiny(tmp_path, "a", measures=("spectral", "class"))
    np.save(tmp_path / "a.npy", np.ones((60, 8), np.float32))
    with pytest.raises(InputError, match="all 60 examples are the same"):
        measure(config)
