"""Which timm architecture a state dict belongs to, found by the names and shapes in it."""

import difflib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import timm
import torch
from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

Shapes = dict[str, tuple[int, ...]]
# Jaccard indices of the names in a network and in the state dict: below the first a family is
# not searched further, above the second no other family is opened.
_RELATED, _SAME = 0.3, 0.9


class _NoInitialisation(TorchFunctionMode):
    """Skips in-place operations: tensors on the meta device have no values to set.

    It halves the time that it takes to build a network.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def find_architecture(
    tensors: Mapping[str, Tensor], model: Module, hint: str = "", seconds: float = 5.0
) -> str | None:
    """Searches timm for a network with the same names and shapes, its classifier apart.

    Names that occur in the hint come first, then the embedded network, the model's own family
    with the names most like its own, and the others, the largest first. Families whose
    vocabulary is closest to that of the state dict are searched further than their first member.

    Args:
        tensors: A state dict.
        model: The network that the state dict does not fit.
        hint: Text that may hold the name, such as the checkpoint's path.
        seconds: The search ends after this time.

    Returns:
        The name, or None if none was found in time.
    """
    end = time.monotonic() + seconds
    wanted = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, shapes in _candidates(wanted, model, hint):
        if _fits(wanted, shapes):
            return name
        if time.monotonic() > end:
            break
    return None


def backbone_shapes(name: str) -> Shapes:
    """Shapes of everything in a timm model but its classifier; allocates no memory.

    Example:
        >>> backbone_shapes("resnet18")["conv1.weight"]
        (64, 3, 7, 7)
    """
    with torch.device("meta"), _NoInitialisation():
        model = timm.create_model(name, pretrained=False, num_classes=0)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def _candidates(wanted: Shapes, model: Module, hint: str) -> Iterator[tuple[str, Shapes]]:
    """Opens one family after the other, and after each tries a member of the best so far."""
    families = filter(None, _families(model, hint))
    opened: list[tuple[float, list[str]]] = []
    while True:
        opened = [(overlap, names) for overlap, names in opened if names]
        overlap, names = max(opened, key=lambda entry: entry[0], default=(0.0, []))
        family = next(families, []) if overlap < _SAME else []
        if not family and not names:
            return
        if names:
            name = names.pop(0)
            yield name, backbone_shapes(name)
        if family:
            shapes = backbone_shapes(family[0])
            yield family[0], shapes
            overlap = _overlap(wanted, shapes)
            opened += [(overlap, family[1:])] if overlap > _RELATED else []


def _families(model: Module, hint: str) -> Iterator[list[str]]:
    hinted = [name for name in timm.list_models() if name in hint]
    yield sorted(hinted, key=len, reverse=True)
    yield timm.list_models(module="glyphnet")
    families = {module: timm.list_models(module=module) for module in timm.list_modules()}
    own_name = getattr(model, "pretrained_cfg", {}).get("architecture", "")
    own_family = families.pop(type(model).__module__.rpartition(".")[2], [])
    yield sorted(own_family, key=lambda name: -_resemblance(name, own_name))
    for family in sorted(families.values(), key=len, reverse=True):
        # The plain variants have the shortest names.
        yield sorted(family, key=len)


def _resemblance(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name, other, autojunk=False).ratio()


def _fits(wanted: Shapes, backbone: Shapes) -> bool:
    wanted, backbone = _without_counters(wanted), _without_counters(backbone)
    if not backbone.items() <= wanted.items():
        return False
    heads = {name.rpartition(".")[0] for name in wanted.keys() - backbone.keys()}
    return len(heads) <= 1


def _without_counters(shapes: Shapes) -> Shapes:
    return {name: s for name, s in shapes.items() if not name.endswith("num_batches_tracked")}


def _overlap(a: Shapes, b: Shapes) -> float:
    """Jaccard index of the names in two state dicts, numbers apart."""
    words_a, words_b = ({re.sub(r"\d+", "#", name) for name in names} for names in (a, b))
    return len(words_a & words_b) / len(words_a | words_b)
