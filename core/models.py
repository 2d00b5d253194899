r"""Any timm classification model: its penultimate features, classifier and residual blocks.

The penultimate representation :math:`\Phi(x)` is exactly what the classifier reads, after
pooling and normalisation: :math:`f(x) = V \Phi(x) + b`.

Shapes: N examples, C outputs, D features.
"""

import difflib
import math
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Conv2d, Linear, Module, ModuleList, Sequential
from torch.utils.hooks import RemovableHandle

import core.glyphnet  # ruff: ignore[unused-import] - registers the embedded network with timm
from core.errors import InputError

# `stages.0.blocks.1`, `serial_blocks2.0`, `blocks_token_only.1`, but nothing inside of them.
_NAMED_BLOCK = re.compile(r"(?:(?!\w*blocks)\w+\.)*\w*blocks\w*\.\d+")

Outputs = tuple[Float[Tensor, "N D"], Float[Tensor, "N C"]]


def create_model(
    name: str,
    num_classes: int,
    fetched: bool = False,
    /,  # so that arguments of the same names are found among the others
    **kwargs: Any,  # ruff: ignore[any-type] - timm's own arguments
) -> Module:
    """A timm model by name, with a classifier of `num_classes`.

    Args:
        name: Any name of `timm.list_models()`, with or without a pretrained tag, or `glyphnet`.
        num_classes: Outputs of the classifier.
        fetched: Load timm's own weights; downloads them unless the name is `glyphnet.*`.
        kwargs: Further arguments of `timm.create_model`.

    Raises:
        InputError: If timm has no such model or pretrained tag, cannot build the model with
            these arguments, or cannot fetch its weights.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        raise InputError(
            f"'{name}' is not a model that timm {timm.__version__} knows; "
            f"expected a name such as {', '.join(close) or 'resnet50'}"
        )
    try:
        options = {"pretrained": fetched, "num_classes": num_classes}
        if reserved := sorted(options.keys() & kwargs.keys()):
            raise ValueError(f"{' and '.join(reserved)} are set by the images and --pretrained")
        model = timm.create_model(name, **options, **kwargs)
    except OSError as error:  # so are the download errors of Hugging Face's client
        raise InputError(
            f"the pretrained weights of '{name}' cannot be fetched ({_first_line(error)}); go "
            "online once, or give a checkpoint file"
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"timm cannot build '{name}' ({_first_line(error)}); the names that carry weights are "
            f"those of timm.list_models('{name.partition('.')[0]}*', pretrained=True)"
        ) from error
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"'{name}' does not take the arguments {kwargs} ({_first_line(error)}); "
            "see the model's signature in timm"
        ) from error
    classifier(model)
    return model


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def classifier_name(model: Module) -> str:
    """Name of the last linear layer (or 1 x 1 convolution) inside the model.

    Raises:
        InputError: If the model has no classifier or several (a distilled pair).
    """
    head = model.get_classifier()  # type: ignore[operator]
    candidates = [
        name
        for name, module in model.named_modules()
        if isinstance(module, Linear | Conv2d)
        and module.weight.shape[0] == model.num_classes
        and _contains(head, module)
    ]
    if len(candidates) != 1:
        raise InputError(
            f"{type(model).__name__} has {len(candidates)} classifiers {candidates}; a model "
            "with exactly one linear classifier was expected: choose another architecture"
        )
    return candidates[0]


def _contains(head: Module | Iterable[Module], module: Module) -> bool:
    heads = [head] if isinstance(head, Module) else list(head)
    return any(module is inner for outer in heads for inner in outer.modules())


def classifier(model: Module) -> Linear | Conv2d:
    """The last linear layer itself (see `classifier_name`)."""
    return model.get_submodule(classifier_name(model))  # type: ignore[return-value]


def classify(
    weight: Float[Tensor, "C D ..."],
    bias: Float[Tensor, " C"] | None,
    features: Float[Tensor, "N D"],
) -> Float[Tensor, "N C"]:
    r"""Logits :math:`V \Phi + b` for the weight and bias of a classifier."""
    return torch.nn.functional.linear(features, weight.flatten(1), bias)


@contextmanager
def capture(
    model: Module, outputs_of: Iterable[str] = (), *, inputs_of: Iterable[str] = ()
) -> Generator[dict[str, Tensor], None, None]:
    """Clones of what the named modules return (or read) while the block runs.

    The clone keeps a later in-place activation from changing what was captured; the hooks are
    removed however the block ends.

    Raises:
        InputError: If the network ran without one of the modules, or called a part of it only.
    """
    seen: dict[str, Tensor] = {}
    outputs_of, inputs_of = tuple(outputs_of), tuple(inputs_of)
    handles = [_hook_output(model.get_submodule(name), name, seen) for name in outputs_of]
    handles += [_hook_input(model.get_submodule(name), name, seen) for name in inputs_of]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    if unseen := [name for name in (*outputs_of, *inputs_of) if name not in seen]:
        raise InputError(
            f"{type(model).__name__} does not call {', '.join(unseen)} as a whole, so that what "
            "comes out there cannot be seen; layers that it calls were expected: leave these out"
        )


def _hook_output(module: Module, name: str, seen: dict[str, Tensor]) -> RemovableHandle:
    def hook(_module: Module, _args: tuple, output: Tensor | tuple | list) -> None:
        # Some blocks also return a state for the next one, or further resolutions; the features
        # (the finest ones) come first.
        seen[name] = (output if isinstance(output, Tensor) else output[0]).clone()

    return module.register_forward_hook(hook)


def _hook_input(module: Module, name: str, seen: dict[str, Tensor]) -> RemovableHandle:
    def hook(_module: Module, args: tuple[Tensor, ...]) -> None:
        seen[name] = args[0].clone()

    return module.register_forward_pre_hook(hook, prepend=True)


def features_and_logits(model: Module, x: Float[Tensor, "N ..."]) -> Outputs:
    r"""The penultimate features :math:`\Phi(x)` and the logits, in one pass.

    Noise put before the classifier (see `insert_before_classifier`) does not touch the features.
    """
    name = classifier_name(model)
    with capture(model, inputs_of=[name]) as seen:
        logits = model(x)
    return seen[name].flatten(1), logits


@torch.no_grad()
def check_network(model: Module, shape: tuple[int, ...]) -> None:
    r"""Refuse a network that cannot read such images or does more than classify its features.

    Raises:
        InputError: If the network fails on one image, or its output is not :math:`V \Phi + b`
            (networks with an auxiliary head).
    """
    head = classifier(model)
    try:
        image = torch.linspace(-1, 1, math.prod(shape), device=head.weight.device).view(1, *shape)
        features, logits = features_and_logits(model.eval(), image)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{type(model).__name__} cannot read an image of {' x '.join(map(str, shape))} "
            f"({str(error).partition(chr(10))[0]}); change --image_size, --transform or the "
            "size in --model_kwargs"
        ) from error
    gap = (classify(head.weight, head.bias, features) - logits).norm() / logits.norm()
    if gap > 0.01:  # rounding in TF32 stays below
        raise InputError(
            f"the output of {type(model).__name__} is not its classifier applied to the features "
            f"that it reads (they differ by {gap:.0%}); choose a network with a single head"
        )


def insert_before_classifier(
    model: Module, noise: Callable[[Float[Tensor, "N D"]], Float[Tensor, "N D"]]
) -> RemovableHandle:
    """Put a function between the features and the classifier, in training mode only."""

    def hook(module: Module, args: tuple[Tensor, ...]) -> tuple[Tensor] | None:
        return (noise(args[0]),) if module.training else None

    return classifier(model).register_forward_pre_hook(hook)


def residual_blocks(model: Module) -> tuple[str, ...]:
    """Names of the residual blocks (for a plain network: of its layers), in order.

    They are the modules that timm's own parameter grouping takes as one block each; where a
    model does not say how it divides, the entries of whatever it calls blocks, and where there
    are none, its top-level children that hold parameters. The order is that of registration.

    Example:
        >>> residual_blocks(timm.create_model("test_resnet"))
        ('layer1.0', 'layer2.0', 'layer3.0', 'layer4.0')
    """
    names = [
        n
        for n, m in model.named_modules()
        if n[-1:].isdigit() and _has_parameters(m) and not isinstance(m, ModuleList)
    ]
    patterns = _block_patterns(model)
    grouped = [n for n in names if any((m := p.fullmatch(n)) and m.groups() for p in patterns)]
    called = [n for n in names if _NAMED_BLOCK.fullmatch(n)]
    return tuple(grouped or called or _children(model, classifier_name(model).split(".")[0]))


def _children(model: Module, head: str) -> Generator[str, None, None]:
    """Children with parameters; of lists, which nobody calls, and of stages their entries."""
    for name, child in model.named_children():
        is_stages = isinstance(child, Sequential) and all(isinstance(c, Sequential) for c in child)
        if isinstance(child, ModuleList) or is_stages:
            yield from (f"{name}.{entry}" for entry in _children(child, ""))
        elif name != head and _has_parameters(child):
            yield name


def _block_patterns(model: Module) -> list[re.Pattern]:
    """Regular expressions of timm's `group_matcher` for one block each."""
    matcher = model.group_matcher(coarse=False) if hasattr(model, "group_matcher") else {}  # type: ignore[operator]
    matcher = matcher if isinstance(matcher, dict) else {}
    rules = matcher.get("blocks", matcher.get("block_types", []))  # hrnet's name for them
    rules = [rules] if isinstance(rules, str) else rules
    return [re.compile(rule if isinstance(rule, str) else rule[0]) for rule in rules]


