"""Tests for python -m probes.rate_curve, on files of features and on made-up checkpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from analysis.dropout_ridge_verdict import accuracy_of, difference_of
from analysis.estimates import estimate, select
from core.errors import InputError
from core.records import Record
from finetuning.linear.__main__ import fit_linear
from finetuning.linear.config import LinearConfig
from finetuning.linear.model import LinearModel, Norm
from probes.dropout_ridge import least_squares_head
from probes.feature_options import FeatureOptions
from probes.feature_sources import load_features
from probes.rate_curve import representations
from probes.rate_curve.__main__ import main
from probes.rate_curve.config import RateCurveConfig
from probes.rate_curve.measure import measure
from probes.rate_curve.representations import load
from probes.sources import example_runs
from tests.probes.feature_data import CLASSES, feature_set, part, write_features

ERM = example_runs()[0]

FEW = {"rates": (0.5,), "steps": 8, "repeats": 2}


def checkpoints() -> list:
    """Two runs of one pretrained network, and one from scratch."""
    parts = part("x", "train", 90), part("x", "iid", 45), part("y", "ood", 60, seed=3)
    tuned = part("x", "train", 90, seed=7), *parts[1:]
    found = []
    for run, own in {"erm/init": parts, "erm": tuned, "vld/init": parts, "vld": tuned}.items():
        found.append(feature_set(run, *own))
    other = feature_set("scratch/init", *(part("x", s, 45, seed=9) for s in ("train", "iid")))
    return [*found, replace(other, facts={"run": other.run, "from_scratch": True})]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(representations, "load_features", lambda _: checkpoints())


@pytest.mark.usefixtures("made_up")
def test_each_pretrained_network_is_measured_once() -> None:
    assert [found.run for found in load(RateCurveConfig(checkpoints=("x",)))] == ["erm/init"]


@pytest.mark.parametrize("asked", [("features",), ("layer4.0", "features", "layer1.0")])
def test_stacked_are_the_last_blocks_whatever_layers_are_asked_for(
    asked: tuple[str, ...], tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    of = {"checkpoints": (ERM,), "envs": ("ink", "rotated"), "samples": 8, "cache": str(tmp_path)}
    (found,) = load(RateCurveConfig(**of, layers=asked, stacked=2))
    whole, _ = load_features(FeatureOptions(**of, layers=("blocks",)))
    for ours, theirs in zip(found.parts, whole.parts, strict=True):
        assert set(ours.features) == {*asked, "stacked"}
        last = [theirs.features[block] for block in list(theirs.features)[-2:]]
        np.testing.assert_array_equal(ours.features["stacked"], np.concatenate(last, 1))


def test_more_blocks_than_there_are_are_refused() -> None:
    with pytest.raises(InputError, match="--stacked is 99; glyphnet has . residual blocks"):
        load(RateCurveConfig(checkpoints=(ERM,), stacked=99))


@pytest.mark.usefixtures("made_up")
def test_values_are_those_of_the_functions(tmp_path: Path) -> None:
    config = RateCurveConfig(checkpoints=("x",), output=str(tmp_path / "r"), **FEW)
    record = measure(config)
    train, iid, ood = checkpoints()[0].parts
    targets = np.eye(CLASSES)[train.labels]
    head = least_squares_head(train.features["features"], targets, 0.5)
    for test in (iid, ood):
        right = head(torch.from_numpy(test.features["features"])).argmax(1).numpy() == test.labels
        where = {"run": "erm/init", "layer": "features", "env": test.env, "split": test.split}
        found = estimate(record.values, accuracy_of("squared", "closed_form"), at=0.5, **where)
        assert found is not None and found.value == right.mean()
    rows = select(record.values, difference_of("squared"), env="all")
    assert rows["low"].isna().all()  # eight steps are too few
    assert all("raise --steps" in why for why in record.provenance["undefined"].values())


def test_the_command_writes_a_record_with_its_pdf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_features(tmp_path, "text")
    flags = ["--features", str(tmp_path / "text.npy"), "--labels", str(tmp_path / "labels.npy")]
    options = ["--rates", "[0.5]", "--steps", "8", "--repeats", "2", "--losses", "[squared]"]
    output = tmp_path / "curve"
    monkeypatch.setattr("sys.argv", ["x", *flags, *options, "--output", str(output)])
    main()
    assert (output / "rate_curve.pdf").exists()
    assert set(Record.read(output).values["env"]) == {"all"}
    assert "inconclusive" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rates": (1.0,)}, "--rates is"),
        ({"losses": ()}, "--losses is empty"),
        ({"decay": 0.0}, "--decay is 0.0"),
        ({"repeats": 1}, "--repeats is 1"),
        ({"features": ("a.npy",), "tangent": 4}, "they need a network"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        RateCurveConfig(**options)


@pytest.mark.parametrize("norm", ["none", "batchnorm", "standardise"])
def test_adapted_is_what_the_fitted_linear_model_makes_of_its_layers(
    norm: Norm, tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    options = {"envs": ("ink", "rotated"), "cache": str(tmp_path / "cache")}
    config = LinearConfig(
        **options, output=str(tmp_path / "linear"), steps=3, eval_every=1, norm=norm, device="cpu"
    )
    folder = fit_linear(config)
    of = {**options, "checkpoints": (ERM,), "samples": 8}
    (found,) = load(RateCurveConfig(**of, adapted=str(folder)))
    whole, _ = load_features(FeatureOptions(**of, layers=("blocks",)))
    model = LinearModel(torch.zeros(2, 3, 512), 10, norm=norm)
    model.load_state_dict(load_file(folder / "best.safetensors"))
    for ours, theirs in zip(found.parts, whole.parts, strict=True):
        assert set(ours.features) == {"features", "adapted"}
        last = [torch.from_numpy(theirs.features[b]) for b in list(theirs.features)[-3:]]
        expected = model.eval().adapted(torch.stack(last, 1)).detach().numpy()
        np.testing.assert_allclose(ours.features["adapted"], expected, rtol=1e-4, atol=1e-4)


def test_a_folder_without_a_linear_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no linear model"):
        load(RateCurveConfig(checkpoints=(ERM,), adapted=str(tmp_path)))
