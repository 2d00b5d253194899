# pyright: reportMissingImports=false
r"""The tangent kernel of a small network by neural_tangents, for the tests to compare with.

    python scripts/reference_ntk.py

runs where JAX and neural_tangents are installed, in an environment of their own, and writes
`tests/probes/ntk/data/neural_tangents_cnn.npz`: weights, inputs, outputs and kernels in double
precision. The file in the repository was made with

    pip install neural-tangents==0.6.5 jax==0.4.30 jaxlib==0.4.30 numpy==2.4.6

on a CPU, where a second run writes the same numbers. Arrays are as neural_tangents has them:
images N x H x W x channels, weights of convolutions height x width x inputs x outputs, weights of
the dense layer inputs x outputs, kernels N x M x C x C. Its default kernel is the mean over equal
outputs, the trace divided by C.

References:
    | Fast Finite Width Neural Tangent Kernel (Novak et al., 2022)
    | https://arxiv.org/abs/2206.08720
"""

from pathlib import Path

import jax
import neural_tangents as nt
import numpy as np
from neural_tangents import stax

TARGET = Path(__file__).parents[1] / "tests/probes/ntk/data/neural_tangents_cnn.npz"
SIDE, CHANNELS, OUTPUTS = 8, 3, 4
NUM, OTHERS = 5, 3


def convolution(channels: int, padding: str) -> tuple:
    """3 x 3, weights and biases plain, so that any framework can take them over."""
    scales = {"W_std": 1.5, "b_std": 0.5, "parameterization": "standard"}
    return stax.Conv(channels, (3, 3), padding=padding, **scales)


def network() -> tuple:
    """Two convolutions, a pooling between them, and a dense layer."""
    return stax.serial(
        convolution(8, "SAME"),
        stax.Relu(),
        stax.AvgPool((2, 2), (2, 2)),
        convolution(12, "VALID"),
        stax.Relu(),
        stax.Flatten(),
        stax.Dense(OUTPUTS, W_std=1.5, b_std=0.5, parameterization="standard"),
    )


def main() -> None:
    """Write the file."""
    jax.config.update("jax_enable_x64", True)
    init, apply, _ = network()
    for_weights, *for_images = jax.random.split(jax.random.PRNGKey(0), 3)
    x1, x2 = (
        jax.random.normal(key, (num, SIDE, SIDE, CHANNELS))
        for key, num in zip(for_images, (NUM, OTHERS), strict=True)
    )
    _, params = init(for_weights, x1.shape)
    arrays = {"x1": x1, "x2": x2, "outputs": apply(params, x1)}
    layers = zip(("conv1", "conv2", "dense"), filter(None, params), strict=True)
    for layer, (weight, bias) in layers:
        arrays |= {f"{layer}.weight": weight, f"{layer}.bias": bias.reshape(-1)}
    full = nt.empirical_ntk_fn(apply, trace_axes=())
    mean = nt.empirical_ntk_fn(apply)
    arrays |= {"full": full(x1, x2, params), "full_with_itself": full(x1, None, params)}
    arrays |= {"mean": mean(x1, x2, params), "mean_with_itself": mean(x1, None, params)}
    TARGET.parent.mkdir(exist_ok=True)
    found = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(TARGET, allow_pickle=False, **found)


if __name__ == "__main__":
    main()
