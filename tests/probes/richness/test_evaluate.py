"""All measures at once are the single ones; what is undefined says why."""

import math

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from core.errors import InputError
from probes.richness import (
    METRICS,
    Classifier,
    ClassStructure,
    Moments,
    all_measures,
    alpha_req,
    correlation,
    effective_rank,
    nc1,
    nc4_agreement,
    participation_ratio,
    rankme,
    sparsity,
    stable_rank,
    uniformity,
)
from probes.richness import spectrum as spectrum_module
from tests.probes.richness.features import classes, power_law

CALLED_ALONE = {"lidar", "alignment"}  # of several views


def test_every_metric_is_measured_and_every_measure_declared() -> None:
    z, y = classes()
    found = all_measures(z, y, Classifier(default_rng(0).normal(size=(4, 9))))
    assert set(found.values) == set(METRICS) - CALLED_ALONE


def test_values_are_those_of_the_single_functions_and_within_bounds() -> None:
    z = power_law(600).clip(min=0)
    y = np.arange(600) % 5
    classifier = Classifier(default_rng(0).normal(size=(5, 512)), default_rng(1).normal(size=5))
    found, structure = all_measures(z, y, classifier), ClassStructure.of(z, y)
    assert not found.reasons
    expected = {
        "effective_rank": effective_rank(z, centred=False),
        "effective_rank_centred": effective_rank(z),
        "effective_rank_eigen": effective_rank(z, "eigen", centred=False),
        "effective_rank_eigen_centred": effective_rank(z, "eigen"),
        "rankme": rankme(z),
        "participation_ratio_unbiased": participation_ratio(z, unbiased=True),
        "stable_rank": stable_rank(z, centred=False),
        "alpha_req": alpha_req(z).alpha,
        "nc1": nc1(structure),
        "nc4_agreement": nc4_agreement(structure, classifier),
        "gini": sparsity(z).gini,
        "correlation": correlation(z).value,
        "uniformity": uniformity(z).value,
        "mean_share": 600 * (z.mean(0) ** 2).sum() / (z**2).sum(),
    }
    assert {name: found.values[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    for name, value in found.values.items():
        low, high = METRICS[name].low, METRICS[name].high
        assert (low is None or value >= low) and (high is None or value <= high), name


def test_the_spectrum_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = spectrum_module._spectrum
    monkeypatch.setattr(
        spectrum_module, "_spectrum", lambda *args: calls.append(1) or original(*args)
    )
    z, y = classes()
    all_measures(z, y)
    assert len(calls) == 2  # centred and uncentred


def test_an_undefined_measure_is_nan_with_a_reason_and_leaves_the_others() -> None:
    z, y = classes()
    found = all_measures(z, y)
    assert math.isnan(found.values["alpha_req"]) and math.isnan(found.values["alpha_req_r2"])
    assert set(found.reasons) == {"alpha_req", "alpha_req_r2"}
    assert "only 9 eigenvalues" in found.reasons["alpha_req"]
    z[0] = 0
    reasons = all_measures(z, y).reasons
    assert "no direction" in reasons["uniformity"] and "no direction" in reasons["normalised_std"]
    assert "nc1" not in reasons and "correlation" not in reasons


def test_every_nan_has_a_reason() -> None:
    z = np.repeat([[1.0, 1], [1, 1], [2, 1]], 2, axis=0)
    found = all_measures(z, np.array([0, 1, 1, 0, 2, 2]))
    undefined = {name for name, value in found.values.items() if not math.isfinite(value)}
    assert undefined == set(found.reasons) and {"nc1", "cdnv", "correlation"} <= undefined


def test_what_is_not_asked_for_is_left_out() -> None:
    z, y = classes()
    assert "nc1" not in all_measures(z).values
    assert set(all_measures(z, y, families=["class"]).values) == {
        "nc1",
        "trace_ratio",
        "cdnv",
        "nc2_norm_variation",
        "nc2_etf_error",
    }


def test_moments_tensors_and_arrays_give_the_same() -> None:
    z, y = classes()
    expected = all_measures(z, y)
    for source in (torch.from_numpy(z), Moments.of(z)):
        found = all_measures(source, torch.from_numpy(y))
        assert found.values == pytest.approx(expected.values, nan_ok=True, rel=0, abs=0)


def test_one_class_leaves_what_needs_no_classes() -> None:
    z, y = classes()
    found = all_measures(z, np.zeros_like(y))
    assert np.isnan(found.values["nc1"]) and "one class" in found.reasons["nc1"]
    assert found.values["rankme"] == all_measures(z, y).values["rankme"]


def test_where_nothing_can_be_said_it_is_refused() -> None:
    z, y = classes()
    with pytest.raises(InputError, match="all 3 examples are the same"):
        all_measures(np.full((3, 2), 0.1))
    with pytest.raises(InputError, match="1 examples"):
        all_measures(z[:1])
    with pytest.raises(InputError, match="without labels"):
        all_measures(z, classifier=Classifier(np.ones((4, 9))))
    z[3, 4] = np.nan
    with pytest.raises(InputError, match="NaN"):
        all_measures(z, y)
