"""Tests for analysis/dropout_ridge_verdict.py: the word of differences over all rates."""

import math
from collections.abc import Sequence

import pytest
from scipy.stats import norm
from scipy.stats import t as student

from analysis.dropout_ridge_verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    corrected_interval,
    difference_of,
    dropout_ridge_verdicts,
    dropout_ridge_word,
    excess_of,
    tost_interval,
)
from analysis.estimates import Estimate
from core.errors import InputError
from core.records import Record, tidy

SURE = Estimate(0.0, -0.001, 0.001)
REPEATS = 3


def word(differences: Sequence[Estimate], margin: float = 0.005) -> str:
    """As of a single rate each, which needs no correction."""
    return dropout_ridge_word(differences, differences, margin)


def stderr_of(found: Estimate) -> float:
    """Of an interval without spread over repeats."""
    return (found.high - found.low) / 2 / float(norm.ppf(0.975))


def record(differences: Sequence[Estimate], layers: Sequence[str] = ("features",)) -> Record:
    rows = []
    for layer in layers:
        of = {"run": "erm/init", "layer": layer, "env": "all"}
        for at, found in enumerate(differences):
            rate = {"at": at / 10, **of}
            judged = {"metric": difference_of("squared")}
            excess = {"metric": excess_of("squared"), "value": at / 100, "split": "train"}
            rows += [rate | excess]
            rows += [
                rate | judged | {"split": split, "stderr": stderr_of(found), **vars(found)}
                for split in ("iid", "ood")
            ]
    return Record(probe="rate_curve", config={"repeats": REPEATS}, values=tidy(rows), metrics={})


def test_all_rates_have_to_be_equivalent() -> None:
    assert word([SURE, SURE]) == SUPPORTED
    assert word([SURE, Estimate(0.004, 0.0005, 0.0075)]) == INCONCLUSIVE
    assert word([SURE, Estimate(0.01, 0.006, 0.02)]) == CONTRADICTED
    assert word([SURE, Estimate(-0.01, -0.02, -0.006)]) == CONTRADICTED


def test_a_rate_that_has_not_converged_is_never_support() -> None:
    assert word([SURE, Estimate(0.0)]) == INCONCLUSIVE
    assert word([Estimate(0.5)]) == INCONCLUSIVE
    assert word([Estimate(0.0), Estimate(0.02, 0.01, 0.03)]) == CONTRADICTED


def test_a_wider_margin_supports_more() -> None:
    wide = [Estimate(0.004, 0.0005, 0.0075)]
    assert word(wide, 0.02) == SUPPORTED
    assert word(wide, 0.0001) == CONTRADICTED


def test_the_interval_of_the_test_is_the_normal_one_at_ninety_per_cent() -> None:
    found = tost_interval(Estimate(1.0, 1 - norm.ppf(0.975), 1 + norm.ppf(0.975)))
    assert found.low == pytest.approx(1 - norm.ppf(0.95))
    assert found.high == pytest.approx(1 + norm.ppf(0.95))


@pytest.mark.parametrize(("of_examples", "of_repeats"), [(0.01, 0.0), (0.01, 0.004), (0.0, 0.004)])
def test_the_corrected_interval_has_both_quantiles_of_its_level(
    of_examples: float, of_repeats: float
) -> None:
    def half(level: float) -> float:
        z, t = norm.ppf((1 + level) / 2), student.ppf((1 + level) / 2, REPEATS - 1)
        return math.hypot(z * of_examples, t * of_repeats)

    given = Estimate(0.1, 0.1 - half(0.95), 0.1 + half(0.95))
    found = corrected_interval(given, math.hypot(of_examples, of_repeats), 10, REPEATS)
    assert (found.low, found.high) == pytest.approx((0.1 - half(0.995), 0.1 + half(0.995)))


def test_one_rate_needs_no_correction_and_no_interval_gets_none() -> None:
    found = corrected_interval(SURE, stderr_of(SURE), 1, REPEATS)
    assert (found.low, found.high) == pytest.approx((SURE.low, SURE.high))
    assert not corrected_interval(Estimate(0.5), 0.1, 5, REPEATS).has_interval


def test_a_rate_contradicts_only_at_the_level_of_all_rates() -> None:
    """Outside at 95 %, which one rate in twenty is by chance, and not at 99 %."""
    near = Estimate(0.015, 0.006, 0.024)
    alone, among = (dropout_ridge_verdicts(record([near, *[SURE] * n])) for n in (0, 4))
    assert {v.word for v in alone} == {CONTRADICTED}
    assert {v.word for v in among} == {INCONCLUSIVE}
    assert "wholly outside" not in among[0].sentence


def test_one_verdict_per_layer_loss_and_split() -> None:
    differences = [SURE, Estimate(0.02, 0.01, 0.03), Estimate(-0.04)]
    found = dropout_ridge_verdicts(record(differences, ["features", "tangent"]))
    assert [(v.run, v.split) for v in found] == [
        (f"erm/init, {layer}, squared", split)
        for layer in ("features", "tangent")
        for split in ("iid", "ood")
    ]
    assert {v.word for v in found} == {CONTRADICTED}
    assert {v.value for v in found} == {-0.04}  # furthest from 0
    assert all(math.isnan(v.low) for v in found)
    for part in (
        "furthest from 0 at rate 0.2",
        "equivalent within 0.0050 at 1 of 3 rates",
        "wholly outside, corrected for 3 rates, at 0.1",
        "not converged at 0.2",
        "0.000 to 0.020 of that without features",
    ):
        assert part in found[0].sentence


def test_a_margin_that_nothing_fits_into_is_refused() -> None:
    with pytest.raises(InputError, match="the margin is 0; a positive accuracy"):
        dropout_ridge_verdicts(record([SURE]), margin=0)
