"""Tests for analysis/published.py."""

import numpy as np
import pandas as pd
import pytest
import timm
from numpy.testing import assert_allclose

from analysis.published import (
    NAMES,
    beside,
    compare,
    published,
    reference_points,
    weights_of,
)
from analysis.runs import check_runs
from core.errors import InputError
from tests.analysis.study_data import grid

PAPER = "source.str.startswith('arXiv 2403.00946') and selection == 'iid'"


def test_every_point_is_a_fraction_with_source_and_weights() -> None:
    points = published()
    assert points["ood"].between(0.1, 1).all() and set(points["weights"]) == set(NAMES)
    assert points["iid"].dropna().between(0.5, 1).all()
    assert points[["source", "dataset", "env", "method", "seeing"]].notna().to_numpy().all()
    keys = ["source", "weights", "dataset", "env", "method", "drop_rate", "selection", "seeing"]
    assert not points.duplicated(keys).any()


def test_means_are_those_of_their_environments() -> None:
    columns = ["source", "weights", "dataset", "method", "selection"]
    points = published().query("iid.isna() or env == 'mean'")
    single, mean = points.query("env != 'mean'"), points.query("env == 'mean'")
    computed = single.groupby(columns)["ood"].agg(["mean", "size"]).query("size >= 4")
    printed = mean.groupby(columns)["ood"].first()
    both = computed.join(printed, how="inner")
    assert len(both) >= 7
    assert_allclose(both["mean"], both["ood"], atol=0.0011)  # sources average before they round


def test_gains_of_dropout_are_those_that_the_claims_quote() -> None:
    points = published().query(PAPER)
    dropout = points.query("method == 'dropout' and drop_rate == 0.9")
    found = compare(dropout, points.query("method == 'erm'")).set_index("dataset")["difference"]
    quoted = {"VLCS": 0.0127, "OfficeHome": 0.0263, "PACS": 0.0193, "TerraIncognita": 0.0233}
    assert_allclose(found[list(quoted)], list(quoted.values()), atol=1e-9)


def test_v1_and_v2_are_never_compared() -> None:
    points = published().query("method == 'erm' and env == 'mean' and selection == 'iid'")
    v1, v2 = (points.query(f"weights == 'ResNet-50 {version}'") for version in ("V1", "V2"))
    assert len(v1) and len(v2)
    with pytest.raises(InputError, match="ResNet-50 V1 and ResNet-50 V2 are different pretrained"):
        compare(v1, v2)
    with pytest.raises(InputError, match="nothing is published for DomainNet with ResNet-50 V2"):
        reference_points("DomainNet", weights="resnet50.tv2_in1k")
    assert set(reference_points("PACS", weights="ResNet-50 V2")["weights"]) == {"ResNet-50 V2"}
    with pytest.raises(InputError, match="no environment of a data set is in both"):
        compare(v1.query("dataset == 'PACS'"), v1.query("dataset == 'VLCS'"))


def test_timms_names_are_those_weights() -> None:
    for name in ("resnet50.tv_in1k", "resnet50.tv2_in1k"):
        config = timm.models.get_pretrained_cfg(name)
        assert config is not None and weights_of(str(config.url)) == weights_of(name)


@pytest.mark.parametrize("name", ["", "glyphnet.rich", "resnet50.a1_in1k", "resnet18.tv_in1k"])
def test_unknown_weights_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"nothing is published here for the weights '{name}'"):
        weights_of(name)


def study(pretrained: str) -> pd.DataFrame:
    parts = [
        grid(dataset="PACS", cells=("a",), method="erm", ood=0.85, iid=0.97),
        grid(dataset="PACS", cells=("a",), method="dropout", drop_rate=0.9, ood=0.88, iid=0.98),
        grid(dataset="digits", cells=("a",), method="erm", ood=0.5, iid=0.9),
    ]
    return check_runs(pd.concat(parts).assign(pretrained=pretrained))


def test_runs_stand_beside_what_was_published_for_their_weights() -> None:
    found = beside(study("resnet50.tv2_in1k"))
    assert set(found["dataset"]) == {"PACS"} and set(found["weights"]) == {"ResNet-50 V2"}
    dropout = found.query("method == 'dropout'").iloc[0]
    assert_allclose([dropout["ood"], dropout["published_ood"]], [0.88, 0.8841])
    v1 = beside(study("resnet50-0676ba61.pth"))
    assert set(v1["method"]) == {"erm"} and 0.8841 not in np.round(v1["published_ood"], 6)
    with pytest.raises(InputError, match="weights 'glyphnet.rich'; one of"):
        beside(study("glyphnet.rich"))
