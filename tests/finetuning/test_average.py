"""Tests for finetuning/average.py, finetuning/ensemble.py and what they share, on tiny runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.testing import assert_close

from core.errors import InputError
from core.records import Record
from finetuning.average import METHODS, AverageConfig, make_average
from finetuning.averaging import average, interpolate
from finetuning.config import resolve
from finetuning.ensemble import EnsembleConfig, make_ensemble
from finetuning.evaluation import estimate_statistics, evaluate, held_out_loss, outputs
from finetuning.members import read_members
from finetuning.run_folder import read_metrics
from finetuning.setup import prepare
from finetuning.train import train
from tests.finetuning.tiny import files, tiny_config, weights

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data: Path) -> list[str]:
    """Three runs from one start and one hold-out, with their steps, BatchNorm frozen."""
    root = tmp_path_factory.mktemp("runs")
    shared = {"pretrained": "glyphnet.rich", "split_seed": 0, "drop_rate": 0.5}
    options = {"checkpoint_every": 1, "head_start": "linear_probe", **shared}
    lrs = (5e-4, 1e-3, 2e-3)
    return [
        str(train(tiny_config(data, root / f"run{i}", lr=lr, seed=i, **options)))
        for i, lr in enumerate(lrs)
    ]


def trace(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]


def said(folder: Path) -> dict[str, object]:
    """What an average's options say of it beside the method and the runs."""
    options = yaml.safe_load((folder / "config.yaml").read_text())
    own = {n: v for n, v in options.items() if n.startswith("averaged_") and n != "averaged_runs"}
    shown = {name.removeprefix("averaged_"): value for name, value in own.items()}
    return shown | {"size": options["ensemble_size"]}


