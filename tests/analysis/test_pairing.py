"""Tests for analysis/pairing.py."""

import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.pairing import against_one, paired, second_differences
from analysis.runs import check_runs
from core.errors import InputError
from tests.analysis.study_data import grid


def two_methods(**of_second: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a first method, 0.6 everywhere, and of a second, 0.5."""
    small = {"envs": ("ink", "photo"), "cells": ("a",)}
    first = grid(**small, ood=0.6, iid=0.9, method="dropout", drop_rate=0.9)
    second = grid(**small, ood=0.5, iid=0.9, **of_second)
    runs = check_runs(pd.concat([first, second]))
    return runs.query("method == 'dropout'"), runs.query("method == 'erm'")


def test_differences_are_taken_at_equal_keys_whatever_the_order() -> None:
    a, b = two_methods()
    b = b.assign(ood=[0.1, 0.2, 0.3, 0.4]).iloc[::-1]
    pairs = paired(a, b)
    assert_allclose(pairs.frame["difference"], [0.5, 0.4, 0.3, 0.2])
    assert pairs.rows == list(range(8)) and str(pairs) == "4 pairs"


def test_runs_without_a_partner_are_counted() -> None:
    a, b = two_methods()
    pairs = paired(a.iloc[:3], b.iloc[1:])
    assert (len(pairs.frame), pairs.unmatched_a, pairs.unmatched_b) == (2, 1, 1)
    assert str(pairs) == "2 pairs, 2 runs without a partner" and pairs.rows == [1, 2, 5, 6]


def test_rows_without_the_measure_are_left_out() -> None:
    a, b = two_methods()
    a = a.assign(nc1=[0.1, float("nan"), 0.3, 0.4])
    assert_allclose(paired(a, b.assign(nc1=0.0), "nc1").frame["difference"], [0.1, 0.3, 0.4])


@pytest.mark.parametrize(
    "setting", [{"steps": 100}, {"pretrained": "V1"}, {"head_lr_factor": 10.0}, {"split": 1}]
)
def test_other_settings_make_no_pair(setting: dict[str, object]) -> None:
    a, b = two_methods(**setting)
    with pytest.raises(InputError, match="no run of dropout .* has a partner of plain .*run both"):
        paired(a, b, names=("dropout", "plain"))


def test_a_run_with_two_partners_is_refused() -> None:
    a, b = two_methods()
    with pytest.raises(
        InputError, match="b has several runs with .*'env': 'ink'.*tell them apart"
    ):
        paired(a, pd.concat([b, b]))


def test_every_run_stands_against_the_one_model_of_its_environment() -> None:
    a, b = two_methods()
    ensemble = b.iloc[[0, 2]].assign(ood=[0.5, 0.7], cell="all", seed=-1)
    pairs = against_one(a, ensemble)
    assert_allclose(pairs.frame["difference"], [0.1, 0.1, -0.1, -0.1])
    assert pairs.rows == [0, 1, 2, 3, 4, 6]
    with pytest.raises(InputError, match="no environment has both the 4 runs and the model"):
        against_one(a, ensemble.assign(env="elsewhere"))


def test_second_differences_are_differences_of_differences() -> None:
    a, b = two_methods()
    first = paired(a, b)
    second = paired(a.assign(ood=0.9), b.assign(ood=[0.1, 0.2, 0.3, 0.4])).frame
    contrast = second_differences(
        paired(a.assign(ood=0.9), b.assign(ood=[0.1, 0.2, 0.3, 0.4])), first
    )
    assert_allclose(contrast.frame["difference"], second["difference"] - 0.1)
