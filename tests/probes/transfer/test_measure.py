"""Tests for python -m probes.transfer, on files of features and on made-up checkpoints."""

from pathlib import Path

import numpy as np
import pytest

from analysis.estimates import estimate, select
from core.errors import InputError
from core.records import Record
from probes import feature_probe
from probes.transfer import dinov2_probe, logme
from probes.transfer.__main__ import main
from probes.transfer.config import TransferConfig
from probes.transfer.measure import METRICS, measure
from tests.probes.feature_data import feature_set, part, write_features

FEW = {"groups": 3, "repeats": 2, "folds": 2, "shots": (1, 2), "draws": 2}


def checkpoints() -> list:
    known = part("x", "train", 90), part("x", "iid", 45)
    return [feature_set(run, *known, part("y", "ood", 60, seed=3)) for run in ("erm", "vld")]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    config = TransferConfig(
        output=str(tmp_path_factory.mktemp("transfer") / "r"), checkpoints=("x",), **FEW
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_probe, "load_features", lambda _: checkpoints())
        return measure(config)


def test_values_are_those_of_the_functions(record: Record) -> None:
    train, iid, ood = checkpoints()[0].parts
    probe = dinov2_probe(train.features["features"], train.labels).probe
    for part_, split in ((iid, "iid"), (ood, "ood")):
        where = {"run": "erm", "layer": "features", "split": split, "env": part_.env}
        found = estimate(record.values, "probe_accuracy", **where)
        right = probe.predict(part_.features["features"]) == part_.labels
        assert found is not None
        assert found.value == right.mean()
        assert found.low < found.value
        score = estimate(record.values, "logme", **where)
        assert score is not None
        assert score.value == pytest.approx(logme(part_.features["features"], part_.labels))


def test_every_family_is_there_where_it_makes_sense(record: Record) -> None:
    values = record.values
    assert set(values["metric"]) == set(METRICS)
    assert set(select(values, "transfer_gap")["split"]) == {"ood"}
    assert set(select(values, "layer_gain")["layer"]) == {"all"}
    assert select(values, "few_shot_accuracy", run="erm", layer="features", split="ood")[
        "at"
    ].tolist() == [1.0, 2.0]
    assert set(select(values, "leep")["layer"]) == {"features"}  # the classifier reads no other
    assert "train" not in set(values["split"])


def test_the_source_probe_is_the_probe(record: Record) -> None:
    values = record.values
    where = {"run": "erm", "layer": "features", "split": "ood", "env": "y"}
    found = [estimate(values, n, **where) for n in ("source_probe_accuracy", "probe_accuracy")]
    assert found[0] == found[1]


def test_scores_stand_beside_permuted_labels(record: Record) -> None:
    values = record.values
    where = {"run": "erm", "layer": "features", "split": "ood", "env": "y"}
    for score in ("logme", "h_score", "n_leep", "transrate"):
        found, null = (estimate(values, name, **where) for name in (score, f"null_{score}"))
        assert found is not None and null is not None
        assert null.low <= null.value <= null.high < found.value
    chance = estimate(values, "chance_accuracy", run="erm", split="ood")
    assert chance is not None
    assert chance.value == 1 / 3


def test_files_are_halved_to_train_and_to_test(tmp_path: Path) -> None:
    config = TransferConfig(**write_features(tmp_path, "a"), output=str(tmp_path / "r"), **FEW)
    values = measure(config).values
    assert select(values, "probe_accuracy")["num_examples"].tolist() == [30]
    assert select(values, "leep").empty


def test_without_a_known_training_set_test_environments_are_only_tested_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = part("y", "ood", 60, seed=3), part("a", "given", 60), part("b", "given", 60, seed=1)
    sets = [feature_set("file", *parts)]
    monkeypatch.setattr(feature_probe, "load_features", lambda _: sets)
    options = {"output": str(tmp_path / "r"), "checkpoints": ("x",), "measures": ("probe", "gap")}
    values = measure(TransferConfig(**(FEW | options))).values
    found = select(values, "probe_accuracy", layer="features").set_index("env")["num_examples"]
    assert found["y"] == found["all"] == 60
    assert found["a"] + found["b"] == 60
    assert set(select(values, "transfer_gap")["split"]) == {"ood"}


def test_too_few_examples_for_some_shots_leave_a_reason(tmp_path: Path) -> None:
    options = FEW | {"shots": (1, 16), "measures": ("few_shot",)}
    config = TransferConfig(**write_features(tmp_path, "a"), output=str(tmp_path / "r"), **options)
    record = measure(config)
    one, sixteen = select(record.values, "few_shot_accuracy")["value"].tolist()
    assert one > 1 / 3
    assert np.isnan(sixteen)
    (reason,) = record.provenance["undefined"].values()
    assert "16 shots need 16 examples per class" in reason


def test_the_command_writes_a_record_that_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path, "a")
    monkeypatch.chdir(tmp_path)
    options = ["--groups=3", "--repeats=2", "--folds=2", "--shots=[1]", "--output=r"]
    monkeypatch.setattr(
        "sys.argv", ["transfer", "--features", "a.npy", "--labels", "labels.npy", *options]
    )
    main()
    assert "given/all" in capsys.readouterr().out
    assert Record.read(tmp_path / "r").probe == "transfer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "--folds is 1; at least 2"),
        ({"shots": (0,)}, "--shots is .0.; positive"),
        ({"measures": ()}, "--measures is empty"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TransferConfig(**options)
