"""Tests for probes/feature_groups.py and probes/subjects.py."""

import numpy as np

from probes.feature_groups import Where, at_equal_sizes, groups_of, halves, paired, whole
from probes.feature_sets import FeatureSet
from probes.subjects import pairs_of, subjects_of
from tests.probes.feature_data import feature_set, part


def two_environments(run: str, num: int = 12) -> FeatureSet:
    parts = [part("a", "iid", num, seed=1), part("b", "iid", num, seed=2)]
    return feature_set(run, *parts, part("c", "ood", num, seed=3))


def test_a_split_with_several_environments_has_them_all_together_too() -> None:
    groups = groups_of(two_environments("erm"))
    assert list(groups) == [("iid", "a"), ("iid", "b"), ("iid", "all"), ("ood", "c")]
    together = groups[Where("iid", "all")]
    assert len(together) == 24
    assert together.envs.tolist() == ["a"] * 12 + ["b"] * 12
    np.testing.assert_array_equal(
        together.features["block"][12:], groups[Where("iid", "b")].features["block"]
    )
    assert whole(groups, "iid") == (Where("iid", "all"), together)
    assert whole(groups, "train") is None


def test_all_checkpoints_give_as_many_examples_and_every_class_its_share() -> None:
    large, small = groups_of(two_environments("erm", 30)), groups_of(two_environments("vld", 12))
    first, second = at_equal_sizes([large, small], seed=0)
    for where in first:
        assert len(first[where]) == len(second[where]) == len(small[where])
        assert set(np.bincount(first[where].labels)) == {len(small[where]) // 3}
    assert second[Where("ood", "c")] is small[Where("ood", "c")]


def test_pairs_are_of_the_same_examples_in_the_same_order() -> None:
    group = groups_of(two_environments("erm"))[Where("ood", "c")]
    kept = np.array([5, 2, 8])
    a, b = paired(group.take(kept), group.take(np.array([8, 1, 5])))
    assert a.names.tolist() == b.names.tolist() == ["c/5", "c/8"]
    np.testing.assert_array_equal(a.features["block"], group.features["block"][[5, 8]])


def test_halves_share_no_example_and_all_classes() -> None:
    group = groups_of(two_environments("erm"))[Where("ood", "c")]
    first, second = halves(group, seed=0)
    assert sorted([*first.names, *second.names]) == sorted(group.names)
    assert np.bincount(first.labels).tolist() == np.bincount(second.labels).tolist() == [2, 2, 2]


def test_probes_train_on_what_was_trained_on_or_else_on_a_half() -> None:
    trained = feature_set("erm", part("a", "train", 12), part("a", "iid", 6), part("c", "ood", 9))
    unknown = feature_set("file", part("all", "given", 12))
    first, second = subjects_of([trained, unknown], seed=0)
    tasks = {task.where.split: task for task in first.tasks(seed=0)}
    assert list(tasks) == ["iid", "ood"]
    assert [len(tasks["ood"].train), len(tasks["ood"].test)] == [12, 9]
    (task,) = second.tasks(seed=0)
    assert [len(task.train), len(task.test)] == [6, 6]


def test_images_that_were_trained_on_may_stay_whole() -> None:
    sizes = {"long": (30, 24), "short": (12, 9)}
    sets = [
        feature_set(run, part("a", "train", train), part("b", "ood", test))
        for run, (train, test) in sizes.items()
    ]
    found = [
        [len(g) for s in subjects_of(sets, seed=0, whole_training=w) for g in s.groups.values()]
        for w in (False, True)
    ]
    assert found == [[12, 9, 12, 9], [30, 9, 12, 9]]


def test_checkpoints_are_compared_where_they_share_examples() -> None:
    sets = [
        two_environments("erm"),
        two_environments("vld"),
        feature_set("x", part("z", "ood", 9)),
    ]
    pairs = [(a.run, b.run) for a, b in pairs_of(subjects_of(sets, seed=0))]
    assert pairs == [("erm", "vld")]
