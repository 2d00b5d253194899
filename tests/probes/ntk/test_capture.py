"""Tests for probes/ntk/capture.py: what passes through the network leaves nothing behind."""

import gc
import weakref

import pytest
from models import network
from torch import Tensor

from probes.ntk import NTKOperator, empirical_ntk, sketched_features
from probes.ntk.tape import Tape

USES = {
    "full": lambda *problem: empirical_ntk(*problem),
    "trace": lambda *problem: empirical_ntk(*problem, outputs="trace"),
    "operator": lambda *problem: NTKOperator(*problem),
    "sketch": lambda *problem: sketched_features(*problem, num_features=4),
}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("use", USES)
def test_a_pass_frees_its_tensors_without_the_garbage_collector(
    name: str, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[weakref.ref[Tensor]] = []
    keep = Tape.keep

    def watched(tape: Tape, x: Tensor) -> Tensor:
        found = keep(tape, x)
        kept.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Tape, "keep", watched)
    model, x, _, _ = network(name, num_images=3)
    gc.collect()
    gc.disable()
    try:
        USES[use](model, dict(model.named_parameters()), x)
        assert kept
        assert not [tensor for tensor in kept if tensor() is not None]
    finally:
        gc.enable()
