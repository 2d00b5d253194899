"""Tests for probes/feature_options.py."""

import pytest

from core.command_line import parse
from core.errors import InputError
from probes.feature_options import FeatureOptions, with_example
from probes.sources import example_runs

REFUSED = {
    "workers": ({"workers": -1}, "--workers is -1; at least 0"),
    "samples": ({"samples": -1}, "--samples is -1; at least 0"),
    "one sample": ({"samples": 1}, "--samples is 1; at least 2 .* or 0 for all"),
    "batch_size": ({"batch_size": 0}, "--batch_size is 0; at least 1"),
    "image_size": ({"image_size": 0}, "--image_size is 0; at least 1"),
    "both": ({"features": ("a.npy",), "checkpoints": ("b",)}, "both given; .*leave one out"),
    "layers": ({"features": ("a.npy",), "layers": ("logits",)}, "--layers was given with"),
    "labels": ({"labels": "y.npy"}, "belong to --features"),
    "envs": ({"feature_envs": "e.npy"}, "belong to --features"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_make_no_sense_are_refused(case: str) -> None:
    options, expected = REFUSED[case]
    with pytest.raises(InputError, match=expected):
        FeatureOptions(**options)


def test_flags_become_options() -> None:
    words = ["--checkpoints", "a", "b.pt", "--layers", "features", "blocks", "--samples", "64"]
    options = parse(FeatureOptions, [*words, "--with_init=false", "--pooling=token"])
    assert options.checkpoints == ("a", "b.pt")
    assert options.layers == ("features", "blocks")
    assert (options.samples, options.with_init, options.pooling) == (64, False, "token")
    assert parse(FeatureOptions, ["--features", "a.npy", "--labels", "y.npy"]).labels == "y.npy"


def test_every_option_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(FeatureOptions, ["--help"])
    text = capsys.readouterr().out
    for phrase in ("the embedded example if none", "Instead of networks", "Folder of computed"):
        assert phrase in " ".join(text.split())
    assert "--finetuned" not in text


def test_the_example_where_nothing_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert with_example(FeatureOptions()).checkpoints == example_runs()
    assert "embedded example" in caplog.text
    for options in (FeatureOptions(checkpoints=("a",)), FeatureOptions(features=("a.npy",))):
        assert with_example(options) is options
