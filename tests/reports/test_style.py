"""Tests for reports/style.py."""

import matplotlib as mpl
import pytest

from reports.style import draw, panels, r2_axis, run_styles, theme


def drawing(values: list[float]) -> bytes:
    with theme():
        figure, grid = panels(1, 1, 2.0)
        grid[0][0].plot(values)
        r2_axis(grid[0][0], values, which="y")
        return draw(figure, "a line").svg


def test_the_same_drawing_has_the_same_bytes() -> None:
    assert drawing([0.5, 1.0]) == drawing([0.5, 1.0])


def test_the_theme_ends_with_its_context() -> None:
    before = dict(mpl.rcParams)
    drawing([0.5])
    assert dict(mpl.rcParams) == before


def test_a_run_keeps_its_style_when_others_follow() -> None:
    few, many = run_styles(["a", "b"]), run_styles(["a", "b", "c"])
    assert few["b"] == many["b"]


@pytest.mark.parametrize(
    ("lowest", "scale"), [(0.2, "linear"), (-0.9, "linear"), (-5.0, "symlog"), (-1e4, "symlog")]
)
def test_r2_is_logarithmic_only_below_minus_one(lowest: float, scale: str) -> None:
    with theme():
        _, grid = panels(1, 1, 2.0)
        axes = grid[0][0]
        r2_axis(axes, [lowest, 0.9, float("nan")], which="x")
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    assert low < min(lowest, 0) and high > 1
