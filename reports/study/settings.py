"""What is compared in the sections on methods and settings, by data set."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.claims.averaging import FAST_HEAD
from analysis.claims.rows import (
    AVERAGES,
    ENSEMBLES,
    FINALS,
    MAIN,
    SINGLE,
    TRAJECTORIES,
    main_runs,
    of_method,
    present,
    pretrained_runs,
    tuned,
    with_measure,
)
from analysis.runs import DROP_RATE
from core.errors import InputError
from reports.study.comparison import Arm, Comparison, difference, in_setting

PLAIN, DROPOUT = "plain", f"dropout {DROP_RATE:g}"
NAMES = {
    "ensemble_trajectory": "ensemble, one run",
    "average_trajectory": "average, one run",
    "ensemble_final": "ensemble, all runs",
    "average_final": "average, all runs",
}


def both(rows: pd.DataFrame) -> tuple[Arm, Arm]:
    """Plain fine-tuning, and that with very large dropout."""
    return Arm(name=PLAIN, rows=tuned(rows, 0)), Arm(name=DROPOUT, rows=tuned(rows))


def methods(dataset: str, rows: pd.DataFrame) -> Comparison:
    """Plain, dropout, ensembles and weight averages: each less plain, dropout less each."""
    plain, dropout = both(rows)
    rivals = averages(rows, (*ENSEMBLES, *AVERAGES), 0)
    found = [difference(arm, plain) for arm in (dropout, *rivals)]
    found += [difference(dropout, rival) for rival in rivals]
    return Comparison(dataset=dataset, arms=[plain, dropout, *rivals], differences=found)


def on_top(dataset: str, rows: pd.DataFrame) -> Comparison:
    """Ensembles and averages of dropout runs, and how they gain on plain ones."""
    plain, dropout = both(rows)
    without = averages(rows, TRAJECTORIES, 0)
    on_dropout = averages(rows, (*TRAJECTORIES, *FINALS), DROP_RATE)
    if not on_dropout:
        raise InputError("no ensemble or weight average at dropout rate 0.9")
    found = [difference(arm, dropout) for arm in on_dropout]
    found += [difference(arm, plain) for arm in without]
    by_method = {_method(arm): arm for arm in without}
    found += [
        difference(arm, by_method[_method(arm)]) for arm in on_dropout if _method(arm) in by_method
    ]
    arms = [plain, dropout, *without, *on_dropout]
    return Comparison(dataset=dataset, arms=arms, differences=found)


def fast_head(dataset: str, rows: pd.DataFrame) -> Comparison:
    """A ten times faster head, with dropout and without; from `pretrained_runs`."""
    main = main_runs(rows)
    plain, dropout = both(main)
    at_setting = in_setting(rows.query(f"head_lr_factor == {FAST_HEAD}"), main, MAIN)
    fast, fast_dropout = (
        Arm(name=f"{name}, fast head", rows=tuned(at_setting, rate))
        for name, rate in ((PLAIN, 0.0), (DROPOUT, DROP_RATE))
    )
    free = ["head_lr_factor"]
    found = [
        difference(fast_dropout, dropout, free=free),
        difference(fast, plain, free=free),
        difference(fast_dropout, fast),
        difference(dropout, plain),
    ]
    return Comparison(
        dataset=dataset, arms=[plain, dropout, fast, fast_dropout], differences=found
    )


def pretraining(dataset: str, rows: pd.DataFrame) -> Comparison:
    """The poorest and the richest weights, fine-tuned plainly and with everything there is."""
    ranked = with_measure(pretrained_runs(rows), "pretraining")
    ranked = in_setting(ranked, main_runs(rows), ["steps", "train_size"])
    ranks = sorted(set(ranked["pretraining"]))
    if len(ranks) < 2:
        raise InputError(f"all runs have the pretraining of rank {ranks[0]:g}")
    plain, advanced = {}, {}
    for rank in (ranks[0], ranks[-1]):
        of_rank = ranked.loc[np.isclose(ranked["pretraining"], rank), :]
        name = _weights(str(of_rank["pretrained"].iloc[0]))
        usual = of_rank.query("head_lr_factor == 1")
        if present(usual, SINGLE, 0):
            plain[rank] = Arm(name=f"{name}, plain", rows=tuned(usual, 0))
        fast = of_rank.query(f"head_lr_factor == {FAST_HEAD}")
        if present(fast, AVERAGES[:1], DROP_RATE):
            rows_of = of_method(fast, AVERAGES[:1], DROP_RATE)
            advanced[rank] = Arm(name=f"{name}, advanced", rows=rows_of)
    if ranks[-1] not in plain or ranks[0] not in advanced:
        raise InputError("no plain run of the richest weights, or no advanced one of the poorest")
    free = ["pretrained", "head_lr_factor"]
    found = [difference(plain[ranks[-1]], advanced[ranks[0]], free=free)]
    found += [
        difference(advanced[r], plain[r], free=free[1:])
        for r in ranks
        if r in plain and r in advanced
    ]
    if len(plain) > 1:
        found.append(difference(plain[ranks[-1]], plain[ranks[0]], free=free))
    arms = [*plain.values(), *advanced.values()]
    return Comparison(dataset=dataset, arms=arms, differences=found)


def arm_name(method: str, rate: float) -> str:
    """What the arm of a method at a rate is called.

    Example:
        >>> arm_name("erm", 0), arm_name("average_trajectory", 0.9)
        ('plain', 'average, one run, dropout')
    """
    if method in SINGLE:
        return f"dropout {rate:g}" if rate else PLAIN
    return f"{NAMES.get(method, method)}{', dropout' if rate else ''}"


def _weights(pretrained: str) -> str:
    """The name of pretrained weights, without the folder and the type of their file.

    Example:
        >>> _weights("weights/resnet50.tv2_in1k.safetensors")
        'resnet50.tv2_in1k'
    """
    return re.sub(r"\.(pth|pt|bin|safetensors)$", "", Path(pretrained).name)


def averages(rows: pd.DataFrame, methods: Sequence[str], rate: float) -> list[Arm]:
    """Those of these ensembles and weight averages that there are at a rate."""
    return [
        Arm(name=arm_name(method, rate), rows=of_method(rows, [method], rate))
        for method in present(rows, methods, rate)
    ]


def _method(arm: Arm) -> str:
    return str(arm.rows["method"].iloc[0])
