r"""The classifier as a linear probe of the pretrained features, for runs that share their start.

Fine-tuning from there moves the features less at first (LP-FT), and runs with other learning rates
or seeds begin at the same weights, as DiWA and model soups want.

Shapes: N images, C classes, D features.

References:
    | Fine-Tuning can Distort Pretrained Features (LP-FT; Kumar et al., 2022)
    | https://arxiv.org/abs/2202.10054
    | Diverse Weight Averaging (Rame et al., 2022), https://arxiv.org/abs/2205.09739
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.linear_model import LogisticRegression

from core.errors import InputError
from core.models import classifier, features_and_logits
from finetuning.config import TrainConfig
from finetuning.evaluation import outputs
from finetuning.setup import Setup


def start_at_probe(config: TrainConfig, setup: Setup) -> None:
    """Give the network the classifier that a linear probe finds on its training images.

    It depends on the images and the hold-out, not on the run's seed beyond these.

    Raises:
        InputError: If the classifier has no bias, or a class no training image.
    """
    head = classifier(setup.model)
    if head.bias is None:
        raise InputError(
            f"the classifier of {config.model} has no bias, which a linear probe needs: leave "
            "--head_start at random"
        )
    features, labels = _training_features(config, setup)
    num_classes = len(setup.domains.classes)
    found = len(np.unique(labels))
    if found < num_classes:
        raise InputError(
            f"the training images show {found} of {num_classes} classes; a linear "
            "probe needs all: raise --train_fraction, or leave --head_start at random"
        )
    weight, bias = probe(features, labels)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight).view(head.weight.shape))
        head.bias.copy_(torch.from_numpy(bias))


def probe(
    features: Float[np.ndarray, "N D"], labels: Int64[np.ndarray, " N"], strength: float = 1.0
) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, " C"]]:
    """Multinomial logistic regression with a ridge, on centred features of mean variance one.

    All features share one scale: their own would blow up the weights of those that hardly vary on
    the training images, and fine-tuning would diverge from there.

    Args:
        features: Features.
        labels: Classes.
        strength: scikit-learn's C.
    """
    mean, scale = features.mean(0), np.sqrt(features.var(0).mean())
    found = LogisticRegression(C=strength, max_iter=2_000)
    found.fit((features - mean) / scale, labels)
    weight, bias = found.coef_, found.intercept_
    if len(weight) == 1:  # of two classes: the logit of the second
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return weight, bias - weight @ mean


def _training_features(
    config: TrainConfig, setup: Setup
) -> tuple[Float[np.ndarray, "N D"], Int64[np.ndarray, " N"]]:
    """Penultimate features of the training images, without augmentation and noise."""
    setup.model.eval()
    forward = lambda x: features_and_logits(setup.model, x)[0]
    batches = [
        (features.double().cpu(), labels.cpu())
        for env, images in setup.train.items()
        for features, labels in outputs(config, setup, forward, env, images=images)
    ]
    features, labels = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    return features, labels
