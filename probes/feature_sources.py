r"""What the probes of features read: networks on images, or files of features.

Run folders and checkpoint files give features of every environment, split as their run split it;
files give whatever features there are; and without either it is the embedded example.

Shapes: N examples of a part, D features of a layer, C classes.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.checkpoints import LoadReport, load_checkpoint
from core.device import select_device
from core.errors import InputError
from core.feature_cache import FeatureCache
from core.features import Images, Network, extract
from core.glyphnet import WEIGHTS
from core.layers import FEATURES, LOGITS, chosen_layers
from core.models import classifier
from core.tensor_files import sha256
from probes.feature_files import FeatureFile, check_classes, read_feature_files
from probes.feature_options import FeatureOptions, with_example
from probes.feature_sets import FeatureSet, Part, Split
from probes.setting import Setting, load_setting
from probes.sources import Indices, Source, labels_of

__all__ = ["FeatureOptions", "FeatureSet", "Part", "load_features", "with_example"]

FLAG, FILES_FLAG = "--checkpoints", "--features"
NO_ENVIRONMENTS = "all"  # the environment of examples in files that do not name any

log = logging.getLogger(__name__)


def load_features(options: FeatureOptions) -> list[FeatureSet]:
    """Features of every checkpoint or file, computed now or by an earlier probe.

    Raises:
        InputError: If files, checkpoints, images and options do not fit each other.
    """
    options = with_example(options)
    if options.features:
        return _from_files(options)
    return _from_checkpoints(options)


def _from_files(options: FeatureOptions) -> list[FeatureSet]:
    files = read_feature_files(options.features, options.labels, options.feature_envs)
    labels = labels_of([Source(f.path, f.path, None) for f in files], FILES_FLAG)
    facts = {
        "labels": options.labels,
        "feature_envs": options.feature_envs,
        "labels_fingerprint": _fingerprint(files[0]),
    }
    return [_file_set(run, file, facts) for run, file in zip(labels, files, strict=True)]


def _fingerprint(file: FeatureFile) -> str:
    """SHA-256 of labels and environments: the same path may hold others tomorrow."""
    envs = [] if file.envs is None else file.envs.tolist()
    return hashlib.sha256(json.dumps([file.labels.tolist(), envs]).encode()).hexdigest()


def _file_set(run: str, file: FeatureFile, data_facts: dict[str, Any]) -> FeatureSet:
    digest = sha256(file.path)
    return FeatureSet(
        run=run,
        model="",
        checkpoint=digest,
        seed=None,
        facts={"run": run, "features": str(file.path), "sha256": digest},
        data_facts=data_facts,
        weight=None,
        bias=None,
        parts=tuple(_file_parts(file)),
    )


def _file_parts(file: FeatureFile) -> list[Part]:
    if file.envs is None:
        rows = {NO_ENVIRONMENTS: np.arange(len(file.labels))}
        matrices = {NO_ENVIRONMENTS: file.features}  # as it lies on disk, not a copy of all rows
    else:
        rows = {str(env): np.flatnonzero(file.envs == env) for env in np.unique(file.envs)}
        matrices = {env: file.features[chosen] for env, chosen in rows.items()}
    return [
        Part(
            env=env,
            split="given",
            labels=file.labels[chosen],
            images=chosen,
            features={FEATURES: matrices[env]},
        )
        for env, chosen in rows.items()
    ]


def _from_checkpoints(options: FeatureOptions) -> list[FeatureSet]:
    sources = [
        Source.find(str(WEIGHTS.get(name, name)), options.weights, FLAG)
        for name in options.checkpoints
    ]
    setting = load_setting(sources, options, FLAG)
    reader = _Reader(options, setting)
    sets = []
    for label, source in zip(labels_of(sources, FLAG), sources, strict=True):
        if options.with_init and source.run_options is not None:
            sets.append(reader.read(f"{label}/init", source, source.path / "init.safetensors"))
        sets.append(reader.read(label, source, source.checkpoint))
    return sets


class _Reader:
    """One network after the other on the same images."""

    def __init__(self, options: FeatureOptions, setting: Setting) -> None:
        self.options, self.setting = options, setting
        device = select_device(options.device)
        self.model = setting.model.to(device, getattr(torch, options.dtype))
        self.layers = chosen_layers(self.model, options.layers)
        self.cache = FeatureCache(options.cache)

    def read(self, label: str, source: Source, checkpoint: Path) -> FeatureSet:
        """The features of one checkpoint, on the images as `source` splits them."""
        report = load_checkpoint(self.model, checkpoint)
        splits = source.splits(self.setting.domains, self.options)
        parts = self._parts(report, source, splits)
        check_classes(np.concatenate([part.labels for part in parts]), self.setting.data)
        head = None if report.classifier_set_aside else classifier(self.model)
        return FeatureSet(
            run=label,
            model=self.setting.model_name,
            checkpoint=report.sha256,
            seed=source.run_options["seed"] if source.run_options else None,
            facts={
                "run": label,
                "checkpoint": str(checkpoint),
                "sha256": report.sha256,
                "classifier": report.classifier_set_aside or "its own",
                **source.facts(splits),
                "images": {f"{part.env}/{part.split}": len(part.labels) for part in parts},
            },
            data_facts=self.setting.facts,
            weight=None if head is None else _as_numpy(head.weight.flatten(1)),
            bias=None if head is None or head.bias is None else _as_numpy(head.bias),
            parts=parts,
        )

    def _parts(
        self, report: LoadReport, source: Source, splits: dict[str, str]
    ) -> tuple[Part, ...]:
        layers = _with_own_logits(self.layers, report)
        network = Network(
            model=self.model,
            name=self.setting.model_name,
            kwargs=self.setting.model_kwargs,
            checkpoint=report.sha256,
        )
        return tuple(
            self._part(network, layers, env, split, images)
            for env, split, images in self._images(source, splits)
        )

    def _images(self, source: Source, splits: dict[str, str]) -> list[tuple[str, Split, Indices]]:
        """Environment, split and images of every part."""
        num = self.options.samples or None
        parts = []
        for env, split in splits.items():
            trained, others = source.parts(self.setting.domains, env, split)
            parts += [(env, "train", trained[:num])] if len(trained) else []
            parts += [(env, split, others[:num])]
        return parts

    def _part(
        self, network: Network, layers: Sequence[str], env: str, split: Split, indices: Indices
    ) -> Part:
        images = Images(
            domains=self.setting.domains,
            env=env,
            indices=indices,
            transform=self.setting.transform,
            data_config=self.setting.data_config,
        )
        options = self.options
        features = extract(
            network,
            images,
            layers,
            self.cache,
            pooling=options.pooling,
            batch_size=options.batch_size,
            workers=options.workers,
        )
        labels = self.setting.domains.environments[env].labels[indices]
        return Part(env=env, split=split, labels=labels, images=indices, features=features)


def _with_own_logits(layers: Sequence[str], report: LoadReport) -> tuple[str, ...]:
    """The layers, without the logits of a classifier that is not the checkpoint's."""
    foreign = report.classifier_set_aside
    if foreign is None or LOGITS not in layers:
        return tuple(layers)
    kept = tuple(layer for layer in layers if layer != LOGITS)
    if not kept:
        raise InputError(
            f"'{report.path}' has no logits for these images ({foreign}); other layers were "
            f"expected: choose --layers {FEATURES}"
        )
    log.warning("%s: logits are left out (%s)", report.path, foreign)
    return kept


def _as_numpy(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().cpu().numpy().copy()
