"""Everything a run needs before its first step: images, split and network, all checked."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from timm.data.config import resolve_model_data_config
from torch.nn import Module

from core.checkpoints import sha256
from core.device import select_device
from core.domains import Domains, first_share, holdout
from core.errors import InputError
from core.glyphnet import WEIGHTS
from core.loaders import check_transform
from core.models import check_network, classifier, create_model
from core.records import provenance
from finetuning.config import TrainConfig
from finetuning.shared import TIMM, pretrained_network, shared_domains

log = logging.getLogger(__name__)

Indices = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class Setup:
    """What a run starts from.

    Attributes:
        domains: Every environment, held-out ones included.
        train: Images to train on, by training environment.
        held_out: The 20 % of every environment that DomainBed calls `out`.
        model: The network on its device, its classifier freshly drawn.
        data_config: Input size, mean, std and interpolation, as timm resolves them.
        device: Where the network lies.
        facts: What the run folder records about all this.
    """

    domains: Domains
    train: dict[str, Indices]
    held_out: dict[str, Indices]
    model: Module
    data_config: dict[str, Any]
    device: torch.device
    facts: dict[str, Any]


def prepare(config: TrainConfig) -> Setup:
    """Load and check everything.

    Raises:
        InputError: If options, images or checkpoint do not fit each other.
    """
    device = select_device(config.device)
    domains = shared_domains(config.data, config.envs, skip_unreadable=config.skip_unreadable)
    train_envs = training_environments(config, domains)
    assert config.split_seed is not None
    splits = {name: holdout(e, config.split_seed) for name, e in domains.environments.items()}
    train = {name: first_share(splits[name][0], config.train_fraction) for name in train_envs}
    model = build_model(config, len(domains.classes)).to(device)
    data_config = resolve_data_config(config, model)
    check_network(model, image_shape(config, domains, data_config))
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Setup(
        domains=domains,
        train=train,
        held_out={name: out for name, (_, out) in splits.items()},
        model=model,
        data_config=data_config,
        device=device,
        facts=_facts(config, domains, train, device),
    )


def training_environments(config: TrainConfig, domains: Domains) -> tuple[str, ...]:
    """All environments but the held-out ones.

    Raises:
        InputError: If a held-out environment does not exist or none is left to train on.
    """
    known = tuple(domains.environments)
    for name in config.test_env:
        if name not in known:
            raise InputError(
                f"test environment '{name}' is not in '{config.data}'; its environments are "
                f"{', '.join(known)}: choose --test_env among them, or none"
            )
    train_envs = tuple(name for name in known if name not in config.test_env)
    if not train_envs:
        raise InputError(
            f"'{config.data}' has only the environments {', '.join(known)} and all are held out; "
            "at least one must be left to train on: change --test_env"
        )
    return train_envs


def build_model(config: TrainConfig, num_classes: int) -> Module:
    """The pretrained (or random) network with a fresh classifier, a function of the seed.

    Raises:
        InputError: If timm does not know the model or the checkpoint does not fit it.
    """
    kwargs = config.model_kwargs or {}
    torch.manual_seed(config.seed)
    if config.from_scratch:
        model = create_model(config.model, num_classes, **kwargs)
    else:
        model = pretrained_network(config.model, num_classes, kwargs, config.pretrained)
    torch.manual_seed(config.seed)
    classifier(model).reset_parameters()  # PyTorch's default, as in the paper's code
    return model


def resolve_data_config(config: TrainConfig, model: Module) -> dict[str, Any]:
    """Timm's input size, mean, std and interpolation, with the requested image size."""
    data_config = resolve_model_data_config(model)
    if config.image_size is not None:
        data_config["input_size"] = (3, config.image_size, config.image_size)
    return data_config


def image_shape(
    config: TrainConfig, domains: Domains, data_config: dict[str, Any]
) -> tuple[int, ...]:
    """Channels, height and width of the images that the network will read.

    Raises:
        InputError: If the digits' transform is asked for other images or another size.
    """
    assert config.transform is not None
    check_transform(config.transform, domains)
    if config.transform != "digits":
        return tuple(data_config["input_size"])
    size = next(e.array.shape[1] for e in domains.environments.values() if e.array is not None)
    if config.image_size not in {None, size}:
        raise InputError(
            f"--image_size is {config.image_size}; the transform 'digits' keeps the digits' "
            f"{size} pixels: choose --transform paper or timm to resize them"
        )
    return (3, size, size)


def _facts(
    config: TrainConfig, domains: Domains, train: Mapping[str, Indices], device: torch.device
) -> dict[str, Any]:
    weights = WEIGHTS.get(config.pretrained, config.pretrained)
    is_file = config.pretrained not in {"none", TIMM}
    return provenance(
        data_fingerprint=domains.fingerprint,
        pretrained_sha256=sha256(weights) if is_file else None,
        classes=list(domains.classes),
        train_envs=list(train),
        train_size=sum(map(len, train.values())),
        test_envs=list(config.test_env),
        skipped=list(domains.skipped),
        device=str(device),
    )
