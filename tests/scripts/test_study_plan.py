"""Tests for scripts/study: what its protocols hold, and which runs follow from them."""

from collections import Counter
from dataclasses import replace

import pytest

from analysis.runs import DROP_RATE
from core.errors import InputError
from finetuning.config import TrainConfig
from finetuning.linear.config import LinearConfig
from scripts.study.config import StudyConfig, base_run, settled
from scripts.study.plan import environments, network_runs, plan, timed_pairs
from scripts.study.probing import RICHNESS, probes
from scripts.study.protocols import PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_what_the_claims_compare(name: str) -> None:
    config = StudyConfig(protocol=name)
    scale = config.scale
    assert scale.cells[0] == (1.0, 1.0) and len(set(scale.cells)) == len(scale.cells) >= 2
    assert {0.0, DROP_RATE} < set(scale.drop_rates) and len(scale.seeds) >= 2
    assert {0.0, DROP_RATE} <= set(scale.scratch_rates) and min(scale.fractions) < 1
    planned = plan(config, environments(config))
    groups = {one.group for one in planned}
    assert len(groups) == 9 and len({one.name for one in planned}) == len(planned)
    base = base_run(config)
    assert base.steps is not None and base.eval_every is not None
    assert base.steps // base.eval_every >= 2  # checkpoints that an average can be made of


def test_the_plan_holds_every_combination_once() -> None:
    config = StudyConfig(protocol="mini", seeds=(3, 4))
    planned = plan(config, ("ink", "photo"))
    scale, places = config.scale, 2 * 2
    counts = Counter(one.group for one in planned)
    rates, cells = len(scale.drop_rates), len(scale.cells)
    assert counts["main"] == places * cells * rates
    assert counts["fast"] == places * scale.fast_cells * 2
    assert counts["size"] == places * len(scale.fractions) * rates
    assert counts["poorer"] == places * 2 and counts["noise"] == places * len(scale.noises)
    assert counts["placement"] == places * len(scale.placements) * len(scale.placed_rates)
    assert counts["tangent"] == places * len(scale.tangent_rates)
    assert counts["linear"] == places * rates
    assert counts["scratch"] == places * len(scale.scratch_rates)
    main = {
        (r.test_env, r.seed, r.drop_rate, r.lr, r.weight_decay)
        for r in network_runs(planned, "main")
    }
    assert len(main) == counts["main"]


def test_environments_have_seeds_of_their_own() -> None:
    planned = plan(StudyConfig(seeds=(0, 2)), ("ink", "photo"))
    seeds = {(one.config.test_env, one.config.seed) for one in planned}
    assert seeds == {(("ink",), 0), (("ink",), 2), (("photo",), 3), (("photo",), 5)}


def test_what_seeds_share_is_called_the_same_whichever_are_finished() -> None:
    config = StudyConfig()
    planned = plan(config, ("ink", "photo"))
    richness = lambda runs: {job.name for job in probes(config, runs) if job.kind == RICHNESS}
    names = richness(planned)
    assert len(names) == 2 * len(config.scale.cells) * 2 and "richness/ink-main-c0-r0" in names
    for seed in (0, 2):  # the first of an environment each
        assert richness([one for one in planned if one.config.seed != seed]) == names


def test_the_papers_grid_is_the_papers() -> None:
    config = StudyConfig(protocol="paper", data="PACS", model="resnet50", pretrained="v2", lr=1e-3)
    runs = network_runs(plan(config, ("photo",)), "main")
    cells = {(r.lr, round(r.weight_decay or 0, 9)) for r in runs}
    assert cells == {(lr, wd) for lr in (1e-3, 5e-4) for wd in (1e-4, 5e-5, 1e-5)}
    assert {r.steps for r in runs} == {None}  # the preset's
    base = base_run(config)
    assert (base.steps, base.milestones, base.eval_every) == (10_001, (5_000, 10_000), 300)
    assert not config.poorer_weights and base.batch_size == 32


def test_kept_checkpoints_are_those_that_averages_are_made_of() -> None:
    planned = plan(StudyConfig(), ("photo",))
    kept = [one for one in planned if one.trajectory]
    assert {one.group for one in kept} == {"main", "fast", "poorer"}
    for one in kept:
        run = one.config
        assert isinstance(run, TrainConfig) and run.drop_rate in {0.0, DROP_RATE}
        assert run.average == (run.checkpoint_every,) == (run.average_from,)


def test_linear_models_have_the_learning_rates_of_all_cells() -> None:
    (one, *_) = [o for o in plan(StudyConfig(lr=0.1), ("ink",)) if o.group == "linear"]
    assert isinstance(one.config, LinearConfig)
    assert one.config.lr == pytest.approx((0.03, 0.1)) and one.config.test_env == ("ink",)


def test_timed_pairs_differ_in_dropout_alone_and_alternate() -> None:
    config = StudyConfig()
    pairs = timed_pairs(config, plan(config, ("ink", "photo")))
    assert len(pairs) == config.scale.timed
    rates = [(one.drop_rate, other.drop_rate) for one, other in pairs]
    assert rates[:2] == [(0.0, DROP_RATE), (DROP_RATE, 0.0)]
    for one, other in pairs:
        changed = {"drop_rate": other.drop_rate, "output": other.output}
        assert replace(one, **changed) == other


def test_options_of_the_study_take_precedence() -> None:
    config = settled(StudyConfig(steps=50, batch_size=3, seeds=(7,)))
    assert (config.steps, config.milestones, config.eval_every) == (50, (25,), 10)
    assert config.batch_size == 3 and config.seeds == (7,)
    assert StudyConfig().poorer_weights == "glyphnet.plain"
    assert StudyConfig(poorer="none").poorer_weights is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": (1, 1)}, "none twice"),
        ({"seeds": (-1,)}, "--seed is -1"),
        ({"poorer": "glyphnet.rich"}, "--poorer is glyphnet.rich, as is --pretrained"),
        ({"pretrained": "none"}, "starts from pretrained weights"),
        ({"batch_size": 0}, "--batch_size is 0"),
        ({"backend": "ray", "device": "cuda:1"}, "--device is cuda:1 and --backend ray"),
        ({"backend": "slurm", "scheduler": "a:1"}, "--scheduler was given with --backend slurm"),
        ({"steps": 15}, "--steps is 15 and --eval_every 10"),
        ({"steps": 30, "eval_every": 16}, "--steps is 30 and --eval_every 16"),
        ({"protocol": "paper", "eval_every": 300}, "--steps is 400 and --eval_every 300"),
    ],
)
def test_options_that_make_no_sense_are_a_sentence(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StudyConfig(**options)
