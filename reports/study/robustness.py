"""Is a method more robust than its i.i.d. accuracy lets expect, and when is it the best?"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.bootstrap import Mean
from analysis.claims.rows import FINALS, TRAJECTORIES, main_runs
from analysis.estimates import DASH
from analysis.robustness import WEIGHTS, Choice, choices, effective_robustness
from analysis.runs import DROP_RATE
from reports.study.beside import cross, fit
from reports.study.comparison import Arm
from reports.study.forest import forest, marks
from reports.study.sections import Content, Plate, each_dataset, sentences
from reports.study.settings import PLAIN, averages, methods
from reports.style import Drawing, draw, legend, panels, run_styles, theme
from reports.tables import cell

Found = tuple[str, list[Arm], dict[str, Mean], dict[str, Choice]]
WHEN = {0.0: "ood alone", 0.5: "half and half", 1.0: "iid alone"}


def robustness(runs: pd.DataFrame) -> Content:
    """Effective robustness of every method, the front, and the weights at which each is best."""
    found, left_out = each_dataset(main_runs(runs), _found)
    several = len(found) > 1
    with theme():
        plates = [
            Plate(drawing=_drawing(one, one[0] if several else ""), data=_frame(one))
            for one in found
        ]
    header = ["Data set", "Method", "Effective robustness", "On the front", "Best at weights"]
    header += [f"P best, {name}" for name in WHEN.values()]
    rows = [
        [dataset, arm.name, _above(above, arm.name), "yes" if best[arm.name].on_front else "no"]
        + [_weights(best[arm.name])]
        + [_known(best[arm.name].probability[w]) for w in WHEN]
        for dataset, arms, above, best in found
        for arm in arms
    ]
    return Content(
        plates=plates,
        table={"labels": 2, "header": header, "rows": rows},
        notes=[*left_out, *sentences(_reasons(found))],
    )


def _found(dataset: str, rows: pd.DataFrame) -> Found:
    """Methods that have a model a run: plain, dropout, and trajectory averages of both."""
    arms = [*methods(dataset, rows).arms, *averages(rows, TRAJECTORIES, DROP_RATE)]
    kept = [arm for arm in arms if not set(arm.rows["method"]) & set(FINALS)]
    plain = kept[0].rows
    above = {a.name: effective_robustness(a.rows, plain) for a in kept if a.name != PLAIN}
    return dataset, kept, above, choices({arm.name: arm.rows for arm in kept})


def _reasons(found: Sequence[Found]) -> Iterator[str]:
    """What intervals of effective robustness do not cover, or why there is none, by method."""
    for _, _, above, _ in found:
        yield from (f"{name}: {mean.reason}" for name, mean in above.items() if mean.reason)


def _above(above: dict[str, Mean], name: str) -> str:
    return cell(above[name].estimate) if name in above else DASH


def _known(probability: float) -> str:
    return f"{probability:.2f}" if np.isfinite(probability) else DASH


def _weights(choice: Choice) -> str:
    return f"{choice.low:.2f} to {choice.high:.2f}" if np.isfinite(choice.low) else "none"


def _drawing(found: Found, part: str) -> Drawing:
    dataset, arms, above, best = found
    styles = run_styles([arm.name for arm in arms])
    figure, ((left, right),) = panels(1, 2, 0.9 + max(2.2, 0.3 * len(above)))
    for arm in arms:
        cross(left, arm, styles[arm.name])
    _front(left, best)
    fit(left, arms)
    left.set(xlabel="iid accuracy", ylabel="ood accuracy")
    rows = {name: {name: mean.estimate} for name, mean in above.items()}
    forest(right, rows, styles)
    right.set_xlabel("ood accuracy above the line of plain runs")
    right.locator_params(axis="x", nbins=4)  # they may be small, and their labels long
    legend(figure, marks(styles))
    said = [f"{name} {mean.estimate}" for name, mean in above.items()]
    front = [name for name, choice in best.items() if choice.on_front]
    alt = (
        f"{dataset}: means of iid and ood accuracy with the front ({', '.join(front)}), and "
        f"effective robustness: {'; '.join(said)}."
    )
    return draw(figure, alt, part)


def _front(axes: Axes, best: dict[str, Choice]) -> None:
    """A dotted staircase through the methods that no other one dominates."""
    on = sorted((c.iid, c.ood) for c in best.values() if c.on_front)
    axes.step(*zip(*on, strict=True), where="pre", color="0.5", linestyle=":", linewidth=0.9)


def _frame(found: Found) -> pd.DataFrame:
    dataset, arms, above, best = found
    return pd.DataFrame(
        [
            {"dataset": dataset, "method": arm.name, "on_front": best[arm.name].on_front}
            | {"iid": best[arm.name].iid, "ood": best[arm.name].ood}
            | {"best_from": best[arm.name].low, "best_to": best[arm.name].high}
            | {f"probability at {w:g}": best[arm.name].probability[w] for w in WEIGHTS}
            | (
                {f"above_{k}": v for k, v in vars(above[arm.name].estimate).items()}
                if arm.name in above
                else {}
            )
            for arm in arms
        ]
    )
