"""Tests for core/device.py."""

import subprocess
import sys

import pytest
import torch

from core.device import AMP_DTYPES, autocast, full_precision, select_device
from core.errors import InputError

HAS_ACCELERATOR = torch.accelerator.is_available()


def test_auto_takes_the_accelerator_where_there_is_one() -> None:
    chosen = select_device("auto")

    assert (chosen.type != "cpu") == HAS_ACCELERATOR
    assert torch.zeros(1, device=chosen).device.type == chosen.type


def test_a_name_is_that_device() -> None:
    assert select_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "", "cuda:many", "cpu cuda"])
def test_an_unknown_device_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' cannot be used") as info:
        select_device(name)

    assert "\n" not in str(info.value)
    assert "expected auto, cpu or a GPU" in str(info.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_device_that_the_machine_lacks_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' cannot be used"):
        select_device(name)


@pytest.mark.parametrize("amp", AMP_DTYPES)
def test_mixed_precision_multiplies_in_the_short_type(amp: str) -> None:
    a = torch.randn(3, 3, dtype=torch.float32)

    with autocast(torch.device("cpu"), amp):
        product = a @ a

    assert product.dtype == AMP_DTYPES[amp]
    torch.testing.assert_close(product.float(), a @ a, rtol=0.02, atol=0.05)  # 8 or 11 bits


def test_no_mixed_precision_changes_nothing() -> None:
    a = torch.randn(3, 3, dtype=torch.float32)

    with autocast(torch.device("cpu"), "none"):
        product = a @ a

    assert product.dtype == torch.float32
    assert torch.equal(product, a @ a)


def test_mixed_precision_ends_with_its_block() -> None:
    with autocast(torch.device("cpu"), "bf16"):
        assert torch.is_autocast_enabled("cpu")

    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("allowed", [True, False])
def test_full_precision_ends_where_it_began(allowed: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = allowed
        with pytest.raises(InputError), full_precision():
            assert not torch.backends.cudnn.allow_tf32
            raise InputError("an error in between")
        assert torch.backends.cudnn.allow_tf32 == allowed
    finally:
        torch.backends.cudnn.allow_tf32 = before


NEWER = """
import torch
from core.device import full_precision

products = torch.backends.cuda.matmul
products.fp32_precision = "tf32"
with full_precision():
    assert products.fp32_precision == "ieee"
assert products.fp32_precision == "tf32"
"""


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch before 2.9"
)
def test_full_precision_with_the_newer_settings() -> None:
    """In a process of its own, since PyTorch then refuses to read the older ones."""
    done = subprocess.run([sys.executable, "-c", NEWER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_full_precision_of_products_ends_where_it_began() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
