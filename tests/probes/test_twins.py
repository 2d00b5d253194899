"""Tests for probes/twins.py: twins found, named, refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import InputError
from probes.sources import Source
from probes.twins import NONE, Twins, find_twins

RUN = {
    "model": "glyphnet",
    "model_kwargs": None,
    "pretrained": "glyphnet.rich",
    "data": "digits",
    "envs": [],
    "test_env": ["rotated"],
    "image_size": None,
    "transform": "digits",
    "skip_unreadable": False,
    "train_fraction": 1.0,
    "drop_rate": 0.9,
    "seed": 0,
    "split_seed": 0,
    "steps": 60,
    "optimizer": "sgd",
    "lr": 0.01,
    "tangent": False,
    "workers": 0,
    "device": "cpu",
}
TANGENT = RUN | {"tangent": True}
LINEAR = {
    **{name: value for name, value in RUN.items() if name not in {"tangent", "optimizer"}},
    "linear_blocks": 3,
    "lr": [0.1],
    "steps": 7,
}
FILES = {
    "run": ("init.safetensors", "best.safetensors", "final.safetensors", "run.json"),
    "linear": ("best.safetensors", "final.safetensors", "run.json", "predictions.safetensors"),
}


def folder(path: Path, options: dict[str, Any], *, without: str = "") -> Path:
    """A folder with the options and the names of the files of a finished command."""
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(options | {"output": str(path)}))
    for name in FILES["linear" if "linear_blocks" in options else "run"]:
        if name != without:
            (path / name).write_text("{}" if name == "run.json" else "")
    return path


def found(run: Path, *named: Path | str, weights: str = "final") -> Twins:
    sources = [Source.find(str(run), weights)]
    return find_twins(sources, [str(name) for name in named], weights)[0]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return folder(tmp_path / "run", RUN)


def test_siblings_with_the_same_options_are_twins(run: Path) -> None:
    assert not found(run)
    tangent = folder(run.parent / "a", TANGENT | {"workers": 4, "device": "cuda"})
    linear = folder(run.parent / "b", LINEAR)
    for name, options in {
        "other seed": TANGENT | {"seed": 1},
        "other rate": LINEAR | {"drop_rate": 0.0},
        "further option": TANGENT | {"new": 1},
        "ordinary": RUN,
    }.items():
        folder(run.parent / name, options)
    assert found(run) == Twins(tangent, linear)
    assert found(run, *NONE) == Twins()


def test_options_of_later_versions_have_their_old_meaning(tmp_path: Path) -> None:
    missing = {"tangent", "train_fraction"}
    old = folder(tmp_path / "old", {n: v for n, v in RUN.items() if n not in missing})
    twin = folder(tmp_path / "twin", TANGENT)
    assert found(old) == Twins(tangent=twin)
    folder(tmp_path / "half", TANGENT | {"train_fraction": 0.5})
    assert found(old) == Twins(tangent=twin)


def test_neither_tangent_runs_nor_files_have_twins(run: Path) -> None:
    twin = folder(run.parent / "twin", TANGENT)
    file = run / "final.safetensors"
    assert not found(twin)
    assert not found(file)
    sources = [Source.find(str(path), "final") for path in (twin, run, file)]
    twins = find_twins(sources, [str(twin)], "final")
    assert twins == [Twins(), Twins(tangent=twin), Twins()]


def test_named_folders_may_lie_anywhere_and_serve_several_runs(run: Path) -> None:
    (run.parent / "elsewhere").mkdir()
    twin = folder(run.parent / "elsewhere" / "t", TANGENT)
    again = folder(run.parent / "again", RUN | {"average": [1]})
    folder(run.parent / "sibling", LINEAR)  # not named
    sources = [Source.find(str(path), "final") for path in (run, again)]
    assert find_twins(sources, [str(twin)], "final") == [Twins(twin), Twins(twin)]


@pytest.mark.parametrize("options", [TANGENT, LINEAR])
def test_paths_in_another_spelling_are_told_by_what_they_hold(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    first = {"data": str(tmp_path / "images"), "pretrained": "w.safetensors"}
    other = {"data": f"{tmp_path}/link/", "pretrained": "/weights/w.safetensors"}
    run = folder(tmp_path / "run", RUN | first)
    twin = folder(tmp_path / "twin", options | other)
    assert not found(run)  # of whose weights nothing is known
    facts(run, pretrained_sha256="abc")
    facts(twin, pretrained_sha256="abc")
    assert found(run) == found(run, twin)
    assert twin in vars(found(run)).values()
    for sha in ("def", None):
        facts(twin, pretrained_sha256=sha)
        assert not found(run)
    with pytest.raises(InputError, match="pretrained is /weights/w.safetensors, the run's w.saf"):
        found(run, twin)
    elsewhere = folder(tmp_path / "elsewhere", options | first | {"data": str(tmp_path)})
    with pytest.raises(InputError, match="data is .*, the run's .*images"):
        found(run, elsewhere)


@pytest.mark.parametrize("options", [TANGENT, LINEAR])
def test_one_path_may_have_held_two_weights(run: Path, options: dict[str, Any]) -> None:
    twin = folder(run.parent / "twin", options)
    assert found(run)
    facts(run, pretrained_sha256="1" * 64)
    facts(twin, pretrained_sha256="2" * 64)
    assert not found(run)
    with pytest.raises(InputError, match="rich .22222222., the run's glyphnet.rich .1111"):
        found(run, twin)


def facts(run: Path, **known: str | None) -> None:
    (run / "run.json").write_text(json.dumps(known))


@pytest.mark.parametrize("options", [TANGENT, LINEAR])
def test_an_unfinished_twin_is_left_out_unless_it_is_named(
    run: Path, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    last = FILES["linear" if options is LINEAR else "run"][-1]
    twin = folder(run.parent / "twin", options, without=last)
    with caplog.at_level(logging.WARNING):
        assert not found(run)
    assert f"no {last}" in caplog.text
    with pytest.raises(InputError, match=f"has no {last}; a finished one was expected: finish"):
        found(run, twin)


def test_a_twin_needs_the_weights_that_are_compared(run: Path) -> None:
    twin = folder(run.parent / "twin", TANGENT, without="best.safetensors")
    assert found(run) == Twins(tangent=twin)
    assert not found(run, weights="best")


def test_two_twins_of_a_kind_are_refused(run: Path) -> None:
    first = folder(run.parent / "1", LINEAR)
    folder(run.parent / "2", LINEAR | {"norm": "batchnorm"})
    with pytest.raises(InputError, match=r"has two linear twins, '.*1' and '.*2'; one was .*name"):
        found(run)
    assert found(run, first) == Twins(linear=first)


def test_folders_of_others_are_passed_by(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run.parent / "hydra").mkdir()
    (run.parent / "hydra" / "config.yaml").write_text("a: !!python/object:os.x {}\n[")
    (run.parent / "list").mkdir()
    (run.parent / "list" / "config.yaml").write_text("- 1\n")
    twin = folder(run.parent / "twin", TANGENT)
    with caplog.at_level(logging.WARNING):
        assert found(run) == Twins(tangent=twin)
    assert caplog.text.count("not known whether this is a twin") == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (RUN | {"seed": 3}, "holds neither a tangent run nor a linear model; .*: check --twins"),
        (TANGENT | {"seed": 3}, r"no twin of any run \(seed is 3, the run's 0\); .*check --twins"),
        (LINEAR | {"model": "x"}, r"no twin of any run \(model is x, the run's glyphnet\)"),
    ],
)
def test_a_named_folder_must_be_a_twin(run: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        found(run, folder(run.parent / "named", options))


def test_a_named_folder_must_exist_and_have_a_run(run: Path) -> None:
    with pytest.raises(InputError, match="there is no '.*typo/config.yaml'; .*check --twins"):
        found(run, run.parent / "typo")
    twin = folder(run.parent / "twin", TANGENT)
    with pytest.raises(InputError, match="--finetuned names no ordinary run"):
        found(run / "final.safetensors", twin)
