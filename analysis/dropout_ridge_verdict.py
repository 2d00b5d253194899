"""Whether dropout on a linear layer is ridge in its decisions, over all rates.

What is judged is the accuracy of the closed form less that of the layer trained with dropout,
paired over test examples, on all environments of a split together, as `probes.rate_curve` measures
it. Against a margin declared beforehand:

supported
    At every rate the 90 % interval lies inside the margin: two one-sided tests at 5 % find the
    two equivalent. All rates have to pass, so that their number needs no correction.
contradicted
    At some of K rates the interval at level 1 - 0.05 / K lies wholly outside the margin: by
    Bonferroni, a chance of 5 % at most that it does where the two are equivalent at every rate.
inconclusive
    Neither.

A rate at which the closed form's solver or SGD has not converged has no interval and decides
nothing.

Shapes: K rates.

References:
    | Two one-sided tests: A comparison of the two one-sided tests procedure and the power approach
    | (Schuirmann, 1987), https://doi.org/10.1007/BF01068419
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from analysis.equivalence import MARGIN
from analysis.estimates import Estimate, number, ordered, select
from analysis.intervals import LEVEL
from analysis.verdicts import Verdict
from core.errors import InputError
from core.records import Record

LOSSES = ("squared", "cross_entropy")
DROPOUT, RIDGE, CLOSED_FORM = "dropout", "ridge", "closed_form"
WAYS = {DROPOUT: "dropout", RIDGE: "ridge of equal strength", CLOSED_FORM: "closed form"}
CONVERGED = 1e-3  # largest excess of the training loss, in units of that without features
TOST_LEVEL = 0.90  # of the interval that two one-sided tests at 5 % ask to lie inside the margin
SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
ALL = "all"  # every environment of a split together
NO_DIFFERENCE = {"no difference": Estimate(0.0, 0.0, 0.0)}


def accuracy_of(loss: str, way: str) -> str:
    """Metric of the accuracy of a layer."""
    return f"{loss}_{way}_accuracy"


def difference_of(loss: str) -> str:
    """Metric of the accuracy of the closed form less that of dropout."""
    return f"{loss}_closed_form_difference"


def excess_of(loss: str) -> str:
    """Metric of the training loss by dropout above that of the closed form."""
    return f"{loss}_excess_loss"


def settling_of(loss: str) -> str:
    """Metric of what the training loss fell by in the second half of the steps."""
    return f"{loss}_settling"


def dropout_ridge_verdicts(record: Record, *, margin: float = MARGIN) -> list[Verdict]:
    """One verdict per checkpoint, representation, loss and split, in the order of the record.

    The value of a verdict is the difference that is furthest from 0 over the rates.

    Raises:
        InputError: If the margin is not positive.
    """
    check_margin(margin)
    found = []
    for loss in LOSSES:
        rows = select(record.values, difference_of(loss), env=ALL)
        keys = rows[["run", "layer", "split"]].drop_duplicates()
        found += [
            _verdict(record, loss, run, layer, split, margin)
            for run, layer, split in keys.itertuples(index=False)
        ]
    return found


def dropout_ridge_word(
    differences: Sequence[Estimate], corrected: Sequence[Estimate], margin: float = MARGIN
) -> str:
    """The rule; see the head of this module.

    Args:
        differences: One a rate, with its 95 % interval.
        corrected: The same with `corrected_interval`.
        margin: Accuracy below which a difference does not matter.

    Example:
        >>> small, large = Estimate(0.002, 0.001, 0.003), Estimate(0.02, 0.009, 0.03)
        >>> dropout_ridge_word([small], [small]), dropout_ridge_word([large], [large])
        ('supported', 'contradicted')
        >>> dropout_ridge_word([large], [Estimate(0.02, 0.004, 0.04)])
        'inconclusive'
    """
    if any(_outside(d, margin) for d in corrected):
        return CONTRADICTED
    return SUPPORTED if all(_inside(d, margin) for d in differences) else INCONCLUSIVE


def corrected_interval(
    difference: Estimate, stderr: float, num_rates: int, repeats: int
) -> Estimate:
    r"""The interval at level :math:`1 - 0.05 / K` of a difference, about the same middle.

    With the error s over examples and e over S repeats, the 95 % interval and the standard error
    are :math:`z^2 s^2 + t^2 e^2` and :math:`s^2 + e^2`, squared; both errors follow, and with them
    the interval by the normal and Student's quantiles of the other level.

    Args:
        difference: With its 95 % interval.
        stderr: Its standard error.
        num_rates: K, how many rates are tested.
        repeats: S, at least 2.

    Example:
        >>> found = corrected_interval(Estimate(0.0, -1.96, 1.96), 1.0, num_rates=5, repeats=3)
        >>> round(found.low, 3), round(found.high, 3)
        (-2.576, 2.576)
    """
    middle, half = (difference.low + difference.high) / 2, (difference.high - difference.low) / 2
    z, t = _quantiles(LEVEL, repeats)
    of_repeats = np.clip((half**2 - (z * stderr) ** 2) / (t**2 - z**2), 0, stderr**2)
    z, t = _quantiles(1 - (1 - LEVEL) / num_rates, repeats)
    wide = float(np.sqrt(z**2 * (stderr**2 - of_repeats) + t**2 * of_repeats))
    return Estimate(difference.value, middle - wide, middle + wide)


def _quantiles(level: float, repeats: int) -> tuple[float, float]:
    tail = (1 + level) / 2
    return float(norm.ppf(tail)), float(student.ppf(tail, repeats - 1))


def tost_interval(difference: Estimate) -> Estimate:
    """The 90 % interval of an estimate whose 95 % interval is normal, about the same middle.

    Where the 95 % interval is Student's, it is wider than the 90 % interval: conservative.

    Example:
        >>> tost = tost_interval(Estimate(0.0, -1.96, 1.96))
        >>> round(tost.low, 3), round(tost.high, 3)
        (-1.645, 1.645)
    """
    middle = (difference.low + difference.high) / 2
    shrink = float(norm.ppf((1 + TOST_LEVEL) / 2) / norm.ppf((1 + LEVEL) / 2))
    half = (difference.high - difference.low) / 2 * shrink
    return Estimate(difference.value, middle - half, middle + half)


def check_margin(margin: float) -> None:
    """Refuse a margin that no difference can lie inside.

    Raises:
        InputError: If it is not positive.
    """
    if not margin > 0:
        raise InputError(f"the margin is {margin}; a positive accuracy such as 0.005 was expected")


def _inside(difference: Estimate, margin: float) -> bool:
    tost = tost_interval(difference)
    return -margin < tost.low and tost.high < margin


def _outside(difference: Estimate, margin: float) -> bool:
    return difference.low > margin or difference.high < -margin


def _verdict(
    record: Record, loss: str, run: str, layer: str, split: str, margin: float
) -> Verdict:
    rows = select(record.values, difference_of(loss), run=run, layer=layer, split=split, env=ALL)
    numbers = rows[["at", "stderr", "value", "low", "high"]].to_numpy(float).tolist()
    at = {rate: Estimate(*ends) for rate, _, *ends in numbers}
    repeats = record.config["repeats"]
    corrected = {
        rate: corrected_interval(at[rate], stderr, len(at), repeats)
        for rate, stderr, *_ in numbers
    }
    worst = max(at, key=lambda rate: abs(at[rate].value))
    excess = select(record.values, excess_of(loss), run=run, layer=layer)
    several = len(ordered(record.values, "layer", run=run)) > 1
    return Verdict(
        run=", ".join([run, *([layer] if several else []), loss.replace("_", "-")]),
        env=ALL,
        split=split,
        word=dropout_ridge_word(list(at.values()), list(corrected.values()), margin),
        value=at[worst].value,
        low=at[worst].low,
        high=at[worst].high,
        sentence=_sentence(at, corrected, worst, excess["value"].to_numpy(float), margin),
        neighbours=NO_DIFFERENCE,
    )


def _sentence(
    at: Mapping[float, Estimate],
    corrected: Mapping[float, Estimate],
    worst: float,
    excess: Float[np.ndarray, " K"],
    margin: float,
) -> str:
    tost = tost_interval(at[worst])
    inside = sum(_inside(difference, margin) for difference in at.values())
    outside = [f"{rate:g}" for rate, d in corrected.items() if _outside(d, margin)]
    unsolved = [f"{rate:g}" for rate, d in at.items() if not d.has_interval]
    clauses = [
        f"Accuracy of the closed form less that of dropout is furthest from 0 at rate {worst:g}: "
        f"{at[worst]} (90 %: {number(tost.low)}, {number(tost.high)})",
        f"equivalent within {number(margin)} at {inside} of {len(at)} rates",
    ]
    corrected_for = f"corrected for {len(at)} rates"
    clauses += [f"wholly outside, {corrected_for}, at {', '.join(outside)}"] if outside else []
    clauses += [f"not converged at {', '.join(unsolved)}"] if unsolved else []
    clauses.append(
        f"training loss of dropout less the closed form's {number(excess.min())} to "
        f"{number(excess.max())} of that without features"
    )
    return "; ".join(clauses) + "."
