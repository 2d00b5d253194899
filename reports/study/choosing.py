"""What it costs out of distribution to choose the dropout rate, or rate and cell, by a rule."""

from dataclasses import dataclass

import pandas as pd

from analysis.claims.rows import SINGLE, main_runs
from analysis.estimates import number
from analysis.runs import DROP_RATE
from analysis.selection import Candidate, Selected, selections
from reports.study.forest import forest, marks
from reports.study.sections import Content, Plate, each_dataset, sentences
from reports.style import Drawing, draw, legend, panels, run_styles, theme
from reports.tables import cell

RULES = {
    "oracle": "oracle",
    "iid": "iid validation",
    "leave_one_domain_out": "leave one domain out",
    "fixed": f"fixed rate {DROP_RATE:g}",
}
CANDIDATES = {"rate": ("drop_rate",), "rate and cell": ("drop_rate", "cell")}


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a rule costs.

    Attributes:
        dataset: Of which runs.
        candidates: What it chooses, one of `CANDIDATES`.
        selected: What it chose.
    """

    dataset: str
    candidates: str
    selected: Selected


def selection(runs: pd.DataFrame) -> Content:
    """The price of every rule, choosing the rate alone or with the cell."""
    main = main_runs(runs)
    found, left_out = each_dataset(main.loc[main["method"].isin(SINGLE), :], _prices)
    prices = [price for of_set in found for price in of_set]
    header = ["Data set", "Chosen", "Rule", "ood", "Price", "Choice by environment"]
    rows = [
        [
            p.dataset,
            p.candidates,
            RULES[p.selected.rule],
            number(p.selected.ood),
            "0 by definition" if p.selected.rule == "oracle" else cell(p.selected.price),
            _choice(p.selected),
        ]
        for p in prices
    ]
    priced = [price for price in prices if price.selected.rule != "oracle"]
    return Content(
        plates=[Plate(drawing=_drawing(priced, several=len(found) > 1), data=_frame(priced))],
        table={"labels": 3, "header": header, "rows": rows},
        notes=[*left_out, *sentences(_reason(p) for p in prices)],
    )


def _prices(dataset: str, rows: pd.DataFrame) -> list[Price]:
    has_fixed = bool((rows["drop_rate"] == DROP_RATE).any())
    fixed: dict[str, Candidate | None] = {"rate": (DROP_RATE,) if has_fixed else None}
    return [
        Price(dataset=dataset, candidates=name, selected=one)
        for name, by in CANDIDATES.items()
        for one in selections(rows, by=by, fixed=fixed.get(name))
    ]


def _reason(price: Price) -> str:
    reason = price.selected.reason
    return reason and f"choosing {price.candidates}, {reason}"


def _choice(selected: Selected) -> str:
    """The choice of every environment; environments that agree are named together."""
    by_choice: dict[Candidate, list[str]] = {}
    for env, chosen in selected.chosen.items():
        by_choice.setdefault(chosen, []).append(env)
    named = {c: ", ".join(x if isinstance(x, str) else f"{x:g}" for x in c) for c in by_choice}
    if len(by_choice) == 1:
        return next(iter(named.values()))
    return "; ".join(f"{', '.join(envs)}: {named[c]}" for c, envs in by_choice.items())


def _drawing(prices: list[Price], *, several: bool) -> Drawing:
    rows: dict = {}
    for p in prices:
        rule = RULES[p.selected.rule]
        label = f"{p.dataset}: {rule}" if several else rule
        rows.setdefault(label, {})[p.candidates] = p.selected.price
    styles = run_styles(list(CANDIDATES))
    with theme():
        figure, ((axes,),) = panels(1, 1, 0.9 + 0.3 * len(rows))
        forest(axes, rows, styles)
        axes.set_xlabel("price: ood accuracy below that of the oracle's choice")
        legend(figure, marks({f"choosing {name}": style for name, style in styles.items()}))
        said = [f"{p.candidates}, {RULES[p.selected.rule]} {p.selected.price}" for p in prices]
        return draw(figure, f"Prices of the rules. {'; '.join(said)}.")


def _frame(prices: list[Price]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": p.dataset, "candidates": p.candidates, "rule": p.selected.rule}
            | {"ood": p.selected.ood, **vars(p.selected.price), "chosen": _choice(p.selected)}
            for p in prices
        ]
    )
