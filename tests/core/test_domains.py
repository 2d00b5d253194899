"""Tests for core/domains.py."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from core.digits import CLASSES, ENVIRONMENTS, digit_environments
from core.domains import Environment, holdout, load_domains
from core.errors import InputError
from tests.image_files import write_domains, write_image

PACS = Path(__file__).parents[2] / "../shared/data/pacs_mini/PACS"


def environment(name: str, num: int) -> Environment:
    return Environment(name, np.zeros(num, np.int64), tuple(map(str, range(num))))


def test_environments_hold_what_image_folder_finds(tmp_path: Path) -> None:
    root = write_domains(tmp_path)

    domains = load_domains(str(root))

    assert list(domains.environments) == ["art", "sketch"]
    assert domains.classes == ("cat", "dog")
    assert domains.skipped == ()
    for name, env in domains.environments.items():
        oracle = ImageFolder(str(root / name))
        assert [str(root / i) for i in env.ids] == [path for path, _ in oracle.samples]
        assert env.labels.tolist() == oracle.targets
        assert env.labels.dtype == np.int64
        assert np.array_equal(np.asarray(env.image(4)), np.asarray(oracle[4][0]))
        assert len(env) == 6 and env.array is None


def test_class_folders_alone_are_one_environment(tmp_path: Path) -> None:
    write_domains(tmp_path, envs=("pets",))

    domains = load_domains(str(tmp_path / "pets"))

    assert list(domains.environments) == ["pets"]
    assert domains.environments["pets"].ids[0] == "cat/0.png"


def test_chosen_environments_alone_are_opened_and_checked(tmp_path: Path) -> None:
    write_domains(tmp_path, envs=("art", "sketch", "photo"))
    write_image(tmp_path / "broken" / "horse" / "a.png")

    domains = load_domains(str(tmp_path), envs=["sketch", "art"])

    assert list(domains.environments) == ["art", "sketch"]


@pytest.mark.parametrize("data", ["folder", "digits"])
def test_an_unknown_environment_is_refused_with_the_known_ones(tmp_path: Path, data: str) -> None:
    if data == "folder":
        data = str(write_domains(tmp_path))

    with pytest.raises(InputError, match=r"'moon' is not in .*; its environments are (art|ink), "):
        load_domains(data, envs=["moon"])


def test_a_class_that_one_environment_lacks_is_refused_with_both_names(tmp_path: Path) -> None:
    write_domains(tmp_path)
    write_image(tmp_path / "art" / "horse" / "a.png")

    with pytest.raises(InputError, match="class 'horse' is in environment 'art' but not in 'ske"):
        load_domains(str(tmp_path))


def test_unreadable_images_are_named_and_counted(tmp_path: Path) -> None:
    write_domains(tmp_path, num=8)
    for i in range(7):
        (tmp_path / "art" / "cat" / f"{i}.png").write_bytes(b"nothing")

    with pytest.raises(InputError, match=r"7 of 32 images cannot be read: art/cat/0\.png, .*"):
        load_domains(str(tmp_path))


def test_unreadable_images_are_left_out_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_domains(str(write_domains(tmp_path)))
    (tmp_path / "art" / "cat" / "1.png").write_bytes(b"nothing")

    with caplog.at_level(logging.WARNING):
        domains = load_domains(str(tmp_path), skip_unreadable=True)

    assert domains.skipped == ("art/cat/1.png",)
    assert "1 of 12 images cannot be read: art/cat/1.png; they are skipped" in caplog.text
    assert len(domains.environments["art"]) == 5
    assert domains.environments["art"].labels.tolist() == [0, 0, 1, 1, 1]
    assert "art/cat/1.png" not in domains.environments["art"].ids
    assert domains.fingerprint != before.fingerprint


def test_a_class_of_unreadable_images_only_is_refused_all_the_same(tmp_path: Path) -> None:
    write_domains(tmp_path, num=1)
    (tmp_path / "art" / "dog" / "0.png").write_bytes(b"nothing")

    with pytest.raises(InputError, match="no image of class 'dog' in environment 'art' can be"):
        load_domains(str(tmp_path), skip_unreadable=True)


def test_the_fingerprint_follows_names_and_sizes_but_not_the_place(tmp_path: Path) -> None:
    here, there = (
        load_domains(str(write_domains(tmp_path / place))).fingerprint for place in ("a", "b")
    )
    renamed = tmp_path / "b" / "art" / "cat"
    (renamed / "0.png").rename(renamed / "00.png")
    moved = load_domains(str(tmp_path / "b")).fingerprint
    (renamed / "00.png").rename(renamed / "0.png")
    write_image(renamed / "0.png", mode="L")

    assert here == there
    assert len({here, moved, load_domains(str(tmp_path / "b")).fingerprint}) == 3


def test_digits_are_built_in() -> None:
    domains = load_domains("digits")

    assert tuple(domains.environments) == tuple(sorted(ENVIRONMENTS))
    assert domains.classes == CLASSES
    assert domains.fingerprint == load_domains("digits").fingerprint
    assert domains.fingerprint != load_domains("digits", envs=["ink"]).fingerprint
    for name, (images, labels) in digit_environments().items():
        env = domains.environments[name]
        assert env.ids[1] == f"{name}/0001" and len(set(env.ids)) == len(env)
        assert np.array_equal(env.labels, labels)
        assert np.array_equal(np.asarray(env.image(7)), images[7])


@given(num=st.integers(2, 300), seed=st.integers(0, 2**63), fraction=st.floats(0.01, 0.99))
def test_a_holdout_is_a_partition_of_the_requested_size(
    num: int, seed: int, fraction: float
) -> None:
    inside, out = holdout(environment("ink", num), seed, fraction)

    assert len(out) == max(1, int(fraction * num))
    assert sorted([*inside, *out]) == list(range(num))


def test_a_holdout_depends_on_the_seed_and_the_name_alone() -> None:
    again, other_seed, other_name = (
        holdout(environment(name, 100), seed)[1].tolist()
        for name, seed in (("ink", 0), ("ink", 1), ("photo", 0))
    )

    assert again == holdout(environment("ink", 100), 0)[1].tolist()
    assert len({tuple(again), tuple(other_seed), tuple(other_name)}) == 3


def test_a_holdout_stays_the_same_from_release_to_release() -> None:
    assert holdout(environment("ink", 20), seed=0)[1].tolist() == [19, 18, 0, 17]


def test_every_image_is_held_out_equally_often() -> None:
    num, trials = 10, 2000
    counts = Counter(i for s in range(trials) for i in holdout(environment("ink", num), s)[1])

    expected, spread = 0.2 * trials, (0.2 * 0.8 * trials) ** 0.5
    assert all(abs(counts[i] - expected) < 4 * spread for i in range(num))


@pytest.mark.parametrize(("num", "fraction"), [(1, 0.2), (0, 0.2), (9, 0.0), (9, 1.0)])
def test_an_impossible_holdout_is_refused(num: int, fraction: float) -> None:
    with pytest.raises(InputError, match=r"at least two|between 0 and 1"):
        holdout(environment("ink", num), 0, fraction)


@pytest.mark.skipif(not PACS.is_dir(), reason="the real images are not beside this checkout")
def test_real_domains_are_read() -> None:
    domains = load_domains(str(PACS), envs=["sketch"])

    assert len(domains.classes) == 7
    assert Counter(domains.environments["sketch"].labels.tolist())[5] == 80  # sketch/house
