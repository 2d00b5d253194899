"""Tests for finetuning/sweep/grid.py: what a grid expands to, and what is no grid."""

from pathlib import Path

import pytest

from core.errors import InputError
from finetuning.config import TrainConfig
from finetuning.linear.config import LinearConfig
from finetuning.sweep.grid import Grid, configurations, read_grids
from finetuning.sweep.names import run_name

TWO_GRIDS = """
- options: {lr: 1e-3, average: 5}
  vary:
    test_env: [rotated, [ink, photo]]
    drop_rate: [0, 0.9]
    seed: [0, 1]
  exclude:
    - {test_env: rotated, drop_rate: 0}
- command: linear
  vary: {weight_decay: [0.1, [0.1, 0.2]]}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return path


def test_every_combination_is_a_run_of_the_options_types(tmp_path: Path) -> None:
    runs = configurations(read_grids(write(tmp_path, TWO_GRIDS)), tmp_path)

    trained = [run for run in runs if isinstance(run, TrainConfig)]
    assert [(run.test_env, run.drop_rate, run.seed) for run in trained] == [
        (("rotated",), 0.9, 0),
        (("rotated",), 0.9, 1),
        (("ink", "photo"), 0.0, 0),
        (("ink", "photo"), 0.0, 1),
        (("ink", "photo"), 0.9, 0),
        (("ink", "photo"), 0.9, 1),
    ]
    assert all(run.lr == 0.001 and run.average == (5,) for run in trained)
    linear = [run for run in runs if isinstance(run, LinearConfig)]
    assert [run.weight_decay for run in linear] == [(0.1,), (0.1, 0.2)]
    assert all(Path(run.output) == tmp_path / run_name(run) for run in runs)


def test_a_grid_of_python_is_that_of_yaml(tmp_path: Path) -> None:
    grid = Grid(
        options={"lr": 1e-3},
        vary={"test_env": ["rotated", ("ink", "photo")], "drop_rate": (0, 0.9)},
    )
    text = "{options: {lr: 0.001}, vary: {test_env: [rotated, [ink, photo]], drop_rate: [0, 0.9]}}"
    (read,) = read_grids(write(tmp_path, text))

    assert configurations([grid], tmp_path) == configurations([read], tmp_path)


def test_what_makes_no_sense_together_can_be_excluded(tmp_path: Path) -> None:
    text = """
    options: {drop_rate: 0.5}
    vary: {noise: [dropout, mixout], placement: [head, stages], tangent: [false, true]}
    exclude:
      - {noise: mixout, placement: stages}
      - {noise: mixout, tangent: true}
      - {placement: stages, tangent: true, drop_rate: 0.5, amp: none}
    """
    runs = configurations(read_grids(write(tmp_path, text)), tmp_path)
    trained = [run for run in runs if isinstance(run, TrainConfig)]
    found = [(run.noise, run.placement, run.tangent) for run in trained]
    assert found == [
        *(("dropout", "head", False), ("dropout", "head", True), ("dropout", "stages", False)),
        ("mixout", "head", False),
    ]


WRONG = {
    "no yaml": ("vary: {seed: [0, 1}", "cannot be read as YAML"),
    "nothing": ("", "holds None as grid 1"),
    "no grids": ("[]", "is empty"),
    "words": ("many runs", "holds 'many runs' as grid 1"),
    "entry": ("vari: {seed: [0]}", "has vari in grid 1"),
    "vary": ("vary: [seed, 0]", "has vary: ['seed', 0] in grid 1"),
    "exclude": ("{vary: {seed: [0]}, exclude: {seed: 0}}", "has exclude: {'seed': 0}"),
    "command": ("{command: probe, vary: {seed: [0]}}", "command is 'probe'; train or linear"),
    "commands": ("command: [train, linear]", "has command: ['train', 'linear'] in grid 1"),
    "option": ("vary: {sede: [0]}", "sede is no option of finetuning.train; expected one such as"),
    "of linear": ("options: {linear_blocks: 2}", "linear_blocks is no option of finetuning.train"),
    "output": ("options: {output: here}", "output is no option of a grid"),
    "no list": ("vary: {seed: 3}", "vary has seed: 3; a list of values was expected"),
    "empty list": ("vary: {seed: []}", "vary has seed: []"),
    "type": ("vary: {seed: [a]}", "seed is 'a'; a whole number was expected"),
    "choice": (
        "options: {optimizer: adam}",
        "optimizer is 'adam'; sgd or adamw or null was expected",
    ),
    "value": ("vary: {drop_rate: [0, 1]}", "grid 1: the dropout rate is 1.0"),
    "twice": ("vary: {seed: [0, 1, 0]}", "grid 1: a run is there twice (seed 0)"),
    "as default": ("vary: {lr: [null, 0.01]}", "grid 1: a run is there twice (lr 0.01)"),
    "other grid": (
        "[{vary: {seed: [1]}}, {vary: {seed: [2, 1]}}]",
        "grid 2: a run is there twice",
    ),
    "in both": ("{options: {seed: 0}, vary: {seed: [1]}}", "seed is in options and in vary"),
    "all excluded": ("{vary: {seed: [1]}, exclude: [{seed: 1}]}", "exclude leaves none of 1 runs"),
    "not there": ("{vary: {seed: [1]}, exclude: [{seed: 2}]}", "no run is like {'seed': 2}"),
}


@pytest.mark.parametrize("text, expected", WRONG.values(), ids=list(WRONG))
def test_what_is_no_grid_is_refused_with_a_sentence(
    text: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        configurations(read_grids(write(tmp_path, text)), tmp_path)
    assert expected in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.yaml' cannot be read as YAML"):
        read_grids(tmp_path / "nowhere.yaml")
