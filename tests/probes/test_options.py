"""Tests for probes/options.py and the configurations that inherit it."""

from pathlib import Path

import pytest

from core.errors import InputError
from probes.linearity_config import LinearityConfig
from probes.options import ProbeOptions, with_defaults
from probes.sources import example_runs


def test_what_is_left_out_is_the_example_and_a_free_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = with_defaults(ProbeOptions(), "mine")
    assert config.finetuned == example_runs()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert (
        Path(config.output or "")
        == Path("runs/mine")
        != Path(with_defaults(ProbeOptions(), "mine").output or "")
    )
    assert with_defaults(config, "mine") == config


@pytest.mark.parametrize(("name", "value"), [("workers", -1), ("seed", -1), ("image_size", 0)])
def test_numbers_that_are_too_small_are_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(
        InputError, match=f"--{name} is {value}; at least {value + 1} was expected"
    ):
        ProbeOptions(**{name: value})  # type: ignore[arg-type]


def test_options_that_make_no_sense() -> None:
    for options in ({"alphas": ()}, {"alphas": (0.0, 1.0)}, {"memory": "much"}, {"draws": 0}):
        with pytest.raises(InputError):
            LinearityConfig(**options)
