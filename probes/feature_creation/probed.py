"""Do linear probes on the pretrained layers know what those on the fine-tuned ones know?

Accuracies have Wilson's interval, differences that of Agresti and Min over paired test examples;
both are given the probes.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024)
    | https://arxiv.org/abs/2403.00946
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool

from analysis.creation_verdict import AFTER, BEFORE, DIFFERENCE
from analysis.intervals import Row, proportion_interval
from analysis.paired_examples import paired_difference
from core.errors import InputError
from core.layers import FEATURES
from probes.feature_creation.views import LAYERS, Views, check_views
from probes.places import places
from probes.transfer.selection import clip_select_c, validation_split

VALIDATION = 0.2  # of the training images, to choose C by
_METRICS = {"before": BEFORE, "after": AFTER}


def probe_rows(train: Views, tests: Mapping[str, Views], *, seed: int = 0) -> Iterator[Row]:
    """Accuracies of linear probes before and after fine-tuning, and paired differences.

    Args:
        train: What the probes are trained on; a fifth of it chooses their C.
        tests: Environments to test on.
        seed: Of the validation part.

    Returns:
        Rows with `layer` "all" (every layer of a network) or "features" (Phi alone), `env` and
        `split`; differences are to the probe on the fine-tuned Phi alone.

    Raises:
        InputError: If the networks do not have the same images, or there is nothing to test on.
    """
    _check(train, tests)
    right = {
        (side, layer): _right(train, tests, side, layer, seed)
        for side in _METRICS
        for layer in LAYERS
    }
    for columns, envs in places({env: views.split for env, views in tests.items()}):
        correct = {
            key: np.concatenate([found[env] for env in envs]).astype(float)
            for key, found in right.items()
        }
        for (side, layer), values in correct.items():
            at = {**columns, "layer": layer, "metric": _METRICS[side]}
            yield {**at, **proportion_interval(values)}
        for layer in LAYERS:
            row = paired_difference(correct["before", layer], correct["after", FEATURES])
            yield {**columns, "layer": layer, "metric": DIFFERENCE, **row}


def _right(
    train: Views, tests: Mapping[str, Views], side: str, layer: str, seed: int
) -> dict[str, Bool[np.ndarray, " _"]]:
    """Whether a probe is right, by environment; C is chosen on a part of the training images."""
    blocks, y = train.blocks(side, layer), train.classes
    x, widths = np.concatenate(blocks, 1), [block.shape[1] for block in blocks]
    fit, choose = validation_split(y, share=VALIDATION, seed=seed)
    probe = clip_select_c(x[fit], y[fit], x[choose], y[choose], blocks=widths).probe
    return {
        env: probe.predict(np.concatenate(views.blocks(side, layer), 1)) == views.classes
        for env, views in tests.items()
    }


def _check(train: Views, tests: Mapping[str, Views]) -> None:
    if not tests:
        raise InputError("there are no environments to test on; at least one was expected")
    for name, views in {"the training images": train, **tests}.items():
        check_views(views, name)
        if set(views.before) != set(train.before) or set(views.after) != set(train.after):
            raise InputError(
                f"{name} have the layers {[*views.before, *views.after]}, the training images "
                f"{[*train.before, *train.after]}; the same were expected"
            )
