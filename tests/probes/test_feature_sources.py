"""Tests for probes/feature_sources.py, on the embedded fine-tunings."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.digits import digit_environments
from core.domains import holdout, load_domains
from core.errors import InputError
from core.models import create_model, residual_blocks
from core.tensor_files import sha256
from core.transforms import digits_eval_batch
from probes.feature_sources import FeatureOptions, FeatureSet, Part, load_features
from probes.sources import example_runs
from tests.image_files import write_domains

ERM, DROPOUT, SCRATCH = example_runs()
ERM_FILE = str(Path(ERM) / "final.safetensors")
ENVS = ("ink", "rotated")  # one that was trained on, one that was not


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def options(shared_cache: str) -> dict:
    return {"checkpoints": (ERM,), "envs": ENVS, "samples": 8, "cache": shared_cache}


def load(options: dict, **changes: object) -> list[FeatureSet]:
    return load_features(FeatureOptions(**(options | changes)))


def part(found: FeatureSet, env: str, split: str) -> Part:
    (only,) = [p for p in found.parts if (p.env, p.split) == (env, split)]
    return only


def test_a_run_folder_gives_the_network_before_and_after(options: dict) -> None:
    before, after = load(options)
    assert [before.run, after.run] == ["erm-s0/init", "erm-s0"]
    assert before.checkpoint == sha256(Path(ERM) / "init.safetensors")
    assert after.checkpoint == sha256(ERM_FILE)
    assert {(s.model, s.seed) for s in (before, after)} == {("glyphnet", 0)}
    assert after.facts["drop_rate"] == 0.0
    assert after.facts["images"] == {"ink/train": 8, "ink/iid": 8, "rotated/ood": 8}
    assert after.data_facts["classes"] == list("0123456789")
    assert [found.run for found in load(options, with_init=False)] == ["erm-s0"]


def test_features_are_those_of_the_checkpoint_on_the_images_of_the_part(options: dict) -> None:
    _, found = load(options, layers=("features", "logits"))
    state = load_file(ERM_FILE)
    np.testing.assert_array_equal(found.weight, state["fc.weight"].numpy())
    np.testing.assert_array_equal(found.bias, state["fc.bias"].numpy())
    model = create_model("glyphnet", 10).eval()
    model.load_state_dict(state)
    config = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    for p in found.parts:
        images, labels = digit_environments()[p.env]
        x = digits_eval_batch(torch.from_numpy(images[p.images]), config)
        with torch.no_grad():
            logits = model(x).numpy()
        np.testing.assert_array_equal(p.labels, labels[p.images])
        np.testing.assert_array_equal(p.features["logits"], logits)
        assert found.weight is not None
        assert found.bias is not None
        product = p.features["features"].astype(float) @ found.weight.astype(float).T + found.bias
        # float32 sums of 512 products against float64 ones
        np.testing.assert_allclose(product, p.features["logits"], atol=1e-4)
        assert (p.features["logits"].argmax(1) == p.labels).mean() > 0.3


def test_parts_are_split_as_the_run_split_them(options: dict) -> None:
    _, found = load(options, samples=0)
    env = load_domains("digits").environments["ink"]
    kept, held_out = holdout(env, 0)
    np.testing.assert_array_equal(part(found, "ink", "train").images, kept)
    np.testing.assert_array_equal(part(found, "ink", "iid").images, held_out)
    rotated = part(found, "rotated", "ood").images
    assert sorted(rotated) == list(range(len(rotated)))
    assert len(found.parts) == 3


def test_samples_are_the_first_of_a_random_order(options: dict) -> None:
    _, few = load(options)
    _, all_of_them = load(options, samples=0)
    for p in few.parts:
        whole = part(all_of_them, p.env, p.split)
        np.testing.assert_array_equal(p.images, whole.images[:8])
        np.testing.assert_array_equal(p.labels, whole.labels[:8])
        # Another batch, another order of sums.
        np.testing.assert_allclose(
            p.features["features"], whole.features["features"][:8], rtol=1e-4, atol=1e-5
        )
        assert len(set(p.labels)) > 2


def test_a_checkpoint_file_alone_knows_no_splits(options: dict) -> None:
    (found,) = load(options, checkpoints=(ERM_FILE,))
    assert (found.run, found.seed) == ("final", None)
    assert [(p.env, p.split) for p in found.parts] == [("ink", "given"), ("rotated", "given")]
    (found,) = load(options, checkpoints=(ERM_FILE,), test_env=("rotated",))
    assert [p.split for p in found.parts] == ["given", "ood"]


def test_the_pretrained_network_has_features_and_no_logits(
    options: dict, caplog: pytest.LogCaptureFixture
) -> None:
    layers = ("features", "logits")
    (found,) = load(options, checkpoints=("glyphnet.rich",), layers=layers)
    assert found.run == "glyphnet_rich"
    assert found.weight is None
    assert found.bias is None
    assert all(list(p.features) == ["features"] for p in found.parts)
    assert "logits are left out" in caplog.text


def test_blocks_by_name_or_all(options: dict) -> None:
    blocks = residual_blocks(create_model("glyphnet", 10))
    (found,) = load(options, with_init=False, layers=("blocks",))
    assert all(tuple(p.features) == blocks for p in found.parts)
    (one,) = load(options, with_init=False, layers=("layer3.1",))
    for p, q in zip(found.parts, one.parts, strict=True):
        np.testing.assert_array_equal(p.features["layer3.1"], q.features["layer3.1"])


def test_a_second_probe_reads_the_cache(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(options)
    monkeypatch.setattr("core.features.image_loader", None)
    second = load(options, batch_size=3)
    for a, b in zip(first, second, strict=True):
        for p, q in zip(a.parts, b.parts, strict=True):
            np.testing.assert_array_equal(p.features["features"], q.features["features"])


def test_double_precision_agrees_with_single(options: dict) -> None:
    (single,), (double,) = (
        load(options, with_init=False, dtype=dtype) for dtype in ("float32", "float64")
    )
    for p, q in zip(single.parts, double.parts, strict=True):
        a, b = p.features["features"], q.features["features"]
        assert (a.dtype, b.dtype) == (np.float32, np.float64)
        # single precision, through some twenty layers
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_the_embedded_example_where_nothing_is_named(
    options: dict, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = load(options, checkpoints=())
    runs = ["erm-s0", "dropout0.9-s0", "scratch-s0"]
    assert [s.run for s in found] == [f"{run}{end}" for run in runs for end in ("/init", "")]
    assert "embedded example" in caplog.text


def test_an_image_folder_of_other_classes(options: dict, tmp_path: Path) -> None:
    data = str(write_domains(tmp_path / "data"))
    changes = {"data": data, "envs": (), "checkpoints": (ERM_FILE,), "image_size": 48}
    (found,) = load(options, **changes)
    assert [(p.env, p.split, len(p.labels)) for p in found.parts] == [
        ("art", "given", 6),
        ("sketch", "given", 6),
    ]
    assert found.weight is None
    assert found.data_facts["image_shape"] == [3, 48, 48]
    assert_refused({**options, **changes, "layers": ("logits",)}, "has no logits for these images")


def write_features(folder: Path, *, envs: list[str] | None = None) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    extra = {} if envs is None else {"envs": np.array(envs)}
    for name in ("a", "b"):
        x = rng.standard_normal((6, 4))
        np.savez(folder / f"{name}.npz", features=x, labels=np.arange(6) % 3, **extra)
    return str(folder / "a.npz"), str(folder / "b.npz")


def test_files_of_features_are_sets_of_the_same_examples(tmp_path: Path) -> None:
    paths = write_features(tmp_path)
    first, other = load({"features": paths})
    assert [first.run, other.run] == ["a", "b"]
    assert first.checkpoint == sha256(paths[0])
    assert first.weight is first.seed is None
    (only,) = other.parts
    assert (only.env, only.split) == ("all", "given")
    assert only.images.tolist() == list(range(6))
    np.testing.assert_array_equal(only.features["features"], np.load(paths[1])["features"])


def test_files_of_features_are_divided_by_environment(tmp_path: Path) -> None:
    paths = write_features(tmp_path, envs=["b", "a", "b", "a", "b", "a"])
    found, _ = load({"features": paths})
    assert [(p.env, p.images.tolist()) for p in found.parts] == [
        ("a", [1, 3, 5]),
        ("b", [0, 2, 4]),
    ]
    for p in found.parts:
        rows = np.load(paths[0])["features"][p.images]
        np.testing.assert_array_equal(p.features["features"], rows)
        np.testing.assert_array_equal(p.labels, p.images % 3)


REFUSED = {
    "no such checkpoint": ({"checkpoints": ("nowhere",)}, "no 'nowhere'; .*check --checkpoints"),
    "twice": ({"checkpoints": (ERM, ERM)}, "--checkpoints names a checkpoint twice"),
    "unknown layer": (
        {"layers": ("layer9",)},
        "'layer9' is not in GlyphNet; .*layer1.0, layer2.0, layer3.0, layer3.1, layer4.0",
    ),
    "no class token": ({"layers": ("blocks",), "pooling": "token"}, "layer1.0.*no class token"),
    "unknown environment": ({"envs": ("moon",)}, "'moon' is not in"),
    "unknown test": ({"test_env": ("moon",)}, "'moon' is not among ink, rotated"),
    "trained on it": ({"test_env": ("ink",)}, "was trained on 'ink'"),
    "other model": ({"model": "test_resnet"}, "does not fit 'test_resnet'"),
    "other device": ({"device": "abacus"}, "device 'abacus' cannot be used"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_do_not_fit_are_refused(options: dict, case: str) -> None:
    changes, expected = REFUSED[case]
    assert_refused(options | changes, expected)


def test_a_cache_that_cannot_be_written_is_refused(options: dict, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(options | {"cache": str(tmp_path / "file")}, "choose another --cache")


def test_runs_of_other_models_are_refused_by_the_right_flag(options: dict, tmp_path: Path) -> None:
    shutil.copytree(ERM, tmp_path / "r")
    config = tmp_path / "r" / "config.yaml"
    config.write_text(config.read_text().replace("model: glyphnet", "model: resnet18"))
    runs = (ERM, str(tmp_path / "r"))
    assert_refused(
        options | {"checkpoints": runs}, "differ in model .*give fewer to --checkpoints"
    )


def test_nan_in_the_features_is_refused(options: dict, tmp_path: Path) -> None:
    state = load_file(ERM_FILE)
    state["layer4.2.bn3.weight"][:] = 3e38  # finite, unlike what comes of it
    save_file(state, tmp_path / "huge.safetensors")
    path = str(tmp_path / "huge.safetensors")
    assert_refused(options | {"checkpoints": (path,)}, "layer 'features' gives NaN or infinity")


def test_one_example_or_one_class_is_refused(options: dict, tmp_path: Path) -> None:
    one = {"features": write_features(tmp_path, envs=[*"aaaaa", "b"])}
    assert_refused(one, "environment 'b' has 1 example .*at least 2")
    root = write_domains(tmp_path / "data", envs=("art",))
    shutil.rmtree(root / "art" / "dog")
    images = {"checkpoints": (ERM_FILE,), "data": str(root), "envs": ()}
    assert_refused(options | images, "of class 0; at least two classes")


def assert_refused(options: dict, expected: str) -> None:
    with pytest.raises(InputError) as error:
        load(options)
    sentence = str(error.value)
    assert re.search(expected, sentence), sentence
    assert "\n" not in sentence
