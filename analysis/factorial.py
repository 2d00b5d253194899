r"""What each hyper-parameter does to o.o.d. accuracy, and which of them act together.

A linear mixed model: fixed effects of the factors and of their products in pairs, random effects
of the environment and of the seed, crossed,

.. math:: y_r = \beta_0 + \sum_j \beta_j x_{rj} + \sum_{j<k} \beta_{jk} x_{rj} x_{rk}
          + a_{e(r)} + s_{\mathrm{seed}(r)} + \varepsilon_r

Every factor runs from -1/2 at its lowest to 1/2 at its highest value, learning rates, weight
decays and head factors on a logarithmic scale: an effect is the change of accuracy over the
factor's whole range, at the middle of the others. p-values of all effects are adjusted by Holm.

A variance that is estimated as zero, or an optimiser that did not converge, makes a fit singular:
its intervals lack that variance, and the result says so.

References:
    | Random-Effects Models for Longitudinal Data (Laird & Ware, 1982)
    | statsmodels.regression.mixed_linear_model
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from statsmodels.formula.api import mixedlm
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from analysis.estimates import Estimate
from core.errors import InputError

FACTORS = ("drop_rate", "lr", "weight_decay", "head_lr_factor")
LOGARITHMIC = frozenset(FACTORS[1:])
RANDOM = ("env", "seed")
BOUNDARY = "on the boundary of the parameter space"
NEGLIGIBLE = 1e-4  # share of the residual variance below which a variance counts as zero


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The effect of a factor, or of two together.

    Attributes:
        factor: Name; two joined by ` x ` for an interaction.
        change: Of accuracy, over the whole range, with its 95 % interval.
        p_value: Two-sided, adjusted by Holm over all effects of the fit.
    """

    factor: str
    change: Estimate
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Factorial:
    """A fit of all effects.

    Attributes:
        effects: Main effects, then interactions.
        spread: Standard deviation of each random effect, and of the residual.
        num_runs: Rows.
        constant: Factors that do not vary, which have no effect here.
        confounded: Factors that vary only together with those before them, and are left out.
        singular: What is wrong with the fit; empty where nothing is.
    """

    effects: tuple[Effect, ...]
    spread: dict[str, float]
    num_runs: int
    constant: tuple[str, ...]
    confounded: tuple[str, ...]
    singular: tuple[str, ...]


def factorial(
    runs: pd.DataFrame, *, outcome: str = "ood", factors: Sequence[str] = FACTORS
) -> Factorial:
    """Effects on the outcome over the runs of a grid.

    Args:
        runs: Rows of one data set in a checked runs frame; rows without a factor are left out.
        outcome: Column that the effects are on.
        factors: Columns of the factors.

    Raises:
        InputError: If no factor varies, a logarithmic one is not positive, or there are fewer
            runs than effects.
    """
    rows = runs.dropna(subset=[*factors, outcome]).reset_index(drop=True)
    varying = [name for name in factors if len(set(rows[name])) > 1]
    constant = tuple(name for name in factors if name not in varying)
    frame = pd.DataFrame({name: _coded(rows, name) for name in varying})
    terms = _independent(frame)
    _check(len(rows), terms)
    frame = frame.assign(outcome=rows[outcome].to_numpy(np.float64))
    random = [name for name in RANDOM if len(set(rows[name])) > 1]
    for name in random:
        frame[name] = rows[name].astype(str)
    fit, complaints = _fit(frame, terms, random)
    spread = _spread(fit, random)
    none = [f"the variance between {n}s is 0" for n in random if _negligible(spread, n)]
    return Factorial(
        effects=_effects(fit, terms),
        spread=spread,
        num_runs=len(rows),
        constant=constant,
        confounded=tuple(name for name in varying if name not in terms),
        singular=(*none, *complaints),
    )


def _coded(rows: pd.DataFrame, name: str) -> Float[np.ndarray, " N"]:
    values = rows[name].to_numpy(np.float64)
    if name in LOGARITHMIC:
        if not (values > 0).all():
            raise InputError(
                f"{name} is {values.min():g} in some run; positive values were expected, as its "
                "effect is over a logarithmic range: leave these runs out"
            )
        values = np.log(values)
    low, high = values.min(), values.max()
    return (values - (low + high) / 2) / (high - low)


def _independent(frame: pd.DataFrame) -> list[str]:
    """Factors, then their products in pairs, without those that the ones before determine."""
    columns = {name: frame[name].to_numpy(np.float64) for name in frame}
    columns |= {f"{a}:{b}": columns[a] * columns[b] for a, b in combinations(list(columns), 2)}
    kept, design = [], np.ones((len(frame), 1))
    for name, column in columns.items():
        longer = np.column_stack([design, column])
        if int(np.linalg.matrix_rank(longer)) == longer.shape[1]:
            kept, design = [*kept, name], longer
    return kept


def _check(num_runs: int, terms: Sequence[str]) -> None:
    if not terms or num_runs < len(terms) + 3:
        found = f"{num_runs} runs and {len(terms)} effects" if terms else "no factor that varies"
        raise InputError(
            f"the runs hold {found}; a grid with more runs than effects was expected: vary the "
            "learning rate, the weight decay or the dropout rate over several runs"
        )


def _fit(
    frame: pd.DataFrame, terms: Sequence[str], random: Sequence[str]
) -> tuple[Any, list[str]]:
    """The fit by restricted maximum likelihood, and what the optimiser complained about."""
    formula = f"outcome ~ {' + '.join(terms)}"
    components = {name: f"0 + C({name})" for name in random}
    if not random:
        raise InputError(
            "all runs have one environment and one seed; several of either were expected, as "
            "effects are told from noise by them: run more seeds"
        )
    model = mixedlm(
        formula, frame, groups=np.ones(len(frame)), vc_formula=components, re_formula="0"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = model.fit(reml=True, method=["lbfgs", "powell"])
    kinds = (ConvergenceWarning, RuntimeWarning)
    said = {str(w.message) for w in caught if issubclass(w.category, kinds)}
    # An absolute variance of 0.01 is statsmodels' boundary; all accuracies differ by less.
    return fit, sorted(message for message in said if BOUNDARY not in message)


def _spread(fit: Any, random: Sequence[str]) -> dict[str, float]:  # ruff: ignore[any-type]
    variances = dict(zip(sorted(random), np.asarray(fit.vcomp, np.float64), strict=True))
    spread = {name: float(np.sqrt(max(variances[name], 0.0))) for name in random}
    return spread | {"residual": float(np.sqrt(fit.scale))}


def _negligible(spread: dict[str, float], name: str) -> bool:
    return spread[name] ** 2 < NEGLIGIBLE * spread["residual"] ** 2


def _effects(fit: Any, terms: Sequence[str]) -> tuple[Effect, ...]:  # ruff: ignore[any-type]
    ends = fit.conf_int()
    p_values = [fit.pvalues[term] for term in terms]
    adjusted = np.asarray(multipletests(p_values, method="holm")[1]).tolist()
    return tuple(
        Effect(
            factor=term.replace(":", " x "),
            change=Estimate(float(fit.params[term]), *map(float, ends.loc[term])),
            p_value=p,
        )
        for term, p in zip(terms, adjusted, strict=True)
    )
