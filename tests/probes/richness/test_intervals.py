"""Jackknife intervals: equal to plain deletion, and as wide as the spread of new samples."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose

from analysis.jackknife import jackknife, jackknife_groups
from probes.richness import Classifier, all_measures, measures_with_intervals, uniformity
from tests.probes.richness.features import classes


@pytest.mark.parametrize("dim", [9, 80])
def test_it_is_the_jackknife_of_all_measures(dim: int) -> None:
    z, y = classes(dim=dim)
    classifier = Classifier(default_rng(0).normal(size=(4, dim)))
    rows, reasons = measures_with_intervals(z, y, classifier, num_groups=5)
    groups = jackknife_groups(y, seed=0, num_groups=5)
    plain = jackknife(lambda kept: all_measures(z[kept], y[kept], classifier).values, groups)
    assert set(rows) == set(plain) and "alpha_req" in reasons
    for name, row in plain.items():
        assert set(rows[name]) == set(row), name
        assert_allclose(
            list(rows[name].values()), list(row.values()), rtol=1e-8, atol=1e-8, err_msg=name
        )


def test_uniformity_keeps_its_subsample() -> None:
    """A new subsample for each group would widen the interval by the root of their number."""
    z = default_rng(0).normal(size=(3000, 4))
    rows, _ = measures_with_intervals(z, families=["decorrelation"])
    found = [uniformity(default_rng(s).normal(size=(1024, 4)), seed=0).value for s in range(1, 31)]
    assert rows["uniformity"]["num_examples"] == 1024
    assert_allclose(rows["uniformity"]["value"], uniformity(z).value)
    # Standard errors from 20 groups and 30 samples, each known to about a sixth.
    assert 0.5 < rows["uniformity"]["stderr"] / np.std(found, ddof=1) < 2


def test_standard_errors_are_the_spread_of_new_samples() -> None:
    names = ("participation_ratio_centred", "stable_rank_centred", "nc1", "hoyer", "correlation")
    samples = [classes(3, 60, 6, seed=0)]
    z, y = samples[0]
    means = np.stack([z[y == k].mean(0) for k in range(3)])
    generator = default_rng(1)
    found = [all_measures(means[y] + generator.normal(size=z.shape), y).values for _ in range(60)]
    errors = {name: [] for name in names}
    for _ in range(6):
        rows, _ = measures_with_intervals(means[y] + generator.normal(size=z.shape), y)
        for name in names:
            errors[name].append(rows[name]["stderr"])
    for name in names:
        ratio = np.sqrt(np.mean(np.square(errors[name]))) / np.std([v[name] for v in found])
        # Each side is known to about a tenth. The magnitude of a correlation near zero varies
        # less than the correlation does, by sqrt(1 - 2/pi) at zero, which no jackknife sees.
        widest = 1.6 / (1 - 2 / np.pi) ** 0.5 if name == "correlation" else 1.6
        assert 0.6 < ratio < widest, name
