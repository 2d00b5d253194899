"""Tests for core/state_dicts.py."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Dropout, Linear, Module, Sequential
from torch.optim.swa_utils import AveragedModel

from core.errors import InputError
from core.state_dicts import WRAPPERS, read_network, read_state_dict


def network() -> Module:
    return Sequential(Linear(3, 4), BatchNorm1d(4))


def saved(contents: object, tmp_path: Path) -> Path:
    torch.save(contents, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


class Algorithm(Module):
    """DomainBed's ERM: featurizer and classifier, alone and in one Sequential."""

    def __init__(self, *, dropout: bool) -> None:
        super().__init__()
        self.featurizer = Module()
        self.featurizer.network = network()
        linear = Linear(4, 2)
        self.classifier = Sequential(Dropout(0.9), linear) if dropout else linear
        self.network = Sequential(self.featurizer, self.classifier)

    def expected(self) -> dict[str, Tensor]:
        """The state dict that its prediction uses."""
        linear = next(m for m in self.classifier.modules() if isinstance(m, Linear))
        head = {f"classifier.{name}": tensor for name, tensor in linear.state_dict().items()}
        return {**self.network[0].network.state_dict(), **head}  # type: ignore[union-attr]


def test_a_bare_state_dict_is_itself(tmp_path: Path) -> None:
    state = network().state_dict()

    assert_same(read_state_dict(saved(state, tmp_path)), state)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_usual_wrappers_are_undone(tmp_path: Path, wrapper: str) -> None:
    state = network().state_dict()
    contents = {"epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}, wrapper: state}

    assert_same(read_state_dict(saved(contents, tmp_path)), state)
    assert read_network(tmp_path / "a.pth").notes == ()


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_of_wrapping_modules_are_undone(tmp_path: Path, prefix: str) -> None:
    state = network().state_dict()
    prefixed = OrderedDict((prefix + name, tensor) for name, tensor in state.items())

    assert_same(read_state_dict(saved({"model": prefixed}, tmp_path)), state)


def test_a_prefix_that_not_every_name_has_belongs_to_the_network(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(2), "head.weight": torch.ones(3)}

    assert_same(read_state_dict(saved(state, tmp_path)), state)


def test_a_moving_average_goes_before_the_weights_and_says_so(tmp_path: Path) -> None:
    average = AveragedModel(network())
    contents = {"model": network().state_dict(), "model_ema": average.state_dict()}

    read = read_network(saved(contents, tmp_path))

    assert_same(read.tensors, average.module.state_dict())
    assert read.notes == ("of model_ema, model the first was read",)


@pytest.mark.parametrize("dropout", [True, False])
def test_domainbed_networks_are_found(tmp_path: Path, dropout: bool) -> None:
    algorithm = Algorithm(dropout=dropout)
    contents = {"args": {"seed": 0}, "model_dict": algorithm.state_dict()}

    read = read_network(saved(contents, tmp_path))

    assert read.has_foreign_classifier
    assert_same(read.tensors, algorithm.expected())
    assert read.notes == ()


def test_domainbed_averages_go_before_the_network_beside_them(tmp_path: Path) -> None:
    algorithm, average = Algorithm(dropout=True), Algorithm(dropout=True)
    algorithm.network_ma = average.network
    algorithm.register_buffer("update_count", torch.tensor([5]))

    read = read_network(saved({"model_dict": algorithm.state_dict()}, tmp_path))

    assert_same(read.tensors, average.expected())
    assert read.notes == ("set aside, since prediction does not use it: update_count",)


def test_domainbed_algorithms_without_a_joint_network_are_found(tmp_path: Path) -> None:
    algorithm = Algorithm(dropout=False)
    expected = algorithm.expected()
    del algorithm.network
    algorithm.discriminator = Linear(4, 3)

    read = read_network(saved({"model_dict": algorithm.state_dict()}, tmp_path))

    assert_same(read.tensors, expected)
    assert read.notes[0].endswith("does not use it: discriminator.weight, discriminator.bias")


def test_a_network_that_only_resembles_domainbed_is_left_alone(tmp_path: Path) -> None:
    state = {"network.0.0.norm.weight": torch.ones(2), "network.1.0.norm.weight": torch.ones(2)}

    assert_same(read_state_dict(saved(state, tmp_path)), state)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_half_precision_becomes_single_and_integers_stay(
    tmp_path: Path, half: torch.dtype
) -> None:
    values = torch.tensor([0.1, -3.0]).to(half)
    contents = {"a": values, "b": values, "c": torch.ones(2).double(), "n": torch.tensor(7)}

    read = read_network(saved(contents, tmp_path))

    assert read.tensors["a"].dtype == torch.float32
    assert torch.equal(read.tensors["a"], values.float())
    assert read.tensors["c"].dtype == torch.float64
    assert read.tensors["n"].dtype == torch.int64
    assert read.dtype == f"{str(half).removeprefix('torch.')}, float64"


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([1, 2], "holds a list; expected tensors by name"),
        (torch.ones(2), "holds a Tensor"),
        ({}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"epoch": 1, "net": {"a": torch.ones(1)}}, r"holds 'epoch' \(int\), 'net' \(dict\)"),
        ({0: torch.ones(1)}, r"holds '0' \(Tensor\)"),
    ],
)
def test_files_without_a_state_dict_are_refused(
    tmp_path: Path, contents: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_state_dict(saved(contents, tmp_path))
