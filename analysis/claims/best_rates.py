"""The best dropout rate of matched runs, with the draws that say how sure it is."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.bootstrap import mean_draws
from analysis.claims.rows import SINGLE
from analysis.clusters import PLACE, clusters
from analysis.pairing import KEYS
from core.errors import InputError

LEAST_RATES = 3


@dataclass(frozen=True, kw_only=True)
class BestRate:
    """The best rate by mean o.o.d. accuracy over matched runs.

    Attributes:
        value: The best rate.
        draws: That of each draw of the means.
        rows: Labels of the runs.
        note: Which rates or environments were left out.
    """

    value: float
    draws: Float[np.ndarray, " B"]
    rows: list[int]
    note: str = ""


def best_rate(rows: pd.DataFrame, *, seed: int = 0) -> BestRate:
    """The best rate of single runs, at environment, cell, seed and split that all rates have.

    Rates of few runs are left out where an environment would have no such run without that.

    Raises:
        InputError: If there are fewer than three rates in one setting, or nothing varies.
    """
    return best_rates(rows.assign(level=0), seed=seed)[0]


def best_rates(rows: pd.DataFrame, *, seed: int = 0) -> list[BestRate]:
    """The same at every entry of the column `level`, at runs that all levels have.

    Raises:
        InputError: As `best_rate` does.
    """
    single = rows.loc[rows["method"].isin(SINGLE), :]
    wide, note = _matched(single)
    design = clusters(wide.index.to_frame(index=False))
    rates = wide.columns.unique("drop_rate").to_numpy(np.float64)
    values, shape = wide.to_numpy(np.float64), (-1, wide.shape[1] // len(rates), len(rates))
    best = rates[(design.weight @ values).reshape(shape[1:]).argmax(1)]
    draws = rates[mean_draws(values, design, seed=seed).reshape(shape).argmax(2)]
    at_key = single.set_index(list(KEYS)).index.isin(wide.index)
    used = single.loc[at_key & single["drop_rate"].isin(rates.tolist()), :]
    return [
        BestRate(
            value=float(value),
            draws=drawn,
            rows=used.index[used["level"] == level].tolist(),
            note=note,
        )
        for level, value, drawn in zip(wide.columns.unique("level"), best, draws.T, strict=True)
    ]


def _matched(single: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """O.o.d. accuracies at the keys that have all rates at all levels, one column each.

    While some environment with runs at all levels has no such key, or nothing varies, the rate of
    the fewest runs is left out; where that does not help, such environments are. The text says so.
    """
    wide = single.pivot_table(index=list(KEYS), columns=["level", "drop_rate"], values="ood")
    wide = wide.reindex(
        columns=pd.MultiIndex.from_product(
            [wide.columns.unique(name) for name in wide.columns.names]
        )
    )
    reason = f"no setting has run at {LEAST_RATES} dropout rates"
    for places in (_at_all_levels(wide), 1):
        kept = wide
        while len(kept.columns.unique("drop_rate")) >= LEAST_RATES:
            whole = kept.dropna()
            reason = _problem(whole, places)
            if not reason:
                return whole, _left_out(wide, whole)
            counts = pd.Series(kept.count()).groupby("drop_rate").min()
            rarest = pd.Series(counts).idxmin()
            kept = kept.drop(columns=rarest, level="drop_rate")
    raise InputError(reason)


def _at_all_levels(wide: pd.DataFrame) -> int:
    """How many environments have runs at all levels."""
    in_place = wide.notna().groupby(PLACE).any().T.groupby("level").any()
    return int(in_place.all().sum())


def _problem(whole: pd.DataFrame, places: int) -> str:
    """Why no best rate can be told from these runs; empty where it can."""
    if whole.empty or len(whole.groupby(PLACE)) < places:
        return f"no {LEAST_RATES} dropout rates share environments, cells and seeds"
    design = clusters(whole.index.to_frame(index=False))
    return "" if design.varies else f"the best rate has no interval ({design.reason})"


def _left_out(wide: pd.DataFrame, whole: pd.DataFrame) -> str:
    rates = wide.columns.unique("drop_rate").difference(whole.columns.unique("drop_rate"))
    envs = wide.index.unique("env").difference(whole.index.unique("env"))
    parts = [*(f"rate {rate:g}" for rate in rates), *(f"environment {env}" for env in envs)]
    dataset = wide.index.unique("dataset")[0]
    return f"{dataset} without {', '.join(parts)}, of too few runs" if parts else ""
