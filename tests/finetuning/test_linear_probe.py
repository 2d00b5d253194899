"""Tests for finetuning/linear_probe.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from core.errors import InputError
from finetuning.linear_probe import probe
from finetuning.run_folder import read_metrics
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, tiny_config, weights


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_probe_says_what_a_logistic_regression_of_scaled_features_says(
    num_classes: int,
) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(200) % num_classes
    features = generator.normal(3, 2, (200, 6)) * np.arange(1, 7)
    features[:, :num_classes] += 2 * np.eye(num_classes)[labels]
    features[:, 5] = 7.0  # a feature that does not vary

    weight, bias = probe(features, labels)

    logits = features @ weight.T + bias
    centred = features - features.mean(0)
    scaled = centred / (centred**2).mean() ** 0.5
    expected = LogisticRegression(max_iter=2_000).fit(scaled, labels).predict_proba(scaled)
    found = torch.from_numpy(logits).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_runs_of_one_split_share_their_start_whatever_the_seed(tmp_path: Path, data: Path) -> None:
    options = {"head_start": "linear_probe", "split_seed": 0, "steps": 2, "freeze_bn": True}
    # The network from scratch is drawn with the seed; a pretrained one is not.
    first = train(tiny_config(data, tmp_path / "scratch", **options))
    options["pretrained"] = str(first / "final.safetensors")
    runs = [train(tiny_config(data, tmp_path / f"{s}", seed=s, **options)) for s in (1, 2)]

    begun = [weights(run, "init") for run in runs]
    assert all(torch.equal(begun[1][name], tensor) for name, tensor in begun[0].items())
    ended = [weights(run)["fc.weight"] for run in runs]
    assert not torch.equal(*ended)
    # The images are dark or bright, so that a probe knows them before the first step.
    assert read_metrics(runs[0] / "metrics.jsonl")[0]["iid_accuracy"] == 1.0
    again = train(tiny_config(data, tmp_path / "again", seed=1, **options))
    assert_same_runs(runs[0], again)


def test_a_class_without_training_images_is_refused(tmp_path: Path, data: Path) -> None:
    options = {"train_fraction": 0.1, "envs": ("art", "photo"), "head_start": "linear_probe"}
    with pytest.raises(InputError, match="show 1 of 2 classes; a linear probe needs all"):
        train(tiny_config(data, tmp_path / "run", **options))
