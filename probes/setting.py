"""The architecture and the images that all checkpoints of a probe share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from timm.data.config import resolve_model_data_config
from torch.nn import Module

from core.digits import SIZE
from core.domains import Domains, load_domains
from core.loaders import check_transform
from core.models import check_network, create_model
from probes.sources import NetworkOptions, Source, shared_options


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One architecture on one data set.

    Attributes:
        model_name: Its name in timm.
        model_kwargs: Further arguments that it was built with.
        model: The network, its weights not yet loaded, in evaluation mode.
        data: The image folder, or `digits`.
        domains: The images.
        transform: How they become tensors.
        data_config: Input size, mean, std and interpolation.
    """

    model_name: str
    model_kwargs: dict[str, Any]
    model: Module
    data: str
    domains: Domains
    transform: Literal["paper", "timm", "digits"]
    data_config: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """What a record keeps of the images."""
        return {
            "data": self.data,
            "data_fingerprint": self.domains.fingerprint,
            "classes": list(self.domains.classes),
            "skipped": list(self.domains.skipped),
            "image_shape": list(self.data_config["input_size"]),
            "transform": self.transform,
        }


def load_setting(
    sources: Sequence[Source], options: NetworkOptions, flag: str = "--finetuned"
) -> Setting:
    """Network and images, as asked for or as all run folders agree, checked.

    Raises:
        InputError: If runs, images and options do not fit each other.
    """
    shared = shared_options(sources, options, flag)
    domains = load_domains(
        shared["data"],
        envs=shared["envs"],
        skip_unreadable=options.skip_unreadable or bool(shared["skip_unreadable"]),
    )
    kwargs = shared["model_kwargs"] or {}
    model = create_model(shared["model"], len(domains.classes), **kwargs).eval()
    data_config = resolve_model_data_config(model)
    if shared["image_size"]:
        data_config["input_size"] = (3, shared["image_size"], shared["image_size"])
    if shared["transform"] == "digits":
        check_transform("digits", domains)
        data_config["input_size"] = (3, SIZE, SIZE)
    check_network(model, data_config["input_size"])
    return Setting(
        model_name=shared["model"],
        model_kwargs=kwargs,
        model=model,
        data=shared["data"],
        domains=domains,
        transform=shared["transform"],
        data_config=data_config,
    )
