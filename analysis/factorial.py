r"""What each hyper-parameter does to o.o.d. accuracy, and which of them act together.

A linear mixed model: fixed effects of the factors and of their products in pairs, random effects
of the environment and of the seed within it,

.. math:: y_r = \beta_0 + \sum_j \beta_j x_{rj} + \sum_{j<k} \beta_{jk} x_{rj} x_{rk}
          + a_{e(r)} + s_{e(r)\, \mathrm{seed}(r)} + \varepsilon_r

A seed is the hold-out, the head and the batches of all runs that have it in an environment. In
another one it is another seed, whether or not it has the same label: what it holds out there is
something else. A seed that an environment has alone cannot be told from the environment, nor one
that a run has alone from its noise: it is no random effect then, and named as confounded.

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
from jaxtyping import Float, Int
from statsmodels.formula.api import mixedlm
from statsmodels.stats.multitest import multipletests

from analysis.clusters import numbered
from analysis.estimates import Estimate
from core.errors import InputError

FACTORS = ("drop_rate", "lr", "weight_decay", "head_lr_factor")
LOGARITHMIC = frozenset(FACTORS[1:])
Labels = Int[np.ndarray, " N"]
OPTIMISERS = ("powell", "lbfgs")
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
        confounded: Factors, or seeds, that vary only together with others, and are left out.
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
        InputError: If no factor varies, a logarithmic one is not positive, there are fewer runs
            than effects, the outcome is the same in all runs, or nothing tells effects from noise.
    """
    rows = runs.dropna(subset=[*factors, outcome]).reset_index(drop=True)
    varying = [name for name in factors if len(set(rows[name])) > 1]
    constant = tuple(name for name in factors if name not in varying)
    frame = pd.DataFrame({name: _coded(rows, name) for name in varying})
    terms = _independent(frame)
    _check(len(rows), terms)
    frame = frame.assign(outcome=rows[outcome].to_numpy(np.float64))
    if len(set(frame["outcome"])) == 1:
        raise InputError(
            f"all {len(rows)} runs have the {outcome} accuracy {frame['outcome'].iloc[0]:g}; "
            "accuracies that differ were expected, as effects are on their differences: use a "
            "harder environment or more test images"
        )
    groups, alone = _groups(rows)
    random = list(groups)
    fit, complaints = _fit(frame.assign(**groups), terms, random)
    spread = _spread(fit, random)
    none = [f"the variance between {n}s is 0" for n in random if _negligible(spread, n)]
    return Factorial(
        effects=_effects(fit, terms),
        spread=spread,
        num_runs=len(rows),
        constant=constant,
        confounded=(*(name for name in varying if name not in terms), *alone),
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


def _groups(rows: pd.DataFrame) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Groups of runs of one environment, and of one seed there; what cannot be told from others.

    Raises:
        InputError: If there is neither.
    """
    env, seed = numbered(rows, ["env"]), numbered(rows, ["env", "seed"])
    num_envs, num_seeds = len(set(env)), len(set(seed))
    groups = {"env": env} if num_envs > 1 else {}
    if num_envs < num_seeds < len(rows):
        groups["seed"] = seed
    if not groups:
        raise InputError(
            "all runs have one environment, and one seed or each its own; several environments, "
            "or several seeds with several runs each, were expected, as effects are told from "
            "noise by them: run the same seeds with all factors"
        )
    return groups, () if "seed" in groups or len(set(rows["seed"])) == 1 else ("seed",)


def _fit(
    frame: pd.DataFrame, terms: Sequence[str], random: Sequence[str]
) -> tuple[Any, list[str]]:
    """The fit by restricted maximum likelihood, and what is wrong with it.

    The better one of two optimisers: each may stop short of the maximum where a variance is zero.
    """
    formula = f"outcome ~ {' + '.join(terms)}"
    components = {name: f"0 + C({name})" for name in random}
    model = mixedlm(
        formula, frame, groups=np.ones(len(frame)), vc_formula=components, re_formula="0"
    )
    found = [_maximised(model, optimiser) for optimiser in OPTIMISERS]
    return max(found, key=lambda fitted: np.nan_to_num(fitted[0].llf, nan=-np.inf))


def _maximised(model: Any, optimiser: str) -> tuple[Any, list[str]]:  # ruff: ignore[any-type]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = model.fit(reml=True, method=[optimiser])
    found = [] if fit.converged else ["the optimiser did not converge"]
    if any("Hessian" in str(w.message) for w in caught):
        found.append("the likelihood has no clear maximum where it stopped")
    if any(issubclass(w.category, RuntimeWarning) for w in caught):
        found.append("it met numbers that are not finite")
    return fit, found


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
