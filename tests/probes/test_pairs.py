"""Tests for probes/pairs.py, on the embedded fine-tunings."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from core.domains import holdout, load_domains
from core.errors import InputError
from probes.pairs import Pair, load_pairs
from probes.sources import PairOptions, example_runs
from tests.image_files import write_domains

ERM, DROPOUT, SCRATCH = example_runs()
ERM_FILE = str(Path(ERM) / "final.safetensors")


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


def pairs(*finetuned: str, **options: object) -> tuple[Pair, ...]:
    return load_pairs(PairOptions(finetuned=finetuned, **options)).pairs  # type: ignore[arg-type]


def edited(place: Path, **options: object) -> str:
    """A copy of the ERM run whose `config.yaml` says something else."""
    shutil.copytree(ERM, place)
    config = yaml.safe_load((place / "config.yaml").read_text())
    (place / "config.yaml").write_text(yaml.safe_dump(config | options))
    return str(place)


def test_a_run_folder_says_everything_itself() -> None:
    comparison = load_pairs(PairOptions(finetuned=(DROPOUT,)))
    assert comparison.model_name == "glyphnet"
    assert comparison.transform == "digits"
    assert comparison.data_config["input_size"] == (3, 32, 32)
    assert not comparison.model.training
    (pair,) = comparison.pairs
    init = load_file(Path(DROPOUT) / "init.safetensors")
    final = load_file(Path(DROPOUT) / "final.safetensors")
    assert pair.weights0.keys() == pair.weights1.keys()
    for name in pair.weights0:
        assert torch.equal(pair.weights0[name], init[name])
        assert torch.equal(pair.weights1[name], final[name])
    assert any("running_var" in name for name in pair.weights0)
    assert not any("num_batches_tracked" in name for name in pair.weights0)


def test_facts_come_from_the_run() -> None:
    erm, dropout, scratch = pairs(ERM, DROPOUT, SCRATCH)
    assert [p.facts["drop_rate"] for p in (erm, dropout, scratch)] == [0.0, 0.9, 0.0]
    assert [p.facts["from_scratch"] for p in (erm, dropout, scratch)] == [False, False, True]
    last = (Path(ERM) / "metrics.jsonl").read_text().splitlines()[-1]
    assert erm.facts["train_loss"] == json.loads(last)["train_loss"]
    assert erm.facts["test_envs"] == ["rotated"]
    assert erm.facts["sha256"] != erm.facts["pretrained_sha256"] != dropout.facts["sha256"]


def test_iid_images_are_those_that_the_run_held_out() -> None:
    (pair,) = pairs(ERM)
    split_seed = yaml.safe_load((Path(ERM) / "config.yaml").read_text())["split_seed"]
    for name, env in load_domains("digits").environments.items():
        kept, held_out = holdout(env, split_seed)
        if name == "rotated":
            assert sorted(pair.images[name]) == list(range(len(env)))
        else:
            np.testing.assert_array_equal(pair.images[name], held_out)
            assert not set(pair.images[name]) & set(kept)
    iid = sum(len(pair.images[env]) for env, split in pair.splits.items() if split == "iid")
    assert pair.facts["iid_images"] == iid
    assert pair.facts["ood_images"] == len(pair.images["rotated"])


def test_the_hold_out_follows_the_split_seed_of_the_run(tmp_path: Path) -> None:
    other = pairs(edited(tmp_path / "r", split_seed=7))[0]
    assert not np.array_equal(other.images["ink"], pairs(ERM)[0].images["ink"])


def test_the_best_weights_on_request(tmp_path: Path) -> None:
    run = edited(tmp_path / "r")
    best = load_file(ERM_FILE)
    best["fc.bias"] = best["fc.bias"] + 1
    save_file(best, Path(run) / "best.safetensors")
    (pair,) = pairs(run, weights="best")
    assert torch.equal(pair.weights1["fc.bias"], best["fc.bias"])
    assert pair.facts["checkpoint"].endswith("best.safetensors")
    with pytest.raises(InputError, match=r"no best\.safetensors"):
        pairs(ERM, weights="best")


def test_a_checkpoint_file_lends_its_classifier_to_the_pretrained_network() -> None:
    (pair,) = pairs(ERM_FILE, pretrained="glyphnet.rich", test_env=("rotated",))
    assert pair.facts["head"] == "fine-tuned head on both sides"
    for name in ("fc.weight", "fc.bias"):
        assert torch.equal(pair.weights0[name], pair.weights1[name])
    body = "layer4.0.conv1.weight"
    assert torch.equal(pair.weights0[body], pairs(ERM)[0].weights0[body])
    assert pair.splits == {
        "ink": "given",
        "outline": "given",
        "photo": "given",
        "rotated": "ood",
    }
    assert all(len(i) == len(set(i)) for i in pair.images.values())
    assert pair.facts["seed"] is None
    assert not pair.facts["from_scratch"]


def test_another_pretrained_checkpoint_for_a_run_takes_the_fine_tuned_head(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for own in (None, "glyphnet.rich", str(Path(ERM) / "init.safetensors")):
        pairs(ERM, pretrained=own)
        assert "is compared with" not in caplog.text
    (pair,) = pairs(ERM, pretrained="glyphnet.plain")
    assert "erm-s0' was fine-tuned from 'glyphnet.rich' and is compared with" in caplog.text
    assert pair.facts["head"] == "fine-tuned head on both sides"
    assert pair.splits["ink"] == "iid"
    assert torch.equal(pair.weights0["fc.weight"], pair.weights1["fc.weight"])
    assert not torch.equal(
        pair.weights0["conv1.0.weight"], pairs(ERM)[0].weights0["conv1.0.weight"]
    )


def test_the_pretrained_classifier_may_have_other_classes(tmp_path: Path) -> None:
    state = load_file(Path(ERM) / "init.safetensors")
    state["fc.weight"], state["fc.bias"] = torch.zeros(26, 512), torch.zeros(26)
    save_file(state, tmp_path / "letters.safetensors")
    (pair,) = pairs(ERM_FILE, pretrained=str(tmp_path / "letters.safetensors"))
    assert pair.weights0["fc.weight"].shape == (10, 512)


def test_labels_are_the_shortest_ends_that_differ(tmp_path: Path) -> None:
    def labels(*finetuned: str) -> list[str]:
        return [pair.run for pair in pairs(*finetuned, pretrained="glyphnet.plain")]

    assert labels(ERM, DROPOUT) == ["erm-s0", "dropout0.9-s0"]
    assert labels(ERM_FILE) == ["final"]
    assert labels(ERM_FILE, str(Path(DROPOUT) / "final.safetensors")) == [
        "erm-s0/final",
        "dropout0.9-s0/final",
    ]
    deep = [edited(tmp_path / seed / "runs" / "erm") for seed in ("s0", "s1")]
    assert labels(*deep) == ["s0/runs/erm", "s1/runs/erm"]
    for suffix in ("safetensors", "pt"):  # one file in two formats
        path = tmp_path / f"w.{suffix}"
        state = load_file(ERM_FILE)
        save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    assert labels(str(tmp_path / "w.safetensors"), str(tmp_path / "w.pt")) == [
        "w.safetensors",
        "w.pt",
    ]


def test_options_overrule_what_a_run_says(tmp_path: Path) -> None:
    write_domains(tmp_path / "data")
    state = load_file(ERM_FILE)
    state["fc.weight"], state["fc.bias"] = torch.randn(2, 512), torch.zeros(2)
    save_file(state, tmp_path / "two.safetensors")
    comparison = load_pairs(
        PairOptions(
            finetuned=(str(tmp_path / "two.safetensors"),),
            pretrained="glyphnet.rich",
            data=str(tmp_path / "data"),
            envs=("sketch",),
            image_size=48,
        )
    )
    assert list(comparison.domains.environments) == ["sketch"]
    assert comparison.transform == "timm"
    assert comparison.data_config["input_size"] == (3, 48, 48)
    assert len(comparison.pairs[0].images["sketch"]) == 6


REFUSED = {
    "no such file": ({"finetuned": ("nowhere",)}, "no 'nowhere'"),
    "no pretrained": ({"finetuned": (ERM_FILE,)}, "give .* as --pretrained"),
    "identical": ({"finetuned": (ERM_FILE,), "pretrained": ERM_FILE}, "the same weights"),
    "twice": ({"finetuned": (ERM, ERM)}, "a checkpoint twice"),
    "unknown environment": ({"envs": ("moon",)}, "'moon' is not in"),
    "unknown test": ({"test_env": ("moon",)}, "'moon' is not among ink, outline, photo, rotated"),
    "trained on it": ({"test_env": ("ink",)}, "was trained on 'ink'"),
    "unknown model": ({"model": "resnet5"}, "not a model"),
    "other model": ({"model": "test_resnet"}, "final"),
}
DAMAGED = {
    "damaged options": (
        "model: glyphnet\nlr: [1\n",
        r"config\.yaml' cannot be read as YAML \(line 3: ",
    ),
    "options missing": ("model: glyphnet\n", r"config\.yaml' lacks model_kwargs, data, .*restore"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_do_not_fit_are_refused(case: str) -> None:
    options, expected = REFUSED[case]
    assert_refused({"finetuned": (ERM,)} | options, expected)


@pytest.mark.parametrize(("option", "value"), [("model", "resnet18"), ("data", "PACS")])
def test_runs_that_differ_are_refused(option: str, value: str, tmp_path: Path) -> None:
    other = edited(tmp_path / "r", **{option: value})
    first = {"model": "glyphnet", "data": "digits"}[option]
    assert_refused({"finetuned": (ERM, other)}, rf"differ in {option} \({first}, {value}\)")


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_options_of_a_run_are_refused(case: str, tmp_path: Path) -> None:
    text, expected = DAMAGED[case]
    run = edited(tmp_path / "r")
    (Path(run) / "config.yaml").write_text(text)
    assert_refused({"finetuned": (run,)}, expected)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    run = edited(tmp_path / "r")
    (Path(run) / "final.safetensors").unlink()
    assert_refused({"finetuned": (run,)}, r"no final\.safetensors.*finish the run")


@pytest.mark.parametrize("num_classes", [10, 26])
def test_a_checkpoint_that_differs_in_its_classifier_is_refused(
    num_classes: int, tmp_path: Path
) -> None:
    state, before = load_file(ERM_FILE), str(tmp_path / "before.safetensors")
    state["fc.weight"], state["fc.bias"] = torch.zeros(num_classes, 512), torch.zeros(num_classes)
    save_file(state, before)
    expected = "final.*only in its classifier.*before.*nothing to linearise.*fine-tuned"
    assert_refused({"finetuned": (ERM_FILE,), "pretrained": before}, expected)


def test_images_of_other_classes_are_refused(tmp_path: Path) -> None:
    write_domains(tmp_path / "data")
    options = {"finetuned": (ERM,), "data": str(tmp_path / "data"), "transform": "timm"}
    assert_refused(options, "a classifier of the 2 classes")


def test_a_run_named_again_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ERM)
    assert_refused({"finetuned": (ERM, str(tmp_path / "link"))}, "a checkpoint twice")


def assert_refused(options: dict, expected: str) -> None:
    with pytest.raises(InputError) as error:
        load_pairs(PairOptions(**options))
    sentence = str(error.value)
    assert re.search(expected, sentence), sentence
    assert "\n" not in sentence
