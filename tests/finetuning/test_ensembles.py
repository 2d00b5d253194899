"""Tests for finetuning/ensembles.py."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torch.testing import assert_close

from analysis.intervals import proportion_interval
from finetuning.averaging import average
from finetuning.ensembles import (
    concatenation,
    mean_logits,
    mean_probabilities,
    shared_head,
    size_interval,
    subsets,
)


def test_means_of_logits_and_of_probabilities() -> None:
    logits = torch.randn(4, 6, 3)

    assert_close(mean_logits(logits), sum(logits) / 4)
    probabilities = softmax(logits.numpy(), axis=-1).mean(0)
    assert_close(mean_probabilities(logits), torch.from_numpy(probabilities))


def test_one_that_is_sure_outvotes_the_others_in_logits_but_not_in_probabilities() -> None:
    logits = torch.tensor([[[9.0, 0.0]], [[0.0, 3.0]], [[0.0, 3.0]]])

    assert mean_logits(logits).argmax() == 0
    assert mean_probabilities(logits).argmax() == 1


def test_linear_networks_with_common_features_answer_alike_in_all_ways() -> None:
    features = torch.randn(1, 7, 5).expand(4, 7, 5)
    weights, biases = torch.randn(4, 3, 5), torch.randn(4, 3)
    logits = torch.einsum("mnd,mcd->mnc", features, weights) + biases[:, None]

    assert_close(shared_head(features, weights, biases), mean_logits(logits))
    states = [{"w": w, "b": b} for w, b in zip(weights, biases, strict=True)]
    mean = average(states)
    assert_close(features[0] @ mean["w"].T + mean["b"], mean_logits(logits))


def test_with_a_common_classifier_mean_features_are_mean_logits() -> None:
    features, weight, bias = torch.randn(4, 7, 5), torch.randn(3, 5), torch.randn(3)
    logits = features @ weight.T + bias

    found = shared_head(features, weight.expand(4, 3, 5), bias.expand(4, 3))
    assert_close(found, mean_logits(logits))


def test_concatenation_is_a_logistic_regression_of_all_features() -> None:
    features = torch.randn(2, 300, 2)
    labels = (features[0, :, 0] + features[1, :, 1] > 0).long()  # half of it in each member
    head = concatenation(features, labels)

    assert (head.predict(features) == labels.numpy()).mean() > 0.97
    wide = torch.cat(list(features), 1).numpy()
    standard = (wide - wide.mean(0)) / wide.std(0)
    oracle = LogisticRegression(max_iter=2_000).fit(standard, labels.numpy())
    assert np.array_equal(head.predict(features), oracle.predict(standard))
    alone = concatenation(features[:1], labels)
    assert (alone.predict(features[:1]) == labels.numpy()).mean() < 0.9


@pytest.mark.parametrize(("num", "size", "most"), [(5, 2, 10), (5, 2, 9), (12, 6, 20), (4, 4, 7)])
def test_subsets_are_different_and_as_many_as_there_are(num: int, size: int, most: int) -> None:
    found = subsets(num, size, most=most, seed=3)

    assert len(set(found)) == len(found) == min(most, math.comb(num, size))
    for chosen in found:
        assert list(chosen) == sorted(set(chosen)) and len(chosen) == size
        assert set(chosen) <= set(range(num))
    assert found == subsets(num, size, most=most, seed=3)


def test_random_subsets_hold_every_member_as_often() -> None:
    drawn = [subsets(10, 5, most=1, seed=seed)[0] for seed in range(2_000)]
    counts = np.bincount(np.concatenate(drawn), minlength=10)

    assert (abs(counts - 1_000) <= 5 * (2_000 * 0.25) ** 0.5).all()


def test_the_interval_of_a_size_is_wider_the_more_its_ensembles_differ() -> None:
    generator = np.random.default_rng(0)
    alike = np.repeat(generator.random((1, 400)) < 0.7, 20, axis=0)
    differing = generator.random((20, 1)) < 0.7
    rows = [size_interval(c) for c in (alike, np.repeat(differing, 400, axis=1))]

    assert rows[0]["value"] == pytest.approx(alike.mean())
    assert rows[0]["num_examples"] == 400
    # The first varies with its examples alone, the second with its ensembles alone.
    spread = (alike.mean() * (1 - alike.mean()) / 400) ** 0.5
    assert rows[0]["stderr"] == pytest.approx(spread, rel=0.15)  # 1,000 resamples
    spread = (differing.mean() * (1 - differing.mean()) / 20) ** 0.5
    assert rows[1]["stderr"] == pytest.approx(spread, rel=0.15)


def test_a_single_ensemble_has_the_interval_of_a_proportion() -> None:
    row = size_interval(np.ones((1, 30), bool))

    assert row == proportion_interval(np.ones(30)) and row["low"] < 1