def assert_states(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_close(found[name], tensor.to(found[name]))


@pytest.mark.parametrize("method", ["uniform_soup", "diwa"])
def test_a_soup_of_all_runs_is_a_folder_with_the_mean(
    method: str, runs: list[str], tmp_path: Path
) -> None:
    before = [files(Path(run)) for run in runs]
    soup = make_average(
        AverageConfig(runs=tuple(runs), method=method, output=str(tmp_path / "soup"), **CPU)
    )

    assert_states(weights(soup), average(weights(Path(run)) for run in runs))
    assert_states(weights(soup, "init"), weights(Path(runs[0]), "init"))
    (line,) = read_metrics(soup / "metrics.jsonl")
    assert 0 <= line["iid_accuracy"] <= 1 and line["train_loss"] is None
    options = yaml.safe_load((soup / "config.yaml").read_text())
    assert options["average_method"] == method and options["averaged_runs"] == runs
    assert said(soup) == {"weights": "final", "size": 3}
    alone = [read_metrics(Path(run) / "metrics.jsonl")[-1] for run in runs]
    for tried, was in zip(trace(soup), alone, strict=True):
        assert tried["accuracy"] == was["accuracy"]  # measured again as the run did
    assert [files(Path(run)) for run in runs] == before


def test_a_greedy_soup_is_the_mean_of_those_it_chose(runs: list[str], tmp_path: Path) -> None:
    soup = make_average(
        AverageConfig(runs=tuple(runs), method="greedy_soup", output=str(tmp_path / "s"), **CPU)
    )

    alone = [line for line in trace(soup) if "run" in line]
    chosen = [line["run"] for line in alone if line["chosen"]]
    assert_states(weights(soup), average(weights(Path(run)) for run in chosen))
    assert said(soup) == {"weights": "final", "size": len(chosen)}
    (line,) = read_metrics(soup / "metrics.jsonl")
    assert line["iid_accuracy"] >= max(tried["iid_accuracy"] for tried in alone)


def test_a_trajectory_is_the_mean_of_the_steps_kept(runs: list[str], tmp_path: Path) -> None:
    options = {"runs": (runs[0],), "output": str(tmp_path / "t"), "first_step": 3, **CPU}
    folder = make_average(AverageConfig(method="trajectory", **options))

    steps = [weights(Path(runs[0]), f"step_{step:06d}") for step in (3, 4, 5, 6)]
    assert_states(weights(folder), average(steps))
    assert said(folder) == {"first_step": 3, "size": 4}


def test_swad_averages_its_window_of_held_out_losses(runs: list[str], tmp_path: Path) -> None:
    folder = make_average(
        AverageConfig(runs=(runs[2],), method="swad", output=str(tmp_path / "t"), **CPU)
    )

    lines = trace(folder)
    inside = [line["step"] for line in lines if line["chosen"]]
    assert inside == list(range(inside[0], inside[-1] + 1))
    steps = [weights(Path(runs[2]), f"step_{step:06d}") for step in inside]
    assert_states(weights(folder), average(steps))
    assert all(line["iid_loss"] > 0 for line in lines)
    assert said(folder) == {"size": len(inside)}


def test_wise_takes_the_point_with_the_best_iid_accuracy(runs: list[str], tmp_path: Path) -> None:
    folder = make_average(
        AverageConfig(
            runs=(runs[2],), method="wise", output=str(tmp_path / "w"), alphas=(0, 0.5, 1), **CPU
        )
    )

    lines = trace(folder)
    (chosen,) = [line for line in lines if line["chosen"]]
    assert chosen["iid_accuracy"] == max(line["iid_accuracy"] for line in lines)
    run = Path(runs[2])
    expected = interpolate(weights(run, "init"), weights(run), chosen["alpha"])
    assert_states(weights(folder), expected)
    size = 2 if chosen["alpha"] == 0.5 else 1
    assert said(folder) == {"weights": "final", "alphas": [0, 0.5, 1], "size": size}
    assert lines[2]["accuracy"] == read_metrics(run / "metrics.jsonl")[-1]["accuracy"]


def test_statistics_are_estimated_again_unless_they_were_frozen(
    tmp_path: Path, data: Path
) -> None:
    options = {"freeze_bn": False, "split_seed": 0, "steps": 3}
    folders = [
        train(tiny_config(data, tmp_path / f"{s}", seed=s, lr=0.03, **options)) for s in (0, 1)
    ]
    names = tuple(str(folder) for folder in folders)
    soup = make_average(AverageConfig(runs=names, output=str(tmp_path / "soup"), **CPU))

    mean, found = average(weights(folder) for folder in folders), weights(soup)
    differing = {n for n, tensor in found.items() if not torch.equal(tensor, mean[n].to(tensor))}
    assert differing and all("running" in n or "num_batches" in n for n in differing)
    # As a network has them that sees the run's batches: the mean over batches of the first layer.
    config = resolve(tiny_config(data, tmp_path / "x", **options))
    setup = prepare(config)
    setup.model.load_state_dict(found)
    estimate_statistics(config, setup, setup.model)
    again = setup.model.state_dict()
    assert_states({n: t.cpu() for n, t in again.items()}, found)
    frozen = resolve(tiny_config(data, tmp_path / "x", **options | {"freeze_bn": True}))
    setup.model.load_state_dict(mean)
    estimate_statistics(frozen, setup, setup.model)
    assert_states(dict(setup.model.state_dict()), mean)


def test_the_held_out_loss_is_the_mean_cross_entropy_of_training_environments(
    tmp_path: Path, data: Path
) -> None:
    config = resolve(tiny_config(data, tmp_path / "run"))
    setup = prepare(config)
    by_env = []
    for env in setup.train:
        ((logits, labels),) = outputs(config, setup, setup.model.eval(), env)
        assert len(labels) == len(setup.held_out[env])
        chosen = logits.log_softmax(1)[torch.arange(len(labels)), labels]
        by_env.append(-chosen.mean())

    assert held_out_loss(config, setup, setup.model) == pytest.approx(np.mean(by_env))


def test_an_ensemble_of_runs_answers_as_its_members_do(runs: list[str], tmp_path: Path) -> None:
    record = make_ensemble(EnsembleConfig(runs=tuple(runs), output=str(tmp_path / "e"), **CPU))

    assert Record.read(tmp_path / "e").values.equals(record.values)
    values = record.values.set_index(["layer", "env", "at"]).sort_index()
    (first, *_) = members = read_members(runs)
    config = resolve(first.config)
    setup = prepare(config)
    logits = {env: [] for env in setup.domains.environments}
    for member in members:
        setup.model.load_state_dict(member.state("final"))
        evaluate(config, setup, setup.model)
        for env, said in logits.items():
            ((found, labels),) = outputs(config, setup, setup.model, env)
            said.append((found, labels))
    for env, said in logits.items():
        alone = [float(f.argmax(1).eq(y).double().mean()) for f, y in said]
        together = sum(f for f, _ in said).argmax(1).eq(said[0][1]).double().mean()  # type: ignore[union-attr]
        assert values.loc[("logits", env, 1.0), "value"] == pytest.approx(np.mean(alone))
        assert values.loc[("logits", env, 3.0), "value"] == pytest.approx(float(together))
        alike = [values.loc[(way, env, 1.0), "value"] for way in ("probabilities", "features")]
        assert alike == pytest.approx([np.mean(alone)] * 2)
    assert set(values.index.get_level_values("at")) == {1.0, 2.0, 3.0}
    assert (record.values["low"] <= record.values["value"]).all()
    assert dict(zip(record.values["env"], record.values["split"], strict=True)) == {
        **{"art": "iid", "sketch": "iid", "photo": "ood"},
    }


def test_augmented_views_differ_between_members_and_touch_iid_images_only(
    tmp_path: Path, data: Path
) -> None:
    config = resolve(tiny_config(data, tmp_path / "run"))
    setup = prepare(config)
    views = [
        next(outputs(config, setup, lambda x: x, "art", augmented=on, draw=draw))[0]
        for on, draw in ((False, 0), (False, 1), (True, 0), (True, 1), (True, 1))
    ]

    assert torch.equal(views[0], views[1]) and torch.equal(views[3], views[4])
    assert not torch.equal(views[2], views[3]) and not torch.equal(views[0], views[2])


def test_a_trajectory_answers_together(runs: list[str], tmp_path: Path) -> None:
    options = {"runs": (runs[1],), "trajectory": True, "first_step": 4, "augment_iid": True}
    record = make_ensemble(EnsembleConfig(output=str(tmp_path / "e"), **options, **CPU))

    assert set(record.values["at"]) == {1.0, 2.0, 3.0}
    names = [Path(name).name for name in record.provenance["members"]]
    assert names == ["step_000004", "step_000005", "step_000006"]
    assert (record.config["first_step"], record.config["weights"]) == (4, None)


REFUSED = [
    ({"runs": ()}, "no run was given"),
    ({"runs": ("nowhere", "nowhere2")}, "'nowhere' is no finished run folder"),
    ({"method": "swad"}, "--runs names 3; --method swad averages along one run"),
    ({"method": "wise", "alphas": (2.0,), "runs": ("a",)}, "--alphas is"),
    ({"alphas": (0.5,)}, "--alphas was given with --method uniform_soup, which does not use it"),
    ({"first_step": 1}, "--first_step was given with --method uniform_soup"),
    ({"method": "swad", "first_step": 1, "runs": ("a",)}, "--first_step .*--method swad"),
    ({"method": "swad", "weights": "final", "runs": ("a",)}, "--weights .*--method swad"),
    ({"method": "trajectory", "weights": "best", "runs": ("a",)}, "it is for averages of several"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_wrong_options_are_refused(
    options: dict, sentence: str, runs: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        make_average(
            AverageConfig(**{"runs": tuple(runs), "output": str(tmp_path / "x"), **CPU} | options)
        )
    assert not (tmp_path / "x").exists()


def test_runs_that_do_not_fit_are_refused(runs: list[str], tmp_path: Path, data: Path) -> None:
    other = str(train(tiny_config(data, tmp_path / "other", split_seed=1, steps=1, seed=5)))
    for options, sentence in (
        ((runs[0], other), "differ in split_seed .0 and 1."),
        ((runs[0], runs[0]), "a run was given twice"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_members(options)
    own = []
    for name, more in (("1", {}), ("2", {"seed": 2}), ("3", {"tangent": True})):
        options = {"split_seed": 1, "steps": 1, "freeze_bn": True} | more
        own.append(str(train(tiny_config(data, tmp_path / name, **options))))
    average_of = lambda *runs, method: make_average(
        AverageConfig(runs=runs, method=method, output=str(tmp_path / "x"), **CPU)
    )
    with pytest.raises(InputError, match="DiWA averages runs that share their start"):
        average_of(*own[:2], method="diwa")
    with pytest.raises(InputError, match="a run of the tangent model"):
        average_of(*own, method="uniform_soup")
    with pytest.raises(InputError, match="at least two were expected: train it with --checkp"):
        average_of(own[0], method="trajectory")


def test_nothing_is_overwritten_and_an_average_is_no_member(
    runs: list[str], tmp_path: Path
) -> None:
    config = AverageConfig(runs=tuple(runs), output=str(tmp_path / "soup"), **CPU)
    soup = make_average(config)
    before = files(soup)
    with pytest.raises(InputError, match="already exists and is never overwritten"):
        make_average(config)
    assert files(soup) == before
    with pytest.raises(InputError, match="was not made by finetuning.train alone"):
        read_members([str(soup), runs[0]])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"runs": ("a", "b"), "first_step": 9}, "--first_step was given with several runs"),
        ({"runs": ("a",), "trajectory": True, "weights": "best"}, "--weights .*--trajectory"),
    ],
)
def test_options_that_an_ensemble_would_pass_over_are_refused(
    options: dict, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        EnsembleConfig(**options)


def test_every_method_has_a_choice() -> None:
    assert set(AverageConfig.__dataclass_fields__["method"].type.__args__) == set(METHODS)
