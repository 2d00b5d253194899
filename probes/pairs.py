"""What a probe compares: a network before and after fine-tuning, and the images to do it on.

A run folder of `finetuning.train` says everything itself: its own `init.safetensors` is the
"before", its options name model, images and hold-out. A checkpoint file needs `--pretrained`,
and its classifier is used on both sides, since the pretrained one has other classes.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from core.checkpoints import load_checkpoint
from core.domains import Domains
from core.errors import InputError
from core.glyphnet import WEIGHTS
from core.linearization import Weights
from core.models import classifier_name, float_state
from probes.setting import Setting, load_setting
from probes.sources import Indices, PairOptions, Source, labels_of

OWN_HEAD, SAME_HEAD = "own initial head", "fine-tuned head on both sides"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """One fine-tuning: weights before and after, and the images to probe it on.

    Attributes:
        run: Its label.
        weights0: Parameters and float buffers before.
        weights1: The same after.
        images: Indices of images by environment, in an order drawn at random.
        splits: By environment: `iid` (held-out images of a training environment), `ood` or
            `given` (not known to be either).
        facts: What the record keeps of it.
    """

    run: str
    weights0: Weights
    weights1: Weights
    images: dict[str, Indices]
    splits: dict[str, str]
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Comparison(Setting):
    """Pairs of one architecture on one data set."""

    pairs: tuple[Pair, ...]


def load_pairs(options: PairOptions) -> Comparison:
    """Everything to be compared, checked.

    Raises:
        InputError: If checkpoints, images and options do not fit each other.
    """
    sources = [Source.find(path, options.weights) for path in options.finetuned]
    setting = load_setting(sources, options)
    labels = labels_of(sources)
    pairs = [
        _pair(label, source, setting.model, setting.domains, options)
        for label, source in zip(labels, sources, strict=True)
    ]
    return Comparison(**vars(setting), pairs=tuple(pairs))


def _pair(
    label: str, source: Source, model: Module, domains: Domains, options: PairOptions
) -> Pair:
    before, head = _before(source, options)
    weights1, sha1 = _weights(model, source.checkpoint, need_classifier=True)
    weights0, sha0 = _weights(model, before, need_classifier=head == OWN_HEAD)
    in_head = {name for name in weights1 if name.startswith(classifier_name(model) + ".")}
    if options.pretrained is not None:
        source.tell_of_another_start(before, sha0)
    moved = _moved(weights0, weights1)
    if not moved or (head == SAME_HEAD and moved <= in_head):
        raise _nothing_moved(source.checkpoint, before, classifier_moved=bool(moved))
    if head == SAME_HEAD:
        weights0 = {name: (weights1 if name in in_head else weights0)[name] for name in weights1}
    images, splits = _images(source, domains, options)
    facts = {
        "run": label,
        "checkpoint": str(source.checkpoint),
        "sha256": sha1,
        "pretrained": str(before),
        "pretrained_sha256": sha0,
        "head": head,
        **source.facts(splits),
        "iid_images": sum(len(images[e]) for e in images if splits[e] != "ood"),
        "ood_images": sum(len(images[e]) for e in images if splits[e] == "ood"),
    }
    return Pair(label, weights0, weights1, images, splits, facts)


def _moved(weights0: Weights, weights1: Weights) -> set[str]:
    return {
        name
        for name, after in weights1.items()
        if name not in weights0 or not torch.equal(weights0[name], after)
    }


def _nothing_moved(after: Path, before: str | Path, *, classifier_moved: bool) -> InputError:
    if classifier_moved:
        return InputError(
            f"'{after}' differs only in its classifier from '{before}': the weights of the "
            "features are the same, so there is nothing to linearise in the representation; a "
            "checkpoint whose features were fine-tuned was expected: check --finetuned and "
            "--pretrained"
        )
    return InputError(
        f"'{after}' holds the same weights as '{before}'; a checkpoint after fine-tuning was "
        "expected: check --finetuned and --pretrained"
    )


def _before(source: Source, options: PairOptions) -> tuple[str | Path, str]:
    """The checkpoint before fine-tuning, and whose classifier is used there."""
    if options.pretrained is not None:
        return WEIGHTS.get(options.pretrained, options.pretrained), SAME_HEAD
    if source.run_options is None:
        raise InputError(
            f"'{source.path}' is a checkpoint file, which does not say what it was fine-tuned "
            "from: give the checkpoint before fine-tuning as --pretrained"
        )
    return source.path / "init.safetensors", OWN_HEAD


def _weights(model: Module, path: str | Path, *, need_classifier: bool) -> tuple[Weights, str]:
    """The weights in a file, without a classifier of other classes, and its SHA-256."""
    report = load_checkpoint(model, path)
    if need_classifier and report.classifier_set_aside:
        raise InputError(
            f"'{path}': {report.classifier_set_aside}; a classifier of the {model.num_classes} "
            "classes of the images was expected: check --finetuned and --data"
        )
    set_aside = classifier_name(model) + "." if report.classifier_set_aside else None
    state = {
        name: tensor.clone()
        for name, tensor in float_state(model).items()
        if set_aside is None or not name.startswith(set_aside)
    }
    return state, report.sha256


def _images(
    source: Source, domains: Domains, options: PairOptions
) -> tuple[dict[str, Indices], dict[str, str]]:
    """Held-out images of training environments, all images of others."""
    splits = source.splits(domains, options)
    images = {env: source.parts(domains, env, split)[1] for env, split in splits.items()}
    return images, splits
