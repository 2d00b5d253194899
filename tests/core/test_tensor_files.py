"""Tests for core/tensor_files.py."""

import argparse
import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import InputError
from core.tensor_files import read_contents, read_metadata, save_state_dict, sha256

STATE = {
    "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "count": torch.tensor(3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
}


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def assert_same(actual: object, expected: dict[str, Tensor]) -> None:
    assert isinstance(actual, dict) and actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert torch.equal(actual[name], tensor)


def test_the_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)

    assert sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)

    assert_same(read_contents(tmp_path / name), STATE)


def test_a_header_length_that_looks_like_a_pickle_or_zip_does_not_confuse(tmp_path: Path) -> None:
    starts = set()
    for padding in [*range(0, 256, 8), *range(0x4B50 - 128, 0x4B50, 8)]:
        save_file({"a": torch.ones(1)}, tmp_path / "a.bin", metadata={"x": " " * padding})
        start = (tmp_path / "a.bin").read_bytes()[:2]
        if start[:1] == b"\x80" or start == b"PK":
            assert_same(read_contents(tmp_path / "a.bin"), {"a": torch.ones(1)})
            starts.add(start[:1])
    assert starts == {b"\x80", b"P"}


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_of_either_format_are_read(tmp_path: Path, zipped: bool) -> None:
    torch.save(STATE, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)

    assert_same(read_contents(tmp_path / "a.pth"), STATE)


def test_a_pickle_protocol_that_torch_cannot_read_safely_is_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pth", pickle_protocol=4)

    with pytest.raises(InputError, match="or is not of protocol 2; expected tensors only"):
        read_contents(tmp_path / "a.pth")


def test_plain_values_beside_the_weights_are_read(tmp_path: Path) -> None:
    scalars = [np.float64(0.5), np.float32(2), np.int64(3), np.bool_(True), np.str_("sgd")]
    contents = {"args": argparse.Namespace(lr=0.1), "hparams": scalars, "state_dict": STATE}
    torch.save(contents, tmp_path / "a.pth")

    read = read_contents(tmp_path / "a.pth")

    assert isinstance(read, dict)
    assert read["hparams"] == scalars
    assert read["args"] == contents["args"]


@pytest.mark.parametrize("writer", ["torch", "torch-legacy", "pickle"])
def test_a_pickle_with_code_is_refused_in_one_sentence_and_never_run(
    tmp_path: Path, writer: str
) -> None:
    path, trap = tmp_path / "a.pth", tmp_path / "trap"
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"weight": Malicious(trap)}))
    else:
        zipped = writer == "torch"
        torch.save({"x": Malicious(trap)}, path, _use_new_zipfile_serialization=zipped)

    with pytest.raises(InputError, match="refused because its pickle carries code") as caught:
        read_contents(path)

    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")

    with pytest.raises(InputError, match=r"code or objects, .* torch\.save\(model\.state_dict"):
        read_contents(tmp_path / "a.pth")


@pytest.mark.parametrize("kept", [0.001, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("writer", ["safetensors", "torch", "torch-legacy"])
def test_truncated_files_are_refused(tmp_path: Path, writer: str, kept: float) -> None:
    path = tmp_path / ("a.safetensors" if writer == "safetensors" else "a.pth")
    state = {"weight": torch.ones(100, 100)}
    if writer == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=writer == "torch")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])

    with pytest.raises(InputError, match=r"no complete (safetensors|torch) file .*; expected a"):
        read_contents(path)


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    (tmp_path / "a.txt").write_text("weights, honestly\n")
    (tmp_path / "a.safetensors").write_text("weights, honestly\n")
    (tmp_path / "empty.pth").touch()

    with pytest.raises(InputError, match="no complete torch file"):
        read_contents(tmp_path / "a.zip")
    with pytest.raises(InputError, match="neither a safetensors nor a torch file"):
        read_contents(tmp_path / "a.txt")
    with pytest.raises(InputError, match="no complete safetensors file"):
        read_contents(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"empty\.pth' is empty"):
        read_contents(tmp_path / "empty.pth")


@pytest.mark.parametrize("read", [read_contents, read_metadata, sha256])
def test_folders_and_missing_files_are_refused(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(InputError, match=r"is a folder; expected .*; name a file"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"no file '.*gone\.pth'"):
        read(tmp_path / "gone.pth")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch(mode=0)

    with pytest.raises(InputError, match=r"a\.pth' may not be read"):
        read_contents(tmp_path / "a.pth")


def test_a_saved_state_dict_comes_back_with_its_metadata(tmp_path: Path) -> None:
    metadata = {"model": "resnet18", "step": 3, "notes": ["a", {"b": None}]}

    save_state_dict(STATE, tmp_path / "a.safetensors", metadata)

    assert_same(load_file(tmp_path / "a.safetensors"), STATE)
    assert read_metadata(tmp_path / "a.safetensors") == metadata
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, metadata in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        save_state_dict(STATE, tmp_path / name, metadata)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_a_saved_file_has_the_permissions_of_any_other_new_file(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        save_state_dict(STATE, tmp_path / "a.safetensors", {})
        (tmp_path / "other").touch()
    finally:
        os.umask(before)

    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes["a.safetensors"] == modes["other"]


def test_views_and_other_layouts_are_saved_by_value(tmp_path: Path) -> None:
    flat = torch.randn(32)
    state = {
        "tied": flat[:16],
        "twin": flat[:16],
        "transposed": flat.reshape(4, 8).T,
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }

    save_state_dict(state, tmp_path / "a.safetensors", {})

    assert_same(load_file(tmp_path / "a.safetensors"), state)


def test_metadata_of_another_program_is_empty(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors", metadata={"format": "pt"})

    assert read_metadata(tmp_path / "a.safetensors") == {}


def test_metadata_of_a_torch_file_is_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pth")

    with pytest.raises(InputError, match="no complete safetensors file"):
        read_metadata(tmp_path / "a.pth")


def test_an_unwritable_place_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(InputError, match="cannot be written"):
        save_state_dict(STATE, tmp_path / "nowhere" / "a.safetensors", {})
    with pytest.raises(InputError, match="cannot be written"):
        save_state_dict(STATE, tmp_path / "folder", {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    save_state_dict(STATE, tmp_path / "a.safetensors", {})
    monkeypatch.setattr("core.tensor_files.save_file", write_half)

    with pytest.raises(KeyboardInterrupt):
        save_state_dict({"a": torch.ones(1)}, tmp_path / "a.safetensors", {})

    assert_same(read_contents(tmp_path / "a.safetensors"), STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_metadata_that_json_cannot_hold_is_an_error_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_state_dict(STATE, tmp_path / "a.safetensors", {"x": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_state_dict(STATE, tmp_path / "a.safetensors", {"x": float("nan")})
    assert not list(tmp_path.iterdir())
