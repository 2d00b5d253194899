"""How much is computed at a time, which depends on the kind of device."""

from collections.abc import Collection
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sizes:
    """Sizes from which larger ones are no faster.

    Attributes:
        workspace: Numbers in a temporary of a contraction.
        patches: Numbers in the patches of a convolution at one time.
        examples_a_pass: Examples that go through the network together.
    """

    workspace: int
    patches: int
    examples_a_pass: int


CPU = Sizes(workspace=2**23, patches=2**20, examples_a_pass=4)  # 32 and 4 MB in float32
ACCELERATOR = Sizes(workspace=2**25, patches=2**24, examples_a_pass=32)  # 128 and 64 MB


def sizes(device: torch.device) -> Sizes:
    """Those of a device."""
    return CPU if device.type == "cpu" else ACCELERATOR


def safe_sizes(devices: Collection[torch.device]) -> Sizes:
    """Sizes to plan with where devices of several kinds share the work.

    The temporaries are the largest that any of them has, the passes the smallest.
    """
    found = [sizes(device) for device in devices]
    return Sizes(
        workspace=max(one.workspace for one in found),
        patches=max(one.patches for one in found),
        examples_a_pass=min(one.examples_a_pass for one in found),
    )
