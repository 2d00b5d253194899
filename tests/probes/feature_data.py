"""Features with classes, for tests of what reads them."""

from pathlib import Path

import numpy as np

from probes.feature_sets import FeatureSet, Part, Split

CLASSES = 3


def labelled_features(num: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds around one centre a class, rectified as features often are."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % CLASSES
    centres = np.random.default_rng(1).normal(size=(CLASSES, width))
    features = centres[labels] + rng.normal(size=(num, width))
    return np.maximum(features, 0).astype(np.float32), labels


def part(env: str, split: Split, num: int, *, width: int = 8, seed: int = 0) -> Part:
    features, labels = labelled_features(num, width, seed=seed)
    layers = {"block": features[:, : width // 2].copy(), "features": features}
    return Part(env=env, split=split, labels=labels, images=np.arange(num), features=layers)


def feature_set(run: str, *parts: Part, seed: int = 0) -> FeatureSet:
    rng = np.random.default_rng(seed)
    width = parts[0].features["features"].shape[1]
    return FeatureSet(
        run=run,
        model="tiny",
        checkpoint=f"{run:0<20}",
        seed=seed,
        facts={"run": run},
        data_facts={"data": "made up"},
        weight=rng.normal(size=(CLASSES, width)),
        bias=np.zeros(CLASSES),
        parts=parts,
    )


def write_features(folder: Path, *names: str, num: int = 60, width: int = 8) -> dict[str, object]:
    """Files of features and labels, and the options that name them."""
    for seed, name in enumerate(names):
        features, labels = labelled_features(num, width, seed=seed)
        np.save(folder / f"{name}.npy", features)
        np.save(folder / "labels.npy", labels)
    return {
        "features": tuple(str(folder / f"{name}.npy") for name in names),
        "labels": str(folder / "labels.npy"),
        "device": "cpu",
    }
