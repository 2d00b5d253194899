"""Options that several commands share; a command's configuration inherits the ones it needs."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images."""

    data: str = "digits"
    """Folder DIR/<env>/<class>/* or DIR/<class>/*; `digits` is the embedded benchmark."""
    envs: tuple[str, ...] = ()
    """Environments to use; all of them by default."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of refusing the data set."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which network."""

    model: str = "glyphnet"
    """Name of any timm classification model, or `glyphnet`, the embedded one."""
    model_kwargs: dict[str, Any] | None = None
    """Further arguments of timm.create_model, as YAML: '{drop_path_rate: 0.1}'."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where and how fast; none of these changes what is computed beyond rounding."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode and transform images; 0 does it in the main process."""
    amp: Literal["none", "bf16", "fp16"] = "none"
    """Automatic mixed precision."""
    channels_last: bool = False
    """Store activations channels last (faster convolutions on most GPUs and some CPUs)."""
    compile: bool = False
    """Compile the network with torch.compile."""


# What runs did before these were options, in folders of older releases.
RUNS_BEFORE: dict[str, Any] = {
    **{"tangent": False, "train_fraction": 1.0, "head_start": "random"},
    **{"noise": "dropout", "placement": "head", "tied_masks": False, "kept_units": None},
}