def _has_parameters(module: Module) -> bool:
    return next(module.parameters(), None) is not None


def weight_groups(model: Module) -> dict[str, tuple[str, ...]]:
    """Names of parameters and float buffers by block, in the order of the network.

    What belongs to no block is grouped under `stem` (before the first block), `neck` (after the
    last) or `classifier`; empty groups are left out.
    """
    names = list(float_state(model))
    blocks, head = residual_blocks(model), classifier_name(model)
    owner = {name: _owner(name, blocks, head) for name in names}
    first = next((i for i, name in enumerate(names) if owner[name] in blocks), len(names))
    groups: dict[str, list[str]] = {group: [] for group in ("stem", *blocks, "neck", "classifier")}
    for i, name in enumerate(names):
        groups[owner[name] or ("stem" if i < first else "neck")].append(name)
    return {group: tuple(members) for group, members in groups.items() if members}


def _owner(name: str, blocks: tuple[str, ...], head: str) -> str:
    if name.startswith(head + "."):
        return "classifier"
    return next((block for block in blocks if name.startswith(block + ".")), "")


def float_state(model: Module) -> dict[str, Tensor]:
    """Parameters and float buffers (running statistics) by name, detached.

    Both are part of the displacement between two checkpoints; integer buffers are counters.
    """
    return {
        name: tensor.detach()
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }
