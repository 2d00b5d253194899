"""Rules for the functions in which a weight meets data, by the name of the function.

A rule computes the function with its weights held constant and records their uses. It returns
`NotImplemented` where it does not apply.
"""

from collections.abc import Callable
from typing import Any

from probes.ntk import elementwise_rules, layer_rules

Result = Any  # a tensor, or NotImplemented

_NAMES = {
    elementwise_rules.add: "add add_ __add__ __radd__ __iadd__",
    elementwise_rules.sub: "sub sub_ __sub__ __isub__",
    elementwise_rules.mul: "mul mul_ __mul__ __rmul__ __imul__ multiply",
    elementwise_rules.div: "div div_ __truediv__ __itruediv__",
    elementwise_rules.cat: "cat concat concatenate",
    elementwise_rules.attention: "scaled_dot_product_attention",
    layer_rules.matmul: "matmul __matmul__",
    layer_rules.linear: "linear",
    layer_rules.conv1d: "conv1d",
    layer_rules.conv2d: "conv2d",
    layer_rules.embedding: "embedding",
    layer_rules.batch_norm: "batch_norm",
    layer_rules.layer_norm: "layer_norm",
    layer_rules.rms_norm: "rms_norm",
    layer_rules.group_norm: "group_norm",
    elementwise_rules.addcmul: "addcmul",
}
RULES: dict[str, Callable[..., Result]] = {
    name: rule for rule, names in _NAMES.items() for name in names.split()
}
