"""Tests for probes/transfer/layer_probes.py: what the last layer lost, and layers of any size."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal

from core.errors import InputError
from probes.transfer import dinov2_probe, gain_over, layer_probes
from probes.transfer.layer_probes import concatenated


def layers(n: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two layers that each tell two of three classes apart, and noise in both."""
    rng = default_rng(seed)
    y = np.arange(n) % 3
    early = rng.normal(size=(n, 20)) + 4 * np.outer(y == 0, np.eye(20)[0])
    last = rng.normal(size=(n, 4)) + 4 * np.outer(y == 1, np.eye(4)[0])
    return {"early": early, "last": last}, y


def test_all_layers_know_what_single_ones_lost() -> None:
    probes = layer_probes(*layers(240, 0), *layers(240, 1))
    assert list(probes) == ["early", "last", "all"]
    assert probes["all"].row()["low"] > probes["last"].row()["high"]
    assert gain_over(probes, "last")["low"] > 0.1


def test_a_layer_given_twice_gains_nothing() -> None:
    (train, y), (test, truth) = layers(240, 0), layers(240, 1)
    twice = [{"a": side["last"], "b": side["last"]} for side in (train, test)]
    probes = layer_probes(twice[0], y, twice[1], truth)
    row = gain_over(probes, "b")
    assert row["low"] <= 0 <= row["high"]
    assert_array_equal(probes["a"].right, probes["b"].right)


def test_a_single_layer_is_an_ordinary_probe() -> None:
    (train, y), (test, truth) = layers(150, 0), layers(90, 1)
    probe = layer_probes(train, y, test, truth, seed=2)["last"]
    expected = dinov2_probe(train["last"], y, blocks=[4], seed=2).probe
    assert_array_equal(probe.right, expected.predict(test["last"]) == truth)


def test_units_and_sizes_of_layers_do_not_matter() -> None:
    (train, y), (test, truth) = layers(150, 0), layers(90, 1)
    loud = [{**side, "early": 1e3 * side["early"] + 7} for side in (train, test)]
    probes = layer_probes(train, y, test, truth)
    louder = layer_probes(loud[0], y, loud[1], truth)
    assert_array_equal(louder["all"].right, probes["all"].right)
    standardised = np.concatenate([train["early"], train["last"]], 1) - probes["all"].probe.mean
    variance = (standardised / probes["all"].probe.scale).var(0)
    assert_allclose([variance[:20].sum(), variance[20:].sum()], 1)


def test_layers_that_do_not_fit() -> None:
    (train, y), (test, truth) = layers(60, 0), layers(60, 1)
    with pytest.raises(InputError, match="the same layers in the same order"):
        layer_probes(train, y, {"early": test["early"]}, truth)
    with pytest.raises(InputError, match="different numbers of examples"):
        concatenated({**train, "last": train["last"][:50]}, ["early", "last"])
    with pytest.raises(InputError, match="labels have shape"):
        layer_probes({**train, "last": train["last"][:50]}, y, test, truth)
