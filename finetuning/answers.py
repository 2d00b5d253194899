"""What the members of an ensemble say about the images: their features, logits and classifiers.

Shapes: M members, N images, D features, C outputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import Module

from core.models import classifier, features_and_logits
from finetuning.config import TrainConfig
from finetuning.evaluation import outputs
from finetuning.setup import Indices, Setup


@dataclass(frozen=True)
class Answers:
    """What all members say about the same images.

    Attributes:
        features: Penultimate features.
        logits: Logits.
        labels: The images' labels.
    """

    features: Float[Tensor, "M N D"]
    logits: Float[Tensor, "M N C"]
    labels: Int64[Tensor, " N"]

    def of(self, members: Sequence[int]) -> "Answers":
        """What some of the members say."""
        chosen = list(members)
        return Answers(self.features[chosen], self.logits[chosen], self.labels)


@dataclass(frozen=True, eq=False)
class Panel:
    """All that is asked of the members.

    Attributes:
        by_env: On the held-out images of training environments and all images of others.
        training: On the images that were trained on, without augmentation.
        weights: The members' classifiers.
        biases: Their biases, zero where a classifier has none.
    """

    by_env: dict[str, Answers]
    training: Answers
    weights: Float[Tensor, "M C D"]
    biases: Float[Tensor, "M C"]


def ask(
    states: Iterable[Mapping[str, Tensor]], config: TrainConfig, setup: Setup, *, augment_iid: bool
) -> Panel:
    """Ask members one after the other, one in memory at a time.

    Args:
        states: Their weights.
        config: The runs' options.
        setup: Their images, and a network for the weights.
        augment_iid: Show each member its own augmentation of the held-out images of training
            environments.
    """
    model, by_env, training, heads = setup.model.eval(), [], [], []
    for draw, state in enumerate(states):
        model.load_state_dict(state)
        held_out = {
            env: _answer(config, setup, env, draw=draw if augment_iid else None)
            for env in setup.domains.environments
        }
        by_env.append(held_out)
        seen = [_answer(config, setup, env, images) for env, images in setup.train.items()]
        training.append(_joined(seen, dim=1))
        heads.append(_head(model))
    return Panel(
        {env: _joined([said[env] for said in by_env], dim=0) for env in by_env[0]},
        _joined(training, dim=0),
        torch.stack([weight for weight, _ in heads]),
        torch.stack([bias for _, bias in heads]),
    )


def _answer(
    config: TrainConfig,
    setup: Setup,
    env: str,
    images: Indices | None = None,
    *,
    draw: int | None = None,
) -> Answers:
    forward = lambda x: features_and_logits(setup.model, x)
    augmented = draw is not None and env in setup.train
    batches = outputs(
        config, setup, forward, env, augmented=augmented, images=images, draw=draw or 0
    )
    parts = [(f.cpu(), logits.cpu(), y.cpu()) for (f, logits), y in batches]
    features, logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return Answers(features[None], logits[None], labels)


def _joined(answers: Sequence[Answers], *, dim: int) -> Answers:
    """Of several members on the same images (0), or of one member on further images (1)."""
    return Answers(
        torch.cat([said.features for said in answers], dim),
        torch.cat([said.logits for said in answers], dim),
        torch.cat([said.labels for said in answers]) if dim else answers[0].labels,
    )


def _head(model: Module) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    head = classifier(model)
    weight = head.weight.detach().flatten(1).cpu().clone()
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().cpu().clone()
    return weight, bias
