"""A data set in memory and a cache, for tests of features."""

from typing import Any

import numpy as np

from core.feature_cache import FeatureCache

CONFIG: dict[str, Any] = {
    "input_size": (3, 32, 32),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.5, 0.6, 0.7),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
}
ORDER = np.array([3, 0, 6, 5, 1])  # not all images, and in an order of their own


def entries(cache: FeatureCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()}
