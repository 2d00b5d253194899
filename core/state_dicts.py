"""Which network a checkpoint holds: wrappers, prefixes and DomainBed's names undone.

Training scripts store a state dict under a name of their own (`state_dict`, `model_ema`, ...) and
with the name of whatever was wrapped around the network (`module.`, `_orig_mod.`). What comes
out is the network's own state dict, in single precision.

References:
    | domainbed/algorithms.py, class ERM: `network = Sequential(featurizer, classifier)`
    | https://github.com/facebookresearch/DomainBed
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from core.errors import InputError
from core.tensor_files import read_contents

# In order of preference: where a file has both, timm evaluates the moving average as well.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_dict",
    "model",
)
PREFIXES = ("module.", "_orig_mod.")
CLASSIFIER = "classifier."
# Featurizer and classifier of a DomainBed algorithm, in the order in which `predict` prefers
# them: `network_ma` is the average kept by the class SWA, whose own `network` is never trained.
_DOMAINBED_PAIRS = (
    ("network_ma.0.", "network_ma.1."),
    ("network.0.", "network.1."),
    ("featurizer.", "classifier."),
)
_LISTED = 3

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class NetworkState:
    """The network of one checkpoint.

    Attributes:
        tensors: Its state dict; floats in single precision or better.
        dtype: The floating-point types that the file stores, the most frequent first.
        has_foreign_classifier: Whether the file's format, and not the network, names the
            classifier; its names then start with `CLASSIFIER`.
        notes: What was chosen or set aside on the way, one sentence each.
    """

    tensors: Tensors
    dtype: str
    has_foreign_classifier: bool
    notes: tuple[str, ...]


def read_state_dict(path: str | Path) -> Tensors:
    """Reads the state dict of the network in a checkpoint, on the CPU.

    Half-precision weights become single precision; integers stay what they are.

    Raises:
        InputError: If the file is missing, broken, carries code, or holds no state dict.
    """
    return read_network(path).tensors


def read_network(path: str | Path) -> NetworkState:
    """Reads the network in a checkpoint and says how it was stored.

    Raises:
        InputError: If the file is missing, broken, carries code, or holds no state dict.
    """
    contents, notes = _unwrap(read_contents(path))
    tensors = _without_prefixes(_only_tensors(contents, path))
    dtype = _float_types(tensors)
    tensors = {name: _at_least_single(tensor) for name, tensor in tensors.items()}
    pair = _domainbed_pair(tensors)
    if pair is None:
        return NetworkState(tensors, dtype, has_foreign_classifier=False, notes=tuple(notes))
    network = _domainbed_network(tensors, *pair)
    notes += _domainbed_notes(tensors)
    return NetworkState(network, dtype, has_foreign_classifier=True, notes=tuple(notes))


def listing(names: Iterable[str]) -> str:
    """The first few names, and how many there are beyond them.

    Example:
        >>> listing("abcdefg")
        'a, b, c and 4 more'
    """
    names = list(names)
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _unwrap(contents: object) -> tuple[object, list[str]]:
    notes: list[str] = []
    while isinstance(contents, Mapping):
        inner = [name for name in WRAPPERS if isinstance(contents.get(name), Mapping)]
        if not inner:
            break
        if len(inner) > 1:
            notes.append(f"of {', '.join(inner)} the first was read")
        contents = contents[inner[0]]
    return contents, notes


def _only_tensors(contents: object, path: str | Path) -> Tensors:
    expected = f"expected tensors by name, bare or under {', '.join(WRAPPERS)}"
    advice = "save it again with torch.save(model.state_dict(), ...)"
    if not isinstance(contents, Mapping):
        found = f"'{path}' holds a {type(contents).__name__}"
        raise InputError(f"{found}; {expected}; {advice}")
    if not contents:
        raise InputError(f"'{path}' holds no tensors; {expected}; {advice}")
    others = [f"'{k}' ({type(v).__name__})" for k, v in contents.items() if not _is_tensor(k, v)]
    if others:
        raise InputError(f"'{path}' holds {listing(others)}; {expected}; {advice}")
    return dict(contents)


def _is_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _without_prefixes(tensors: Tensors) -> Tensors:
    # torch.optim.swa_utils.AveragedModel counts beside the network that it wraps.
    named = [name for name in tensors if name != "n_averaged"]
    prefix = next((p for p in PREFIXES if named and all(n.startswith(p) for n in named)), None)
    if prefix is None:
        return tensors
    return _without_prefixes({name.removeprefix(prefix): tensors[name] for name in named})


def _float_types(tensors: Tensors) -> str:
    types = Counter(str(t.dtype) for t in tensors.values() if t.is_floating_point())
    return ", ".join(name.removeprefix("torch.") for name, _ in types.most_common())


def _at_least_single(tensor: Tensor) -> Tensor:
    is_half = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.float() if is_half else tensor


def _domainbed_pair(tensors: Tensors) -> tuple[str, str] | None:
    """The prefixes of featurizer and classifier; None where the names are not DomainBed's."""
    for featurizer, classifier in _DOMAINBED_PAIRS:
        linear = {f"{classifier}weight", f"{classifier}1.weight"}  # the second after a Dropout
        if linear & tensors.keys() and any(name.startswith(featurizer) for name in tensors):
            return featurizer, classifier
    return None


def _domainbed_network(tensors: Tensors, featurizer: str, classifier: str) -> Tensors:
    network = {}
    for name, tensor in tensors.items():
        if name.startswith(featurizer):
            network[name.removeprefix(featurizer).removeprefix("network.")] = tensor
        elif name.startswith(classifier):
            network[CLASSIFIER + name.removeprefix(classifier).removeprefix("1.")] = tensor
    return network


def _domainbed_notes(tensors: Tensors) -> list[str]:
    known = tuple(prefix for pair in _DOMAINBED_PAIRS for prefix in pair)
    others = [name for name in tensors if not name.startswith(known)]
    return [f"set aside, since prediction does not use it: {listing(others)}"] if others else []
