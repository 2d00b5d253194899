# pyright: reportMissingImports=false
"""A network of PyTorch as a function of JAX, so that neural_tangents can be measured on it.

`torch.export` writes a network as a list of calls of elementary operators. Each of those that
ResNets, MobileNets and plain vision transformers need has a rule here; another one raises
`NotImplementedError` with its name.
"""

import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from torch import Tensor, fx
from torch.export import export
from torch.fx.node import Target
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel

JaxParams = dict[str, Array]


def to_jax(model: Module, x: Tensor) -> tuple[Callable[[JaxParams, Array], Array], JaxParams]:
    """The function of weights and examples, and the weights.

    Sizes are written into the exported network, so that it takes one example at a time.
    """
    with sdpa_kernel(SDPBackend.MATH):
        program = export(model, (x[:1],)).run_decompositions()
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held = {name: jnp.asarray(t.detach().numpy()) for name, t in program.state_dict.items()}
    places = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    interpreter = _Interpreter(program.graph_module)

    def one(params: JaxParams, x: Array) -> Array:
        values = held | params
        return interpreter.run(*(values[names[p]] if p in names else x for p in places))[0]

    def apply(params: JaxParams, x: Array) -> Array:
        if len(x) == 1:
            return one(params, x)
        return jax.vmap(lambda x: one(params, x[None])[0])(x)

    return apply, {name: held[name] for name in signature.parameters}


class _Interpreter(fx.Interpreter):
    def call_function(self, target: Target, args: tuple, kwargs: dict) -> object:
        if target is operator.getitem:
            return operator.getitem(*args)
        if str(target) not in RULES:
            raise NotImplementedError(f"no rule in JAX for {target}")
        return RULES[str(target)](*args, **kwargs)


def _convolution(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    if transposed:
        raise NotImplementedError("no rule in JAX for transposed convolutions")
    out = lax.conv_general_dilated(
        x,
        weight,
        stride,
        [(p, p) for p in padding],
        rhs_dilation=dilation,
        feature_group_count=groups,
    )
    return out if bias is None else out + bias[:, None, None]


def _batch_norm(
    x: Array, weight: Array, bias: Array, mean: Array, var: Array, momentum: float, eps: float
) -> tuple[Array]:
    scale = weight / jnp.sqrt(var + eps)
    return (x * scale[:, None, None] + (bias - mean * scale)[:, None, None],)


def _layer_norm(
    x: Array, shape: Sequence[int], weight: Array, bias: Array, eps: float
) -> tuple[Array]:
    axes = tuple(range(-len(shape), 0))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return ((x - mean) / jnp.sqrt(var + eps) * weight + bias,)


def _max_pool(
    x: Array, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Array]:
    around = [(0, 0), (0, 0), *((p, p) for p in padding)]
    return (lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, *size), (1, 1, *stride), around),)


def _expand(x: Array, shape: Sequence[int]) -> Array:
    return jnp.broadcast_to(x, [n if s == -1 else s for s, n in zip(shape, x.shape, strict=True)])


def _slice(x: Array, axis: int, start: int, end: int) -> Array:
    return lax.slice_in_dim(x, start, min(end, x.shape[axis]), axis=axis)


RULES: dict[str, Callable[..., object]] = {
    "aten.convolution.default": _convolution,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.relu.default": jax.nn.relu,
    "aten.hardtanh.default": jnp.clip,
    "aten.gelu.default": lambda x: jax.nn.gelu(x, approximate=False),
    "aten._softmax.default": lambda x, axis, _: jax.nn.softmax(x, axis),
    "aten.addmm.default": lambda bias, x, weight: x @ weight + bias,
    "aten.bmm.default": jnp.matmul,
    "aten.add.Tensor": jnp.add,
    "aten.mul.Scalar": jnp.multiply,
    "aten.mean.dim": lambda x, axes, keep: x.mean(tuple(axes), keepdims=keep),
    "aten.any.dim": lambda x, axis, keep: x.any(axis, keepdims=keep),
    "aten.eq.Scalar": jnp.equal,
    "aten.logical_not.default": jnp.logical_not,
    "aten.where.self": jnp.where,
    "aten.full_like.default": lambda x, value, **_: jnp.full_like(x, value),
    "aten.clone.default": lambda x, **_: x,
    "aten.view.default": jnp.reshape,
    "aten.permute.default": jnp.transpose,
    "aten.expand.default": _expand,
    "aten.cat.default": jnp.concatenate,
    "aten.slice.Tensor": _slice,
    "aten.select.int": lambda x, axis, index: lax.index_in_dim(x, index, axis, keepdims=False),
    "aten.squeeze.dims": lambda x, axes: jnp.squeeze(x, tuple(axes)),
}
