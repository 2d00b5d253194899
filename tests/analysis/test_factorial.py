"""Tests for analysis/factorial.py."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from numpy.testing import assert_allclose

from analysis.factorial import factorial
from core.errors import InputError
from tests.analysis.study_data import ENVS, grid

TRUE = {"drop_rate": 0.04, "lr": -0.02, "drop_rate x lr": 0.03}


def study(seed: int = 0, noise: float = 0.004, between: float = 0.05) -> pd.DataFrame:
    """A full grid of rates and learning rates, with the effects `TRUE` over the whole range."""
    generator = np.random.default_rng(seed)
    env_effect = dict(zip(ENVS, between * generator.normal(size=4), strict=True))
    seed_effect = 0.01 * generator.normal(size=3)
    rows = [
        {"env": env, "seed": number, "drop_rate": rate, "lr": lr, "weight_decay": 1e-4}
        for env, number, rate, lr in product(ENVS, range(3), (0.0, 0.45, 0.9), (1e-3, 1e-4))
    ]
    frame = pd.DataFrame(rows).assign(head_lr_factor=1.0)
    rate = frame["drop_rate"] / 0.9 - 0.5
    lr = np.log10(frame["lr"]) + 3.5
    mean = 0.5 + TRUE["drop_rate"] * rate + TRUE["lr"] * lr + TRUE["drop_rate x lr"] * rate * lr
    random = frame["env"].map(env_effect) + seed_effect[frame["seed"]]
    return frame.assign(ood=mean + random + noise * generator.normal(size=len(frame)))


def test_effects_are_those_of_the_simulation() -> None:
    found = factorial(study())
    assert [effect.factor for effect in found.effects] == list(TRUE)
    for effect in found.effects:
        assert effect.change.low < TRUE[effect.factor] < effect.change.high
        assert effect.p_value < 0.001
    assert found.constant == ("weight_decay", "head_lr_factor") and found.num_runs == 72
    assert found.singular == ()
    assert_allclose(found.spread["residual"], 0.004, rtol=0.3)
    assert found.spread["env"] > 0.01


def test_in_a_balanced_grid_effects_are_those_of_least_squares() -> None:
    frame = study()
    coded = frame.assign(rate=frame["drop_rate"] / 0.9 - 0.5, log=np.log10(frame["lr"]) + 3.5)
    fit = smf.ols("ood ~ rate * log + C(env):C(seed)", coded).fit()
    changes = [effect.change.value for effect in factorial(frame).effects]
    assert_allclose(changes, fit.params[["rate", "log", "rate:log"]], atol=1e-6)


def with_own_seeds(apart: int) -> pd.DataFrame:
    """Every environment has seeds of its own, whatever they are called."""
    frame, generator = study(), np.random.default_rng(3)
    env = frame.groupby("env").ngroup().to_numpy()
    effect = 0.02 * generator.normal(size=(4, 3))
    ood = frame["ood"] + effect[env, frame["seed"]]
    return frame.assign(ood=ood, seed=frame["seed"] + apart * env)


def test_a_seed_is_another_one_in_every_environment() -> None:
    own, same = (factorial(with_own_seeds(apart)) for apart in (10, 0))
    for found in (own, same):
        assert found.singular == () and found.confounded == ()
        assert_allclose(found.spread["residual"], 0.004, rtol=0.3)  # the noise of `study`
        assert 0.01 < found.spread["seed"] < 0.04
    assert_allclose([e.change.low for e in own.effects], [e.change.low for e in same.effects])


@pytest.mark.parametrize("several", [False, True], ids=["one a place", "one a run"])
def test_seeds_that_nothing_else_has_are_no_random_effect(*, several: bool) -> None:
    frame = study() if several else study().query("seed == 0")
    label = np.arange(len(frame)) if several else frame.groupby("env").ngroup()
    found = factorial(frame.assign(seed=label))
    assert found.confounded == ("seed",) and set(found.spread) == {"env", "residual"}
    for effect in found.effects:
        assert effect.change.low < TRUE[effect.factor] < effect.change.high


def test_what_is_wrong_with_a_fit_is_said_in_words() -> None:
    found = factorial(study().assign(ood=lambda f: 0.5 + 0.1 * (f["drop_rate"] > 0)))
    said = {"the likelihood has no clear maximum where it stopped"}
    said |= {"the optimiser did not converge", "it met numbers that are not finite"}
    more = set(found.singular) - {
        "the variance between envs is 0",
        "the variance between seeds is 0",
    }
    assert more and more <= said


def test_p_values_of_no_effect_are_adjusted() -> None:
    generator = np.random.default_rng(0)
    frame = study().assign(ood=lambda f: 0.5 + 0.01 * generator.normal(size=len(f)))
    found = factorial(frame)
    assert all(effect.p_value > 0.05 for effect in found.effects)


@pytest.mark.parametrize("seed", range(8))
def test_a_variance_of_zero_is_said(seed: int) -> None:
    generator = np.random.default_rng(seed)
    frame = study().assign(ood=lambda f: 0.5 + 0.01 * generator.normal(size=len(f)))
    # Means of environments that are exactly alike: less than noise alone would make them differ.
    for env in ENVS:
        inside = (frame["env"] == env).to_numpy()
        frame.loc[inside, "ood"] += 0.5 - frame.loc[inside, "ood"].to_numpy().mean()
    assert "the variance between envs is 0" in factorial(frame).singular


def test_factors_that_vary_together_have_no_interaction() -> None:
    frame = study()
    frame = frame[(frame["drop_rate"] == 0) == (frame["lr"] == 1e-3)]
    assert [e.factor for e in factorial(frame).effects] == ["drop_rate", "lr"]


def test_a_factor_that_others_determine_is_left_out_and_named() -> None:
    frame = study()
    decay = frame["lr"].map({1e-3: 1e-5, 1e-4: 1e-4})
    found = factorial(frame.assign(weight_decay=decay))
    assert found.confounded == ("weight_decay",)
    expected = [effect.change.value for effect in factorial(frame).effects]
    assert_allclose([effect.change.value for effect in found.effects], expected)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (grid(lr=1e-3, weight_decay=1e-4, head_lr_factor=1.0, ood=0.5), "no factor that varies"),
        (study().iloc[:5], "the runs hold 5 runs and 3 effects; a grid with more runs"),
        (study().assign(weight_decay=lambda f: f["seed"] * 1e-4), "weight_decay is 0 in some run"),
        (study().query("env == 'ink'").assign(seed=0), "one environment, and one seed or each"),
        (study().assign(ood=0.5), "all 72 runs have the ood accuracy 0.5; accuracies that differ"),
    ],
)
def test_what_makes_no_grid_is_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        factorial(frame)
