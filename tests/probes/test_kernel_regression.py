"""Tests for probes/kernel_regression.py: least squares, the loop of leave-one-out fits."""

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge as Peer
from torch import Tensor
from torch.func import functional_call, jacrev
from torch.testing import assert_close

from core.errors import InputError
from probes.kernel_regression import RIDGES, feature_ridge, kernel_ridge
from probes.ntk import empirical_ntk
from tests.models import network

N, M, C, P = 12, 5, 3, 200


def jacobians() -> tuple[Tensor, Tensor, Tensor]:
    """Of some outputs at examples and at others, with targets of the first."""
    return torch.randn(N, C, P), torch.randn(M, C, P), torch.randn(N, C)


def full(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("ncp,mdp->ncmd", a, b)


def test_it_is_ridge_regression_on_the_jacobian() -> None:
    j, other, targets = jacobians()
    kernel = full(j, j)
    fit = kernel_ridge(kernel, targets, [1e-2])
    penalty = 1e-2 * torch.trace(kernel.reshape(N * C, -1)) / (N * C)
    flat = j.reshape(N * C, P)
    inner = flat.T @ flat + penalty * torch.eye(P)
    delta = torch.linalg.solve(inner, flat.T @ targets.flatten())
    assert_close(fit.predict(full(other, j)), other @ delta)


@pytest.mark.parametrize("between_outputs", [False, True])
def test_leave_one_out_is_the_loop(between_outputs: bool) -> None:
    j, _, targets = jacobians()
    kernel = full(j, j) if between_outputs else torch.einsum("ncp,mcp->nm", j, j)
    ridges = [1e-3, 1e-1, 10.0]
    fit = kernel_ridge(kernel, targets, ridges)
    scale = float(torch.trace(kernel.reshape(int(kernel.numel() ** 0.5), -1))) / (
        N * C if between_outputs else N
    )
    loop = torch.zeros(len(ridges), N, C)
    for i in range(N):
        kept = torch.arange(N) != i
        part, cross = kernel[kept].movedim(kernel.ndim // 2, 0)[kept], kernel[i : i + 1]
        part = part.movedim(0, kernel.ndim // 2)
        cross = cross.movedim(kernel.ndim // 2, 0)[kept].movedim(0, kernel.ndim // 2)
        share = float(torch.trace(part.reshape(int(part.numel() ** 0.5), -1))) / (
            (N - 1) * C if between_outputs else N - 1
        )
        for k, ridge in enumerate(ridges):  # the same penalty, in units of the smaller kernel
            left = kernel_ridge(part, targets[kept], [ridge * scale / share])
            loop[k, i] = targets[i] - left.predict(cross)[0]
    expected = loop.square().mean((1, 2))
    assert_close(torch.tensor([fit.errors[r] for r in ridges]), expected)
    assert_close(fit.residuals, loop[int(expected.argmin())])
    assert fit.ridge == ridges[int(expected.argmin())]


def test_a_kernel_between_examples_is_scikit_learns() -> None:
    j, other, targets = jacobians()
    kernel = torch.einsum("ncp,mcp->nm", j, j)
    fit = kernel_ridge(kernel, targets, [0.1])
    peer = Peer(alpha=0.1 * float(kernel.trace()) / N, kernel="precomputed")
    peer.fit(kernel.numpy(), targets.numpy())
    cross = torch.einsum("mcp,ncp->mn", other, j)
    assert_close(fit.predict(cross), torch.from_numpy(peer.predict(cross.numpy())))


def test_on_an_exact_kernel_it_is_least_squares_on_the_dense_jacobian() -> None:
    net = network("test_resnet", num_images=4)
    params = {n: p.detach() for n, p in net.model.named_parameters()}
    blocks = jacrev(lambda w: functional_call(net.model, w, (net.x,)), chunk_size=1)(params)
    j = torch.cat([b.flatten(2) for b in blocks.values()], 2)
    targets = torch.randn(4, 3)
    kernel = empirical_ntk(net.model, params, net.x)
    assert isinstance(kernel, Tensor)
    fit = kernel_ridge(kernel, targets, [1e-12])
    delta = torch.linalg.lstsq(j.reshape(12, -1), targets.flatten()[:, None]).solution
    assert_close(fit.predict(kernel), (j @ delta)[..., 0], atol=1e-7, rtol=0)  # ridge of 1e-12
    assert_close(fit.predict(kernel), targets, atol=1e-7, rtol=0)


@pytest.mark.parametrize("k", [N * C - 10, N * C, N * C + 10])
def test_ridge_on_features_is_ridge_on_their_kernel(k: int) -> None:
    features, others, targets = torch.randn(N, C, k), torch.randn(M, C, k), torch.randn(N, C)
    fit = feature_ridge(features, targets, RIDGES)
    kernel = kernel_ridge(full(features, features), targets, RIDGES)
    assert fit.ridge == kernel.ridge
    assert_close(
        torch.tensor(list(fit.errors.values())), torch.tensor(list(kernel.errors.values()))
    )
    assert_close(fit.residuals, kernel.residuals)
    assert_close(fit.predict(others), kernel.predict(full(others, features)))


@pytest.mark.parametrize("k", [10, 50])
def test_leaving_out_on_features_is_the_loop(k: int) -> None:
    features, targets, ridge = torch.randn(N, C, k), torch.randn(N, C), 0.1
    fit = feature_ridge(features, targets, [ridge])
    penalty = ridge * features.square().sum() / (N * C)
    for i in range(N):
        kept = torch.arange(N) != i
        rows, r = features[kept].flatten(0, 1), targets[kept].flatten()
        weights = torch.linalg.solve(rows.T @ rows + penalty * torch.eye(k), rows.T @ r)
        assert_close(fit.residuals[i], targets[i] - features[i] @ weights)


def test_the_chosen_ridge_grows_with_noise() -> None:
    j = torch.randn(40, 1, 20)
    signal, noise = j @ torch.randn(20), torch.randn(40, 1)
    kernel = torch.einsum("ncp,mcp->nm", j, j)
    chosen = [kernel_ridge(kernel, signal + s * noise).ridge for s in (1e-4, 1.0, 30.0)]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


def test_wrong_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"kernel has shape \(3, 3\).*\(4, 4\) or"):
        kernel_ridge(torch.eye(3), torch.ones(4, 2))
    with pytest.raises(InputError, match="needs at least two"):
        kernel_ridge(torch.eye(1), torch.ones(1, 2))
    with pytest.raises(InputError, match="positive numbers were expected"):
        kernel_ridge(torch.eye(3), torch.ones(3, 2), [0.0])
    with pytest.raises(InputError, match="needs at least two"):
        feature_ridge(torch.ones(1, 2, 3), torch.ones(1, 2))
    with pytest.raises(InputError, match="positive numbers were expected"):
        feature_ridge(torch.ones(3, 2, 3), torch.ones(3, 2), [0.0])
