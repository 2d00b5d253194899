"""Tests for probes/feature_creation: features that were there before, and such that were not."""

import numpy as np
import pytest

from analysis.creation_verdict import AFTER, BEFORE, CKA, DIFFERENCE, MEDIAN, NULL, R2
from analysis.intervals import Row
from core.errors import InputError
from probes.feature_creation import METRICS, Views, probe_rows, shared_rows
from probes.similarity import linear_cka
from tests.probes.feature_data import labelled_features


def found(rows: list[Row], metric: str, layer: str, env: str = "") -> Row:
    (row,) = [
        r for r in rows if (r["metric"], r["layer"], r.get("env", "")) == (metric, layer, env)
    ]
    return row


def views(num: int, kind: str, split: str = "given", seed: int = 0) -> Views:
    """Fine-tuned features as a linear map of the block, or independent of everything."""
    rng = np.random.default_rng(seed)
    phi, labels = labelled_features(num, 8, seed=seed)
    block = rng.normal(size=(num, 10))
    mixing = np.random.default_rng(9).normal(size=(10, 6))
    after = block @ mixing if kind == "map" else rng.normal(size=(num, 6))
    return Views({"block": block, "features": phi}, {"features": after}, labels, split)


def test_a_linear_map_of_a_pretrained_layer_is_no_new_feature() -> None:
    rows = list(shared_rows(views(80, "map")))
    assert {row["metric"] for row in rows} == {R2, MEDIAN, NULL, CKA}
    r2 = found(rows, R2, "all")
    assert r2["value"] == pytest.approx(1, abs=1e-6)
    assert found(rows, MEDIAN, "all")["value"] == pytest.approx(1, abs=1e-6)
    assert found(rows, R2, "features")["high"] < 0.2  # it is in the block alone
    null = found(rows, NULL, "all")
    assert null["low"] <= null["value"] <= null["high"] < r2["low"]
    assert null["high"] < 0.1


def test_of_independent_features_nothing_is_predicted() -> None:
    rows = list(shared_rows(views(200, "new")))
    null = found(rows, NULL, "all")
    r2 = found(rows, R2, "all")
    assert abs(r2["value"]) < 0.05
    assert r2["low"] < null["high"] and null["low"] < r2["high"]
    cka = found(rows, CKA, "features")
    assert cka["low"] < 0 < cka["high"]


@pytest.mark.parametrize("only_phi", [True, False])
def test_cka_of_a_network_that_did_not_move_is_one(only_phi: bool) -> None:
    phi, labels = labelled_features(60, 8)
    phi = phi * np.geomspace(1e-2, 10, 8)  # of units of different size
    before = {"features": phi} if only_phi else {"block": views(60, "new").phi, "features": phi}
    rows = list(shared_rows(Views(before, {"features": phi}, labels), permutations=2))
    assert found(rows, CKA, "features")["value"] == pytest.approx(1)
    assert (found(rows, CKA, "all")["value"] == pytest.approx(1)) == only_phi


def test_cka_is_of_features_as_they_are_and_of_layers_of_the_same_variance() -> None:
    data = views(60, "map")
    phi, block, after = data.before["features"], data.before["block"], data.phi
    rows = list(shared_rows(data, permutations=2))
    assert found(rows, CKA, "features")["value"] == pytest.approx(linear_cka(phi, after))
    both = np.concatenate([x / x.var(0).sum() ** 0.5 for x in (block, phi)], 1)
    assert found(rows, CKA, "all")["value"] == pytest.approx(linear_cka(both, after))


def test_a_layer_that_never_varies_has_no_part_in_cka() -> None:
    data = views(60, "map")
    more = data._replace(before={"still": np.full((60, 3), 0.1), **data.before})
    first, second = (list(shared_rows(of, permutations=2)) for of in (data, more))
    assert found(first, CKA, "all")["value"] == pytest.approx(found(second, CKA, "all")["value"])


def test_shared_rows_depend_on_the_seed_only() -> None:
    data = views(40, "map")
    first, again = (list(shared_rows(data, permutations=3, seed=1)) for _ in range(2))
    assert first == again
    assert first != list(shared_rows(data, permutations=3, seed=2))


def probed(after_is_label: bool) -> list[Row]:
    def part(num: int, split: str, seed: int) -> Views:
        noise = np.random.default_rng(seed).normal(size=(num, 4))
        labels = np.arange(num) % 3
        known = np.eye(3)[labels] + 0.01 * noise[:, :3]
        before, after = (noise, known) if after_is_label else (known, noise)
        return Views({"b": before, "features": noise}, {"features": after}, labels, split)

    tests = {"x": part(60, "iid", 1), "y": part(60, "iid", 2), "z": part(45, "ood", 3)}
    return list(probe_rows(part(90, "train", 0), tests))


def test_a_probe_finds_what_fine_tuning_created() -> None:
    rows = probed(after_is_label=True)
    assert {row["metric"] for row in rows} == {BEFORE, AFTER, DIFFERENCE}
    assert {(r["env"], r["split"]) for r in rows} == {
        *(("x", "iid"), ("y", "iid"), ("z", "ood"), ("all", "iid"), ("all", "ood"))
    }
    assert found(rows, AFTER, "features", "x")["value"] == 1
    assert found(rows, DIFFERENCE, "all", "x")["high"] < -0.3


def test_a_probe_on_all_layers_finds_what_was_there() -> None:
    rows = probed(after_is_label=False)
    assert found(rows, BEFORE, "all", "z")["value"] == 1
    assert found(rows, BEFORE, "features", "z")["high"] < 0.7
    difference = found(rows, DIFFERENCE, "all", "z")
    before, after = (found(rows, m, "all", "z")["value"] for m in (BEFORE, AFTER))
    assert difference["value"] == pytest.approx(before - after)
    assert difference["low"] > 0.3


def test_every_row_is_declared() -> None:
    rows = [*shared_rows(views(40, "map"), permutations=2), *probed(after_is_label=True)]
    assert {row["metric"] for row in rows} == set(METRICS)


def test_wrong_input_is_refused_in_a_sentence() -> None:
    data = views(40, "map")
    with pytest.raises(InputError, match="the pretrained layers of the images are \\['block'\\]"):
        list(shared_rows(data._replace(before={"block": data.before["block"]})))
    with pytest.raises(InputError, match="the same images were expected in both networks"):
        list(shared_rows(data._replace(labels=data.labels[1:])))
    with pytest.raises(InputError, match="permutations is 1"):
        list(shared_rows(data, permutations=1))
    with pytest.raises(InputError, match="no environments to test on"):
        list(probe_rows(data, {}))
    other = data._replace(before={"features": data.before["features"]})
    with pytest.raises(InputError, match="the same were expected"):
        list(probe_rows(data, {"x": other}))
